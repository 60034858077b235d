"""The command line: one file a command, with what it shows."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Give `app` and `main` of `concord.cli.commands` at first need."""
    if name in ("app", "main"):
        from concord.cli import commands

        return getattr(commands, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
