"""The one way to a terminal: nothing that came from outside can steer it, and JSON that a program reads is JSON.

Class names, phrases and paths may hold what a terminal obeys (escape sequences, line breaks, marks that turn the
direction of writing): `Console` writes only what is printable, and `plain` also keeps a text to one line.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from concord.storage.atomic import as_json
from concord.text import _printable, plain


class Console(rich.console.Console):
    """A rich console without highlighting that writes printable text and its own styles, and nothing else."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else _printable(text), style, control)

    def say(self, *parts: str | Text | tuple[str, str], style: str = "") -> None:
        """Print one line of texts and (text, style) pairs, which the terminal alone wraps."""
        self.print(Text.assemble(*parts, style=style), soft_wrap=True)

    def rows(self, lines: Sequence[tuple[str, str]]) -> None:
        """Print lines of a name and a text beside it, which may come from outside; texts begin below each other."""
        width = max((len(name) for name, _ in lines), default=0)
        for name, text in lines:
            self.say((f"  {name:<{width}}  ", "dim"), plain(text))


def print_json(values: Mapping[str, Any]) -> None:
    """Print an object with ``"schema": 1`` on stdout; what is not printable is escaped, as JSON allows."""
    print("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in as_json(values)))
