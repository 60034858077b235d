"""How alike classes are, or how often one is taken for another: a heat map, the closest pairs, a table of a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from concord.report.charts import INK, RULE, SOFT, literal, new_figure, png_uri, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE, CHART, PAIRS = 24, 100, 10
"""Classes up to which it is a table, and a picture; and how many of the closest pairs are named."""


@dataclass(frozen=True)
class Likeness:
    """`names` in an order where like ones are neighbours, and `order` their places in concepts.json.

    `cosine` (C, C) is in the order of `names`; `shade` puts it on [0, 1]. `closest`: (row, column) in the file's order.
    """

    names: list[str]
    order: list[int]
    cosine: list[list[float]]
    shade: list[list[float]]
    closest: list[tuple[int, int, str, str, float]]
    chart: str = ""

    @property
    def is_table(self) -> bool:
        return len(self.names) <= TABLE


def likeness(concepts: Mapping[str, Any]) -> Likeness | None:
    """From `concepts.json`; None where it has no similarities, or there is one class."""
    record = concepts.get("similarity")
    if not isinstance(record, dict) or len(record.get("classes", [])) < 2:
        return None
    names, cosine = list(record["classes"]), np.array(record["cosine"], dtype=float)
    rows, columns = np.triu_indices(len(names), 1)
    top = np.argsort(-cosine[rows, columns], kind="stable")[:PAIRS]
    places = [(int(i), int(j)) for i, j in zip(rows[top], columns[top], strict=True)]
    closest = [(i, j, names[i], names[j], float(cosine[i, j])) for i, j in places]
    if len(names) > CHART:
        return Likeness(names, [], [], [], closest)
    order = [int(i) for i in by_likeness(cosine)]
    ordered, named = cosine[np.ix_(order, order)], [names[i] for i in order]
    others = ordered[~np.eye(len(names), dtype=bool)]
    low, span = float(others.min()), max(float(others.max() - others.min()), 1e-6)
    if len(names) <= TABLE:
        shade = ((ordered - low) / span).clip(0, 1)
        return Likeness(named, order, ordered.tolist(), shade.round(3).tolist(), closest)
    return Likeness(named, order, [], [], closest, png_uri(heatmap(named, ordered)))


_WRITTEN = 14
"""Up to as many classes, each cell bears its figure."""


def by_likeness(similarity: np.ndarray) -> np.ndarray:
    """An order of the classes in which like ones are neighbours, (C,): leaves of an average-linkage tree."""
    from scipy.cluster.hierarchy import leaves_list, linkage  # imported here: few runs come to it, and each would wait
    from scipy.spatial.distance import squareform

    if len(similarity) < 3:
        return np.arange(len(similarity))
    distance = 1 - (similarity + similarity.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance.clip(0), checks=False), "average", optimal_ordering=True)
    return leaves_list(tree)


def heatmap(
    names: Sequence[str],
    similarity: np.ndarray,
    title: str = "Similarity between class names",
    note: str = "cosine of the names' text embeddings",
    diagonal: bool = False,
) -> Figure:
    """Draw a matrix over classes, in the order given (`by_likeness` finds a telling one); legible to some 100 classes.

    similarity: cosines, or other values that belong to a row and a column, (C, C), light for little. title: stands
    above, and `note` in smaller letters below it. diagonal: whether it is drawn; where each class meets itself alone,
    it would hide how the others differ. Raises ValueError: the matrix does not fit the names.
    """
    from matplotlib import colormaps

    count = len(names)
    if similarity.shape != (count, count) or not count:
        raise ValueError(f"{count} names need a matrix of {count} x {count}, got {similarity.shape}")
    labels = [literal(shortened(name, 28)) for name in names]
    cell = 0.62 if count <= _WRITTEN else max(0.16, 0.3 - 0.0016 * count)
    font = 10 if count <= _WRITTEN else max(7.0, 9.5 - 0.03 * count)
    margin = 0.35 + max(map(len, labels)) * font * 0.0082
    side, bar, gap, head = max(count * cell, 1.4), 0.18, 0.25, 0.75
    width, height = margin + side + gap + bar + 0.85, head + side + margin
    figure = new_figure(width, height)
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    others = np.ma.masked_array(similarity, mask=np.eye(count, dtype=bool) & (not diagonal))
    low, high = (float(others.min()), float(others.max())) if others.count() else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.5e-2, high + 0.5e-2
    colours = colormaps["YlGnBu"].with_extremes(bad=RULE)
    picture = axes.imshow(others, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
    axes.set_xticks(range(count), labels, rotation=90, fontsize=font, color=INK)
    axes.set_yticks(range(count), labels, fontsize=font, color=INK)
    axes.tick_params(length=0, pad=4)
    axes.spines[:].set_visible(False)
    if count <= 60:
        axes.set_xticks(np.arange(1, count) - 0.5, minor=True)
        axes.set_yticks(np.arange(1, count) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.2 if count <= _WRITTEN else 0.6)
        axes.tick_params(which="minor", length=0)
    if count <= _WRITTEN:
        for row, column in np.ndindex(count, count):
            if diagonal or row != column:
                value = similarity[row, column]
                dark = value > low + 0.55 * (high - low)
                text, colour = f"{value:.2f}".replace("-", "\N{MINUS SIGN}"), "white" if dark else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    legend = figure.add_axes(((margin + side + gap) / width, margin / height, bar / width, side / height))
    scale = figure.colorbar(picture, cax=legend)
    scale.outline.set_visible(False)
    scale.ax.tick_params(length=0, labelsize=9, labelcolor=SOFT)
    left = margin / width if width - margin > 3.6 else 0.12 / width
    figure.text(left, 1 - 0.3 / height, literal(title), fontsize=13, color=INK, va="center")
    figure.text(left, 1 - 0.55 / height, literal(note), fontsize=9, color=SOFT, va="center")
    return figure
