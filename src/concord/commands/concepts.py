"""`concord concepts`: banks of phrases, from a class name to those that the real images bear out."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="concepts",
    help="Concepts: short visual phrases that tell each class from its look-alikes.",
    no_args_is_help=True,
)


@app.callback()
def _root() -> None:
    pass
