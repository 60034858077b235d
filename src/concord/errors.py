"""What went wrong, for the person who typed the command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ConcordError(Exception):
    """A mistake that the user can put right: one clear line of what was given, what was expected and what to do.

    The command line prints it as ``error: ...`` on stderr and ends with exit code 2; a bug keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` for the known word that looks most like `word`, or nothing.

    Case is ignored in the comparison, so that ``Reef`` finds ``reef``.
    """
    by_folded: dict[str, str] = {}
    for name in known:
        by_folded.setdefault(name.casefold(), name)
    close = difflib.get_close_matches(word.casefold(), list(by_folded), n=1, cutoff=0.6)
    return f' (did you mean "{by_folded[close[0]]}"?)' if close else ""
