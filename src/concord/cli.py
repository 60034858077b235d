"""The command line. It imports lazily: `concord --help` answers without torch, and in a blink."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from concord.errors import ConcordError

app = typer.Typer(
    name="concord",
    help="Turn a large labelled image set into a tiny one that trains nearly as good a classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; the console script."""
    app()


@contextlib.contextmanager
def _told(out: Path | None = None) -> Iterator[None]:
    """End with one clear line and exit code 2 where the user can put it right; a bug keeps its traceback.

    With CONCORD_DEBUG=1 every error keeps it.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        kept = f"what is finished lies in {out}, and " if out is not None else ""
        print(f"\ninterrupted: {kept}the same command goes on from there", file=sys.stderr)
        raise typer.Exit(130) from None
    except (ConcordError, OSError) as error:
        if os.environ.get("CONCORD_DEBUG"):
            raise
        if isinstance(error, OSError) and not error.strerror:
            raise  # an OSError of no system call: nothing that a user could act on
        text = str(error) if isinstance(error, ConcordError) else _refusal(error)
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        raise typer.Exit(2) from None


def _refusal(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


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
) -> None:
    """Make a small set.

    Killed or interrupted, the same command goes on where it stopped; with a larger ipc it grows the set.

      concord distill reef
      concord distill photos data=my-photos ipc=10 --out my-set
    """
    with _told():
        from concord.recipe import load

        settings = load(recipe, [*(overrides or []), *([f"workers={workers}"] if workers else [])])
    where = out or Path("out") / settings.name
    with _told(where):
        if dry_run:
            from concord.runs.preview import preview
            from concord.terminal import show_preview

            show_preview(preview(settings, where))
            return
        from concord.runs.execute import distill as run
        from concord.terminal import Bar, Quiet, show_results

        with Quiet() if quiet else Bar(settings, where) as progress:
            results = run(settings, where, progress)
        if not quiet:
            show_results(results, where)


@app.command()
def doctor() -> None:
    """Say what is installed, present and missing, and which device would be used."""
    with _told():
        from concord.doctor import examine
        from concord.terminal import show_doctor

        show_doctor(examine())


if __name__ == "__main__":
    main()
