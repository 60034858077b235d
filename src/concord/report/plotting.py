"""The look that all charts share: drawn without a display, in the colours of the contact sheet."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK, SOFT, RULE = "#1c1e26", "#707682", "#e2e5eb"
KEPT, DROPPED, PINNED = "#1b7f5c", "#b3b8c2", "#c77700"
DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches; it belongs to no window and no global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def literal(text: str) -> str:
    """A text from outside as matplotlib shall show it: a dollar sign starts no formula, an odd character is a space."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")


def shortened(text: str, longest: int) -> str:
    """A text of at most `longest` characters."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically."""
    from concord.runs.store import write_atomically

    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png(figure))
