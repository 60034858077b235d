"""What commands share: a recipe and its keys, and how they begin and end.

Output takes whatever is printed, and an error is one clear line where the user can put it right.
"""

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Exit, Option

from concord.cli.completion import complete_key, complete_recipe
from concord.errors import ConcordError
from concord.text import plain

AsJson = Annotated[bool, Option("--json", help="Print JSON, for programs.")]
RecipeName = Annotated[
    str,
    Argument(
        metavar="RECIPE",
        help="A bundled recipe (reef, photos, ...) or a YAML file.",
        autocompletion=complete_recipe,
    ),
]
RecipeKeys = Annotated[
    list[str] | None,
    Argument(metavar="KEY=VALUE", help="Keys of the recipe to set, as in ipc=50.", autocompletion=complete_key),
]


_LIKE = {"✓": "+", "✗": "x", "·": "-", "…": "...", "●": "*", "○": "o", "◆": "#", "█": "#"}
"""What stands for our own marks in an encoding without them; for any other character a question mark does."""


class _Pipe(io.FileIO):
    """A descriptor to write to. Once nobody reads there any more it drops what it gets, and the work goes on."""

    lost = False

    def write(self, data: Any) -> int:
        try:
            return len(data) if self.lost else super().write(data) or 0
        except OSError as error:
            self.lost = True
            if not isinstance(error, BrokenPipeError):
                raise  # once: a full disk, say
            return len(data)


def open_output() -> None:
    """Have stdout and stderr take whatever is printed, whatever their encoding lacks and whoever stops reading."""
    codecs.register_error("like", _like)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # and not closed, or a notebook's
            stream.reconfigure(errors="like")
            if not stream.isatty():
                raw = io.BufferedWriter(_Pipe(stream.fileno(), "w", closefd=False))
                setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, "like", line_buffering=True))


def _like(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_LIKE.get(one, "?") for one in error.object[error.start : error.end]), error.end


@contextlib.contextmanager
def user_errors(out: Path | None = None) -> Iterator[None]:
    """End with one clear line and exit code 2 where the user can put it right; a bug keeps its traceback.

    With CONCORD_DEBUG=1 every error keeps it.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = f"what is finished lies in {plain(str(out))}, and " if out is not None else ""
        print(f"\ninterrupted: {kept}the same command goes on from there", file=sys.stderr)
        raise Exit(130) from None
    except (ConcordError, OSError) as error:
        # An OSError of no system call is nothing that a user could act on.
        if os.environ.get("CONCORD_DEBUG") or (isinstance(error, OSError) and not error.strerror):
            raise
        where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
        text = f"{where}{error.strerror}" if isinstance(error, OSError) else str(error)
        print(f"error: {plain(text)}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise Exit(2) from None
