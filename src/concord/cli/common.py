"""How a command ends: with one clear line where the user can put it right."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from typer import Exit, Option

from concord.errors import ConcordError
from concord.text import plain

AsJson = Annotated[bool, Option("--json", help="Print JSON, for programs.")]


@contextlib.contextmanager
def user_errors(out: Path | None = None) -> Iterator[None]:
    """End with one clear line and exit code 2 where the user can put it right; a bug keeps its traceback.

    With CONCORD_DEBUG=1 every error keeps it.
    """
    try:
        yield
    except BrokenPipeError:
        raise
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
        print(f"error: {plain(text)}", file=sys.stderr)
        raise Exit(2) from None
