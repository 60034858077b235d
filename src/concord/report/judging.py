"""Which samples are good, which are bad, and which informing did not help, from the percentiles of `details.json`.

A detail at or above the median of the real images counts as present, one in the lowest quarter as likely missing, one
in between as weak. Where a row says `found`, a detector's word, that decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from concord.report.record import Pair, Shot

PRESENT, WEAK, MISSING = "p", "w", "m"
PRESENT_FROM, MISSING_BELOW = 0.5, 0.25
LISTED = 8
"""Samples in each list of the worst and the best."""


class Standing(NamedTuple):
    """How an image stands: details likely missing, and the mean percentile of all; fewer, then higher, is better."""

    missing: int
    mean: float

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is better."""
        return self.missing, -self.mean


def mark(detail: dict[str, Any], missing_below: float = MISSING_BELOW) -> str:
    """`PRESENT`, `WEAK` or `MISSING`, for one row of `details.json`."""
    found = detail.get("found")
    if isinstance(found, bool):
        return PRESENT if found else MISSING
    percentile = float(detail["percentile"])
    return PRESENT if percentile >= PRESENT_FROM else WEAK if percentile >= missing_below else MISSING


class Judge:
    """Ranks the samples of a run; `missing_below` is that of `details.json`."""

    def __init__(self, missing_below: float) -> None:
        self.missing_below = missing_below

    def standing(self, shot: Shot) -> Standing | None:
        """Of one image; None where nothing judged it."""
        if not shot.details:
            return None
        marks = [mark(detail, self.missing_below) for detail in shot.details]
        percentiles = [float(detail["percentile"]) for detail in shot.details]
        return Standing(marks.count(MISSING), sum(percentiles) / len(percentiles))

    def both(self, pair: Pair) -> tuple[Standing, Standing] | None:
        """Standings before and after informing; None where either is not judged."""
        after = self.standing(pair.after)
        before = self.standing(pair.before) if pair.before else None
        return (before, after) if before and after else None

    def helped(self, pair: Pair) -> bool | None:
        """Whether fewer details are missing than without informing or, with as many, the mean percentile rose."""
        both = self.both(pair)
        return both and both[1].rank < both[0].rank

    def class_helped(self, pairs: Sequence[Pair]) -> bool | None:
        """The same for a class as a whole; None where nothing is judged."""
        both = [standings for pair in pairs if (standings := self.both(pair))]
        if not both:
            return None
        before, after = (
            Standing(sum(s[i].missing for s in both), sum(s[i].mean for s in both) / len(both)) for i in (0, 1)
        )
        return after.rank < before.rank

    def worst(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples with the most details missing, then the lowest percentiles, the worst first."""
        judged = [(standing.rank, pair) for pair in pairs if (standing := self.standing(pair.after))]
        return _first(judged, lambda rank: (-rank[0], -rank[1]))

    def improved(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples that informing helped most, the most improved first."""
        judged = [(both, pair) for pair in pairs if (both := self.both(pair)) and self.helped(pair)]
        return _first(judged, lambda both: (both[1].missing - both[0].missing, both[0].mean - both[1].mean))

    def failed(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples that informing did not help, those with the most missing and the largest loss first."""
        judged = [(both, pair) for pair in pairs if (both := self.both(pair)) and not self.helped(pair)]
        return _first(judged, lambda both: (-both[1].missing, both[1].mean - both[0].mean))


def _first(judged: Sequence[tuple[Any, Pair]], key: Callable[[Any], Any]) -> list[Pair]:
    order = sorted(judged, key=lambda one: (key(one[0]), one[1].label, one[1].row["index"]))
    return [pair for _, pair in order[:LISTED]]
