"""Activations of phrases on real images (Eq. 10), drawn; and the look that all charts share, without a display."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concord.storage.atomic import write_atomically

if TYPE_CHECKING:  # they take seconds to load, and a plan or a page without charts shall not wait for them
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from concord.concepts.selection import Concept

INK, SOFT, RULE = "#1c1e26", "#707682", "#e2e5eb"
KEPT, DROPPED, PINNED = "#1b7f5c", "#b3b8c2", "#c77700"
DPI = 110


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches; it belongs to no window and no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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


def png_uri(figure: Figure) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(figure)).decode()}"


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png(figure))


PANELS, ROWS = 12, 200
"""Up to so many classes get a panel each; of more than `ROWS`, the first are shown, and a note says so."""
LONGEST = 66
"""Characters of a phrase before it is cut."""
_LINE = 0.235


def activation_chart(selection: Sequence[tuple[str, Sequence[Concept]]], title: str, note: str = "") -> Figure:
    """Draw the activations of classes' phrases: which were kept, which dropped, and by how much.

    selection: class name and what `select` says of its phrases, for each class; a few have a panel each, with the
    phrases written out, many a row each, with a dot a phrase. title: stands above, `note` in small letters below it.
    Raises ValueError: there is no class.
    """
    if not selection:
        raise ValueError("a chart of activations needs at least one class")
    if len(selection) > ROWS:
        note = f"{note}; the first {ROWS} of {len(selection)} classes" if note else f"the first {ROWS} classes"
        selection = selection[:ROWS]
    values = [concept.activation for _, concepts in selection for concept in concepts] or [0.0, 1.0]
    spread = max(max(values) - min(values), 1e-3)
    limits = (min(values) - 0.06 * spread, max(values) + 0.06 * spread)
    marks = [_mark(KEPT, True, "kept"), _mark(DROPPED, False, "dropped")]
    if any(concept.pinned for _, concepts in selection for concept in concepts):
        marks.append(_mark(PINNED, True, "pinned", "D"))
    draw = _panels if len(selection) <= PANELS else _rows
    narrowest = 0.6 + 0.108 * len(title) + 0.95 * len(marks)
    figure = draw(selection, limits, narrowest)
    width, height = figure.get_size_inches()
    figure.text(0.25 / width, 1 - 0.3 / height, literal(title), fontsize=14, color=INK, va="center")
    figure.text(0.25 / width, 1 - 0.58 / height, literal(note), fontsize=9.5, color=SOFT, va="center")
    figure.legend(
        handles=marks, loc="upper right", bbox_to_anchor=(1 - 0.15 / width, 1 - 0.12 / height), ncols=3, frameon=False,
        fontsize=10, labelcolor=INK, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _mark(colour: str, filled: bool, label: str, shape: str = "o") -> Line2D:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", marker=shape, markersize=7, color=colour, markerfacecolor=colour if filled else "white",
        label=label, markeredgewidth=1.5,
    )  # fmt: skip


def _panels(
    selection: Sequence[tuple[str, Sequence[Concept]]], limits: tuple[float, float], narrowest: float
) -> Figure:
    """A panel for each class, in two columns, the phrases written beside their dots."""
    columns = 1 if len(selection) == 1 else 2
    longest = max((len(shortened(c.phrase, LONGEST)) for _, concepts in selection for c in concepts), default=10)
    words, gap, head = 0.3 + 0.073 * longest, 0.35, 0.95
    plot = max(2.6, narrowest / columns - words - gap)
    pairs = [selection[i : i + columns] for i in range(0, len(selection), columns)]
    heights = [0.62 + _LINE * max(len(concepts) for _, concepts in pair) for pair in pairs]
    width, height = columns * (words + plot + gap), head + sum(heights) + 0.35
    figure = new_figure(width, height)
    top = height - head
    for pair, tall in zip(pairs, heights, strict=True):
        for column, (name, concepts) in enumerate(pair):
            left = column * (words + plot + gap) + words
            rows = max(1, len(concepts))
            lines = _LINE * rows
            axes = figure.add_axes((left / width, (top - 0.32 - lines) / height, plot / width, lines / height))
            _plain(axes, limits, rows)
            axes.set_yticks(range(len(concepts)), [literal(shortened(c.phrase, LONGEST)) for c in concepts], fontsize=9)
            for label, concept in zip(axes.get_yticklabels(), concepts, strict=True):
                label.set_color(INK if concept.kept else SOFT)
            for y, concept in enumerate(concepts):
                axes.plot([limits[0], concept.activation], [y, y], color=RULE, linewidth=1.2, zorder=1)
                _dot(axes, concept, y, 6)
            x = column * (words + plot + gap) + 0.25
            looks: dict[str, Any] = {"fontsize": 11.5, "color": INK, "weight": "bold", "va": "center"}
            figure.text(x / width, (top - 0.14) / height, literal(shortened(name, 60)), **looks)
        top -= tall
    return figure


def _rows(selection: Sequence[tuple[str, Sequence[Concept]]], limits: tuple[float, float], narrowest: float) -> Figure:
    """A row for each class, in columns of at most 50, with a dot for each phrase."""
    columns = -(-len(selection) // 50)
    each = -(-len(selection) // columns)
    longest = max(len(shortened(name, 30)) for name, _ in selection)
    words, gap, head = 0.35 + 0.072 * longest, 0.25, 0.95
    plot = max(4.2, narrowest / columns - words - gap)
    width, height = columns * (words + plot + gap), head + _LINE * 0.9 * each + 0.5
    figure = new_figure(width, height)
    for column in range(columns):
        part = selection[column * each : (column + 1) * each]
        tall = _LINE * 0.9 * len(part)
        left = column * (words + plot + gap) + words
        axes = figure.add_axes((left / width, (height - head - tall) / height, plot / width, tall / height))
        _plain(axes, limits, len(part))
        axes.set_yticks(range(len(part)), [literal(shortened(name, 30)) for name, _ in part], fontsize=9, color=INK)
        for y, (_, concepts) in enumerate(part):
            if y % 2 == 0:
                axes.axhspan(y - 0.5, y + 0.5, color="#f6f7f9", zorder=0)
            for concept in reversed(concepts):
                _dot(axes, concept, y, 5)
    return figure


def _plain(axes: Axes, limits: tuple[float, float], rows: int) -> None:
    axes.set_xlim(*limits)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.tick_params(length=0, labelsize=8.5, labelcolor=SOFT)
    axes.xaxis.grid(True, color=RULE, linewidth=0.8)
    if limits[0] < 0 < limits[1]:
        axes.axvline(0, color=DROPPED, linewidth=1, zorder=0.5)
    axes.set_axisbelow(True)
    axes.locator_params(axis="x", nbins=5)
    axes.spines[:].set_visible(False)


def _dot(axes: Axes, concept: Concept, y: float, size: float) -> None:
    colour = PINNED if concept.pinned else KEPT if concept.kept else DROPPED
    shape, size = ("D", size - 1) if concept.pinned else ("o", size)
    axes.plot(
        [concept.activation], [y], marker=shape, markersize=size, color=colour,
        markerfacecolor=colour if concept.kept else "white", markeredgewidth=1.4, zorder=3 if concept.kept else 2,
    )  # fmt: skip
