"""Accuracies as lines over images a class or a setting: places in a drawing, for SVG in a page's own colours."""

from collections.abc import Sequence
from dataclasses import dataclass

from concord.reproduce.items import Item
from concord.reproduce.outcomes import Outcome

WIDTH, HEIGHT = 680, 320
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40
"""Pixels that the axes leave free."""


@dataclass(frozen=True)
class Point:
    """A mean over draws; low and high: one standard deviation from it. In the drawing."""

    x: float
    y: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Line:
    name: str
    points: Sequence[Point]
    flat: bool = False
    """Whether it is of the whole set, which has no place on the axis: drawn from side to side."""


@dataclass(frozen=True)
class Curves:
    """Lines with the ticks of both axes: (place, text)."""

    lines: Sequence[Line]
    across: Sequence[tuple[float, str]]
    up: Sequence[tuple[float, str]]


def curves(item: Item, outcomes: Sequence[Outcome]) -> Curves | None:
    """Lay out an item's accuracies; None where there is none yet."""
    series: dict[str, list[tuple[float | None, Outcome]]] = {}
    rows = {row.name: row for row in item.rows}
    for one in outcomes:
        row = rows.get(one.plan.row)
        if one.mean is None or row is None:
            continue
        if item.curve == "ipc":
            series.setdefault(row.name, []).append((one.plan.ipc, one))
        else:
            name = ", ".join(part for part in (row.series, f"{one.plan.ipc} images a class") if part)
            series.setdefault(name, []).append((row.x, one))
    known = sorted({x for of in series.values() for x, _ in of if x is not None})
    if not known:
        return None
    # Evenly apart, whatever their distance: 1, 10 and 200 images a class would else lie on each other.
    step = (WIDTH - LEFT - RIGHT) / max(1, len(known))
    across = {x: LEFT + step * (n + 0.5) for n, x in enumerate(known)}
    means = [one.mean or 0.0 for of in series.values() for _, one in of]
    spread = [one.std or 0.0 for of in series.values() for _, one in of]
    low = min(mean - std for mean, std in zip(means, spread, strict=True))
    high = max(mean + std for mean, std in zip(means, spread, strict=True))
    ticks = _ticks(low, high)
    least, most = ticks[0], ticks[-1]

    def up(value: float) -> float:
        share = (value - least) / ((most - least) or 1.0)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)

    def point(x: float, one: Outcome) -> Point:
        mean, std = one.mean or 0.0, one.std or 0.0
        return Point(round(x, 1), up(mean), up(mean - std), up(mean + std), f"{mean:.1f}")

    lines = []
    for name, of in series.items():
        flat = all(x is None for x, _ in of)
        points = [point(LEFT if x is None else across[x], one) for x, one in sorted(of, key=lambda p: p[0] or 0.0)]
        lines.append(Line(name, points, flat))
    return Curves(
        lines, [(round(place, 1), f"{x:g}") for x, place in across.items()], [(up(t), f"{t:g}") for t in ticks]
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers below, between and above."""
    span = max(high - low, 1.0)
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if span / step <= 6 or step == 50)
    first, last = int(low // step), -int(-high // step)
    return [n * step for n in range(first, max(last, first + 1) + 1)]
