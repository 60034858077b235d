"""Draws of a set, evaluated alike: a deviation over students of one set is none of the method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.evaluation.record import FILE, Json, name, read_record, same_test
from concord.metrics.statistics import Difference, paired, summary
from concord.runs.draws import draws_in

WHICH = ("last", "best")


def joined(records: Sequence[Json]) -> Json:
    """The first record with the cells that all have, each with the values of every draw and seed, draw by draw.

    A cell has its `draws`, their number, beside `seeds`; each value of top-1 or a metric has `draws`, the summary of
    the draws' means.

    Raises:
        ConcordError: two were read on different test images, or no cell is in all.
    """
    if not all(same_test(records[0], other) for other in records):
        raise ConcordError("the draws were evaluated on different test images; evaluate them on the same")
    cells = [
        _joined([cell, *others])
        for cell in records[0].get("cells", [])
        if all(others := [_same(record, cell) for record in records[1:]])
    ]
    if not cells:
        raise ConcordError("no cell was evaluated of all draws; give them the same `concord evaluate` command")
    return {**records[0], "cells": cells}


def side(name: str, records: Sequence[Json], **facts: Any) -> Json:
    """One of several methods side by side: its `name`, facts of it, and the cells over its draws.

    Raises:
        ConcordError: as `joined`.
    """
    cells = joined(records)["cells"]
    keys = ("per_class", "confusion")
    return {"name": name, **facts, "cells": [{k: v for k, v in cell.items() if k not in keys} for cell in cells]}


def set_sides(record: Json, sides: Sequence[Json]) -> None:
    """Put into a record what stands side by side, in place of what is there by these names."""
    names = [one["name"] for one in sides]
    record["sides"] = [*sides, *(one for one in record.get("sides", []) if one["name"] not in names)]


def _same(record: Json, cell: Json) -> Json:
    """The cell of the same name: other draws are other images, so that their `settings` differ."""
    return next((other for other in record.get("cells", ()) if name(other) == name(cell)), {})


def _joined(cells: Sequence[Json]) -> Json:
    metrics = [cell.get("metrics") or {} for cell in cells]
    common = [key for key in metrics[0] if all(key in of for of in metrics)]
    return {
        **cells[0],
        "draws": len(cells),
        "seeds": [seed for cell in cells for seed in cell["seeds"]],
        "top1": _values([cell["top1"] for cell in cells]),
        "seconds": sum(float(cell.get("seconds") or 0) for cell in cells),
        "metrics": {key: {"seeds": [], **_values([of[key] for of in metrics])} for key in common},
        **dict.fromkeys(("per_class", "confusion")),
    }


def _values(of: Sequence[Json]) -> Json:
    found: Json = {}
    for which in WHICH:
        values = [value for one in of for value in one[which]["values"]]
        known = None not in values
        found[which] = summary(values) if known else {"mean": None, "std": None, "values": values}
        found[which]["draws"] = summary([one[which]["mean"] for one in of]) if known else None
    return found


def between(a: Sequence[Json], b: Sequence[Json]) -> list[tuple[Json, Json, str, Difference | None]]:
    """Top-1 of two methods over the same draws: (cell of a, cell of b, last or best, b less a), cells as of `joined`.

    A draw's seeds are averaged first and the interval is over draws, which differ more than students of one do.

    Raises:
        ConcordError: their draws are not as many, or the test images differ.
    """
    if len(a) != len(b):
        raise ConcordError(f"{len(a)} draws cannot be paired with {len(b)}; give as many of both, of the same seeds")
    first, second = joined(a), joined(b)
    if not same_test(first, second):
        raise ConcordError("the two were evaluated on different test images; evaluate them on the same")
    found = []
    for cell in first["cells"]:
        if other := _same(second, cell):
            for which in WHICH:
                means = [one["top1"][which]["draws"]["values"] for one in (cell, other)]
                found.append((cell, other, which, paired(*means)))
    return found


def read_draws(directory: Path) -> list[Json]:
    """The records of the draws in a directory. Raises ConcordError: one was not evaluated."""
    records: list[Any] = []
    for draw in draws_in(directory):
        if not (record := read_record(draw / FILE)).get("cells"):
            raise ConcordError(f"{draw} was not evaluated; give `concord evaluate {directory} --test DATA`")
        records.append(record)
    return records
