"""The one way to a terminal: nothing that came from outside can steer it, and JSON that a program reads is JSON.

Class names, phrases and paths may hold what a terminal obeys (escape sequences, line breaks, marks that turn the
direction of writing). They are shown as text: `Console` drops what is not printable from everything it writes, and
`plain` also keeps a text to one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment


class Console(rich.console.Console):
    """A rich console without highlighting that writes printable text and its own styles, and nothing else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _printable(text), style, control)


def plain(text: str) -> str:
    """A text from outside in one line, without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def file_name(text: str) -> str:
    """A text as the name of a file or directory, in characters that every file system and shell takes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object with ``"schema": 1`` on stdout; what is not printable is escaped, as JSON allows."""
    text = json.dumps({"schema": 1, **values}, ensure_ascii=False, indent=2, allow_nan=False)
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def counted(n: int, noun: str) -> str:
    """A number with its noun: ``1 class``, ``2 classes``, ``1 000 images``."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}".replace(",", " ")


def duration(seconds: float) -> str:
    """Say a time as people do: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Say bytes in the unit that fits: ``640 kB``, ``19 MB``, ``2.4 GB``."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


_UNPRINTABLE = re.compile(r"[^\n -~\xa1-\xac\xae-\u02ff]")


def _printable(text: str) -> str:
    """The text with a space for each character that is not printable, but for line breaks (rich lays out with them)."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0].isprintable() else " ", text)
