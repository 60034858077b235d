"""`concord experts`: networks trained on all real images, their parameters kept epoch by epoch, for `method: mtt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import between, counted, duration, plain, size

if TYPE_CHECKING:
    from concord.methods.experts import ExpertsEstimate


def experts(
    data: Annotated[str, Argument(metavar="DATA", help="The real images: a folder, Parquet, or reef.")],
    out: Annotated[Path, Option(metavar="DIR", help="Where they go, a file each.")],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="experts, epochs, lr, batch, zca, size, width, ...")
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be trained, and how long it takes: some steps are timed.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train the experts whose trajectories `method=mtt` matches: 100 ConvNets for 50 epochs unless told otherwise.

    Killed, the same command goes on; with more `experts` it adds some.

      concord experts data/cifar-10/train --out experts/cifar-10 zca=true

      concord distill cifar-10-mtt data=data/cifar-10/train mtt.experts=experts/cifar-10
    """
    with user_errors(out):
        from concord.cli.progress import Epochs
        from concord.data import open_data, restrict
        from concord.methods.experts import estimate_experts, read_expert_settings, train_experts

        settings = read_expert_settings(overrides or [])
        whole = open_data(data, grey_range=settings.grey_range, max_pixels=settings.max_pixels)
        images = restrict(whole, settings.classes, {})
        with Epochs(Console(stderr=True), quiet) as progress:
            for note in images.notes:
                progress.note(note)
            if dry_run:
                found = estimate_experts(images, settings, out)
            else:
                made, seconds = train_experts(images, settings, out, progress)
        if dry_run and as_json:
            print_json(found.as_json())
        elif dry_run:
            show_estimate(found, data, out)
        elif as_json:
            facts = {key: getattr(made, key) for key in ("count", "epochs", "side", "depth", "width")}
            print_json({"directory": str(out), **facts, "seconds": round(seconds, 1)})
        elif not quiet:
            shape = f"ConvNets of depth {made.depth} and width {made.width} at {made.side} px"
            print(f"{counted(made.count, 'expert')}, {shape}, {counted(made.epochs, 'epoch')}, in {duration(seconds)}")
            print(f"use them: method=mtt mtt.experts={out}")


def show_estimate(found: "ExpertsEstimate", source: str, out: Path) -> None:
    """Print what a dry run found."""
    console, there = Console(), found.experts - found.lacking
    console.say(("concord experts ", "bold"), f"{plain(f'{source} · {out}')} ", ("(dry run)", "yellow"))
    lines = [
        ("network", f"ConvNet of depth {found.depth} and width {found.width} at {found.side} px"),
        ("images", f"{found.images} of {counted(found.classes, 'class')}"),
        ("experts", f"{found.experts} of {counted(found.epochs, 'epoch')}" + (f", {there} are there" if there else "")),
        ("steps", f"{found.steps} in batches of {found.batch}"),
        ("disk", f"about {size(found.store_bytes)}"),
        ("time", f"{between(found.seconds)} here" if found.steps else "nothing is left to do"),
    ]
    console.rows(lines)
