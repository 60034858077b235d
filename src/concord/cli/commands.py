"""The command line. It imports lazily: `concord --help` answers without torch, and in a blink."""

from collections.abc import Callable
from typing import Annotated, Any

from typer import Exit, Option, Typer
from typer.core import TyperGroup

from concord.cli import concepts
from concord.cli.common import open_output, user_errors
from concord.cli.compare import compare
from concord.cli.convert import convert
from concord.cli.distill import distill
from concord.cli.doctor import doctor
from concord.cli.download import download
from concord.cli.evaluate import evaluate
from concord.cli.experts import experts
from concord.cli.export import export
from concord.cli.fetch import fetch
from concord.cli.finetune import finetune
from concord.cli.init import init
from concord.cli.labels import labels
from concord.cli.merge import merge
from concord.cli.methods import methods
from concord.cli.recipes import recipes
from concord.cli.refine import refine
from concord.cli.rehearse import rehearse
from concord.cli.report import report
from concord.cli.reproduce import reproduce
from concord.cli.status import status
from concord.cli.teacher import teacher
from concord.cli.verify import verify


class _Commands(TyperGroup):
    """Every command ends with one line where the user can put it right."""

    def invoke(self, ctx: Any) -> Any:
        with user_errors():
            return super().invoke(ctx)


app = Typer(
    name="concord",
    cls=_Commands,
    help="Turn a large labelled image set into a tiny one that trains nearly as good a classifier.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
GROUPS: dict[str, tuple[Callable[..., Any], ...]] = {
    "Make": (init, recipes, rehearse, download, experts, distill, refine, status, merge, finetune, convert),
    "Look": (report, compare, verify, doctor, methods),
    "Evaluate": (evaluate, teacher, labels, reproduce),
    "Share": (export, fetch),
}
"""The commands as `concord --help` shows them: what a person does first stands first."""


def main() -> None:
    open_output()
    app()


def _version(wanted: bool) -> None:
    if wanted:
        from concord.system import version

        print(f"concord {version()}")
        raise Exit


@app.callback()
def _root(
    version: Annotated[
        bool, Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


for group, commands in GROUPS.items():
    for command in commands:
        app.command(rich_help_panel=group)(command)
    if group == "Make":
        app.add_typer(concepts.app, rich_help_panel=group)
