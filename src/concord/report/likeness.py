"""How alike the class names are, for the report: the closest pairs, and all as a table while it can be read."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    from concord.report.heatmap import by_likeness

    names, cosine = list(record["classes"]), np.array(record["cosine"], dtype=float)
    rows, columns = np.triu_indices(len(names), 1)
    top = np.argsort(-cosine[rows, columns], kind="stable")[:PAIRS]
    closest = [
        (int(i), int(j), names[i], names[j], float(cosine[i, j])) for i, j in zip(rows[top], columns[top], strict=True)
    ]
    if len(names) > CHART:
        return Likeness(names, [], [], [], closest)
    order = [int(i) for i in by_likeness(cosine)]
    ordered, named = cosine[np.ix_(order, order)], [names[i] for i in order]
    others = ordered[~np.eye(len(names), dtype=bool)]
    low, span = float(others.min()), max(float(others.max() - others.min()), 1e-6)
    if len(names) <= TABLE:
        shade = ((ordered - low) / span).clip(0, 1)
        return Likeness(named, order, ordered.tolist(), shade.round(3).tolist(), closest)
    from concord.report.heatmap import heatmap
    from concord.report.plotting import png

    picture = base64.b64encode(png(heatmap(named, ordered))).decode()
    return Likeness(named, order, [], [], closest, f"data:image/png;base64,{picture}")
