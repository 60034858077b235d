"""The command line. It imports lazily: `concord --help` answers without torch, and in a blink."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from concord.commands import concepts
from concord.commands.compare import compare
from concord.commands.convert import convert
from concord.commands.evaluate import evaluate
from concord.commands.export import export
from concord.commands.init import init
from concord.commands.labels import labels
from concord.commands.recipes import recipes
from concord.commands.report import report
from concord.commands.teacher import teacher
from concord.commands.telling import AsJson, told
from concord.console import Console, file_name, print_json

app = typer.Typer(
    name="concord",
    help="Turn a large labelled image set into a tiny one that trains nearly as good a classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(concepts.app)


def main() -> None:
    """Run the command line; the console script."""
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from concord.resources import version

        print(f"concord {version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


@app.command()
def distill(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A bundled recipe (reef, photos, ...) or a YAML file.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys of the recipe to set, as in ipc=50.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The directory to fill or grow; out/RECIPE if not given.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; as many as the machine can hold if not given.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made, and what it needs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a small set.

    Killed or interrupted, the same command goes on where it stopped; with a larger ipc it grows the set.

      concord distill reef
      concord distill photos data=my-photos ipc=10 --out my-set
    """
    with told():
        from concord.recipe import load

        settings = load(recipe, [*(overrides or []), *([f"workers={workers}"] if workers else [])])
    where = out or Path("out") / file_name(settings.name)
    with told(where):
        if dry_run:
            from concord.runs.preview import preview, record
            from concord.terminal import show_preview

            plan = preview(settings, where)
            print_json(record(plan)) if as_json else show_preview(plan)
            return
        from concord.progress import Bar, Quiet
        from concord.runs.execute import distill as run
        from concord.terminal import show_results

        with Quiet() if quiet else Bar(settings, where, Console(stderr=as_json)) as progress:
            results = run(settings, where, progress)
        if as_json:
            print_json(results)
        elif not quiet:
            show_results(results, where)


app.command()(compare)
app.command()(convert)
app.command()(evaluate)
app.command()(export)
app.command()(init)
app.command()(labels)
app.command()(recipes)
app.command()(report)
app.command()(teacher)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, present and missing, and which device would be used."""
    with told():
        from concord.doctor import examine
        from concord.terminal import show_doctor

        findings = examine()
        if as_json:
            print_json({"findings": {heading: [vars(one) for one in group] for heading, group in findings.items()}})
        else:
            show_doctor(findings)


if __name__ == "__main__":
    main()
