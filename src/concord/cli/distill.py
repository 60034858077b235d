import os
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from concord.cli.common import AsJson, RecipeKeys, RecipeName, user_errors
from concord.cli.console import Console, print_json
from concord.errors import ConcordError
from concord.runs.draws import draw_path
from concord.text import file_name

if TYPE_CHECKING:
    from concord.recipe import Recipe


def distill(
    recipe: RecipeName,
    overrides: RecipeKeys = None,
    out: Annotated[Path | None, Option(help="The directory to fill or grow; out/RECIPE if not given.")] = None,
    workers: Annotated[
        int | None, Option(min=1, help="Processes; as many as the machine can hold if not given.")
    ] = None,
    cluster: Annotated[
        str | None,
        Option(
            metavar="ADDRESS",
            help="Make and measure images on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        Option(
            metavar="I/N",
            help="Make every N-th batch from the I-th, counted from 0; `slurm`: as an array's task. Then `merge`.",
        ),
    ] = None,
    share_gpus: Annotated[bool, Option("--share-gpus", help="Let there be more workers than GPUs.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be made, and what it needs.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a small set.

    Killed or interrupted, the same command goes on where it stopped; with a larger ipc it grows the set.

      concord distill reef
      concord distill photos data=my-photos ipc=10 --out my-set
      concord distill photos data=my-photos ipc=10 seed=0,1,2 --out three-draws
    """
    from concord.recipe import load

    texts = [*(overrides or []), *([f"workers={workers}"] if workers else [])]
    seeds = next((text.partition("=")[2] for text in texts if re.fullmatch(r"seed=\d+(,\d+)+", text)), "")
    drawn = list(dict.fromkeys(map(int, seeds.split(",")))) if seeds else [None]
    if dry_run and (cluster or shard):
        key = "--cluster" if cluster else "--shard"
        raise ConcordError(f"--dry-run is about a whole set on this machine: leave {key} out")
    if cluster and shard:
        raise ConcordError("--cluster makes all on many machines and --shard a part on one: leave one of them out")
    how = _How(recipe, cluster, shard, share_gpus, dry_run, quiet, as_json)
    found = []
    for seed in drawn:
        settings = load(recipe, [f"seed={seed}" if text == f"seed={seeds}" else text for text in texts])
        where = out or Path("out") / file_name(settings.name)
        if seed is not None and (where / "recipe.yaml").exists():
            raise ConcordError(f"{where} holds one set: draws lie in a directory of their own; give another --out")
        place = draw_path(where, seed) if seed is not None else where
        found.append(_made(settings, place, how))
    if as_json:
        print_json(found[0] if len(drawn) == 1 else {"draws": found})


@dataclass(frozen=True)
class _How:
    """What the command line says beside the recipe and the place. typed: the recipe as the user named it."""

    typed: str
    cluster: str | None
    shard: str | None
    share_gpus: bool
    dry_run: bool
    quiet: bool
    as_json: bool


def _made(settings: "Recipe", where: Path, how: _How) -> Mapping[str, Any]:
    """One set, made or planned, and shown unless it goes to programs."""
    with user_errors(where):
        if how.dry_run:
            from concord.cli.distill_views import show_preview
            from concord.workflows.preview import preview, record

            plan = preview(settings, where)
            if not how.as_json:
                show_preview(plan, how.typed)
            return record(plan)
        from concord.cli.distill_views import show_results, show_shard
        from concord.cli.progress import Bar
        from concord.events import Silent
        from concord.runs.shards import read_shard
        from concord.storage.cluster import connected_if
        from concord.workflows.distill import distill as run
        from concord.workflows.shards import make_shard

        part = read_shard(how.shard, where, os.environ) if how.shard else None
        bar = nullcontext(Silent()) if how.quiet else Bar(settings, where, Console(stderr=how.as_json))
        with connected_if(how.cluster) as cluster, bar as progress:
            if part is not None:
                results = make_shard(settings, where, part, progress, how.share_gpus)
            else:
                results = run(settings, where, progress, cluster=cluster, share_gpus=how.share_gpus)
        if not (how.as_json or how.quiet):
            (show_shard if part else show_results)(results, where)
        return results
