from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import file_name


def distill(
    recipe: Annotated[str, Argument(metavar="RECIPE", help="A bundled recipe (reef, photos, ...) or a YAML file.")],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="Keys of the recipe to set, as in ipc=50.")
    ] = None,
    out: Annotated[Path | None, Option(help="The directory to fill or grow; out/RECIPE if not given.")] = None,
    workers: Annotated[
        int | None, Option(min=1, help="Processes; as many as the machine can hold if not given.")
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be made, and what it needs.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a small set.

    Killed or interrupted, the same command goes on where it stopped; with a larger ipc it grows the set.

      concord distill reef
      concord distill photos data=my-photos ipc=10 --out my-set
    """
    from concord.recipe import load

    settings = load(recipe, [*(overrides or []), *([f"workers={workers}"] if workers else [])])
    where = out or Path("out") / file_name(settings.name)
    with user_errors(where):
        if dry_run:
            from concord.cli.distill_views import show_preview
            from concord.workflows.preview import preview, record

            plan = preview(settings, where)
            print_json(record(plan)) if as_json else show_preview(plan)
            return
        from concord.cli.distill_views import show_results
        from concord.cli.progress import Bar
        from concord.events import Silent
        from concord.workflows.distill import distill as run

        bar = nullcontext(Silent()) if quiet else Bar(settings, where, Console(stderr=as_json))
        with bar as progress:
            results = run(settings, where, progress)
        if as_json:
            print_json(results)
        elif not quiet:
            show_results(results, where)
