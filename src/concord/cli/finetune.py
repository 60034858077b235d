"""`concord finetune`: a DiT tuned towards sets that are representative and diverse, for `method=minimax`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import counted, duration


def finetune(
    data: Annotated[str, Argument(metavar="DATA", help="The real images: a folder, Parquet, or reef.")],
    out: Annotated[Path, Option(help="The directory to make, for pipeline.checkpoints.")],
    overrides: Annotated[
        list[str] | None,
        Argument(metavar="KEY=VALUE", help="model, epochs, batch, subsets, subset, classes, seed, ..."),
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune a DiT by Minimax diffusion: 8 epochs of DiffFit, with terms for representative and diverse images.

    Killed, the same command goes on. With subsets=50, ImageNet's classes are tuned in 50 parts, one after another.

      concord finetune reef model=reef:pipeline ema=0.99 --out models/reef-minimax

      concord finetune imagenet/train classes=[imagenet-1k] subsets=50 --out models/minimax/imagenet-1k
    """
    with user_errors(out.parent):
        from concord.cli.progress import Tuning
        from concord.workflows.finetune import finetune as tune
        from concord.workflows.finetune import read_finetune_settings

        settings = read_finetune_settings(overrides or [])
        with Tuning(Console(stderr=True), quiet) as progress:
            tuned = tune(data, settings, out, progress)
    if as_json:
        rows = [
            {"directory": str(one.path), "classes": len(one.classes), "images": one.images, "steps": one.steps}
            | {"loss": round(one.loss, 6), "seconds": round(one.seconds, 1)}
            for one in tuned
        ]
        print_json({"checkpoints": rows})
    elif not quiet:
        for one in tuned:
            print(
                f"{one.path}: {counted(len(one.classes), 'class')}, {counted(one.images, 'image')},"
                f" {counted(one.steps, 'step')} in {duration(one.seconds)}"
            )
        said = f"{{{out}: all}}" if settings.subsets == 1 else f"as in {out / 'checkpoints.json'}"
        print(f"use it: method=minimax pipeline.model={settings.model} pipeline.checkpoints={said}")
