"""What `evaluation.json` says beyond the mean accuracy: each class's, what is taken for what, and the facts of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from concord.errors import ConcordError
from concord.evaluation.metrics import shown
from concord.evaluation.record import way
from concord.evaluation.table import metric_names
from concord.metrics.measures import Value, pick
from concord.registry import Measure
from concord.report.charts import png_uri
from concord.report.similarity import CHART, TABLE, by_likeness, heatmap

BARS, ENDS, MISTAKES = 60, 20, 8
"""Classes up to which all have a bar; else so many of the worst and of the best. Mistakes that are named."""
FILE = "evaluation.json"


@dataclass(frozen=True)
class Bar:
    """One class: its recall, and the class that its images are most often taken for, with the share of them."""

    name: str
    recall: Value
    taken_for: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Cell:
    """A student under a protocol at an IPC. `bars`: the worst first; `cut`: bars that are left out in the middle.

    `names`, `shares`: rows of the confusion by true class, alike classes beside each other; `chart` where it is a
    picture. `mistakes`: (true class, taken for, share of the true class), the most frequent first.
    """

    title: str
    place: int
    bars: list[Bar] = field(default_factory=list)
    cut: int = 0
    names: list[str] = field(default_factory=list)
    shares: list[list[float]] = field(default_factory=list)
    chart: str = ""
    mistakes: list[tuple[str, str, float]] = field(default_factory=list)


def detailed_cells(evaluation: Mapping[str, Any]) -> list[Cell]:
    """The cells that say more than a mean, in the file's order; a ConcordError if they do not fit the classes."""
    cells = [_cell(evaluation, cell, place) for place, cell in enumerate(evaluation.get("cells") or ())]
    return [cell for cell in cells if cell.bars or cell.shares or cell.mistakes]


def metric_columns(evaluation: Mapping[str, Any]) -> list[Measure]:
    """The metrics that any cell has beside top-1; `key` is the name in a cell's `metrics`."""
    return [replace(shown(name), key=name) for name in metric_names(evaluation.get("cells") or ())]


def protocol(cell: Mapping[str, Any]) -> str:
    return way(cell) if "protocol" in cell else ""


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys and plain values of a JSON object as a reader sees them: words, megabytes, yes and no."""
    named = ((key.removesuffix("_bytes").replace("_", " "), _fact(key, value)) for key, value in values.items())
    return [(name, text) for name, text in named if text]


def _cell(evaluation: Mapping[str, Any], cell: Mapping[str, Any], place: int) -> Cell:
    confusion, recalls = _confusion(cell, place), cell.get("per_class") or []
    count = len(recalls) or len(confusion)
    names = [str(name) for name in evaluation.get("classes") or range(count)]
    for what, length in (("recalls", len(recalls)), ("rows of confusion", len(confusion))):
        if length not in (0, len(names)):
            raise ConcordError(
                f"{FILE} is damaged: cell {place} has {length} {what} for {len(names)} classes; evaluate again"
            )
    title = ", ".join(str(text) for text in (cell.get("student"), protocol(cell)) if text)
    title += f", {cell['ipc']} a class" if "ipc" in cell else ""
    shares = confusion / confusion.sum(1, keepdims=True).clip(1)
    bars, cut = _bars(evaluation, names, recalls, shares, place)
    mistakes = _mistakes(names, shares) if len(shares) else []
    if not 0 < len(shares) <= CHART:
        return Cell(title, place, bars, cut, mistakes=mistakes)
    order = by_likeness(shares)
    named, ordered = [names[i] for i in order], shares[np.ix_(order, order)]
    if len(names) <= TABLE:
        return Cell(title, place, bars, cut, named, ordered.tolist(), mistakes=mistakes)
    note = "share of a true class (row) that is taken for a class"
    chart = png_uri(heatmap(named, ordered, "Confusion", note, diagonal=True))
    return Cell(title, place, bars, cut, chart=chart, mistakes=mistakes)


def _confusion(cell: Mapping[str, Any], place: int) -> np.ndarray:
    """Counts (K, K), rows by true class; (0, 0) where the cell has none."""
    counts = cell.get("confusion") or []
    try:
        return np.array(counts, dtype=float).reshape(len(counts), len(counts))
    except (TypeError, ValueError):
        raise ConcordError(f"{FILE} is damaged: the confusion of cell {place} is not square; evaluate again") from None


def _bars(
    evaluation: Mapping[str, Any], names: Sequence[str], recalls: Sequence[Any], shares: np.ndarray, place: int
) -> tuple[list[Bar], int]:
    bars = []
    for label in range(len(recalls)):
        recall = pick(evaluation, FILE, f"cells.{place}.per_class.{label}")
        if recall is None:
            continue  # no image of the class was tested
        others = np.delete(shares[label], label) if len(shares) else np.zeros(0)
        other = int(others.argmax()) if others.any() else None
        taken = ("", 0.0) if other is None else (names[other + (other >= label)], float(others[other]))
        bars.append(Bar(names[label], recall, *taken))
    bars.sort(key=lambda bar: bar.recall.number)
    return (bars, 0) if len(bars) <= BARS else (bars[:ENDS] + bars[-ENDS:], len(bars) - 2 * ENDS)


def _mistakes(names: Sequence[str], shares: np.ndarray) -> list[tuple[str, str, float]]:
    wrong = shares.copy()
    np.fill_diagonal(wrong, 0)
    top = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES]
    places = [(int(i) // len(names), int(i) % len(names)) for i in top]
    return [(names[row], names[column], float(wrong[row, column])) for row, column in places if wrong[row, column] > 0]


def _fact(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float) and key.endswith("bytes"):
        return f"{value / 1e6:,.1f} MB"
    if isinstance(value, int | float):
        return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
    return value if isinstance(value, str) else ""
