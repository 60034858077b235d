"""The figures that a report leads with, each bound to the place in the JSON file that it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["better", "worse", "unclear"]


Unit = Literal["share", "points", "number", "change", "count", "seconds", "similarity", "percent", "gain"]


@dataclass(frozen=True)
class Value:
    """A number, and where it stands: file and dotted key."""

    number: float
    source: str


@dataclass(frozen=True)
class Comparison:
    """One measure of the uninformed, informed and real sets, and what informing changed, with its 95 % interval."""

    name: str
    explained: str
    form: Unit
    change: Unit
    more_is_better: bool | None
    before: Value | None
    after: Value | None
    real: Value | None
    gain: Value | None
    low: Value | None
    high: Value | None

    @property
    def verdict(self) -> Verdict:
        """What the interval says; "unclear" where it holds 0, or where neither direction is better."""
        if self.low is None or self.high is None or self.more_is_better is None:
            return "unclear"
        if self.low.number <= 0 <= self.high.number:
            return "unclear"
        return "better" if (self.low.number > 0) == self.more_is_better else "worse"


def pick(values: Mapping[str, Any], file: str, key: str) -> Value | None:
    """The number at a dotted key (a list's place is a number), or None where there is none."""
    level: Any = values
    for name in key.split("."):
        if isinstance(level, Mapping):
            level = level.get(name)
        elif isinstance(level, list) and name.isdigit() and int(name) < len(level):
            level = level[int(name)]
        else:
            return None
    return Value(level, f"{file}:{key}") if isinstance(level, int | float) and not isinstance(level, bool) else None


def shown(number: float, form: Unit) -> str:
    """A number as a reader wants it: shares in per cent, changes with their sign, a true minus.

    Accuracies are in per cent as they stand ("percent"), and so are their differences ("gain").
    """
    text = {
        "share": lambda: f"{100 * number:.1f} %",
        "points": lambda: f"{100 * number:+.1f}",
        "number": lambda: f"{number:.3f}",
        "change": lambda: f"{number:+.3f}",
        "count": lambda: f"{number:,.0f}",
        "seconds": lambda: _duration(number),
        "similarity": lambda: f"{number:.2f}",
        "percent": lambda: f"{number:.1f}",
        "gain": lambda: f"{number:+.1f}",
    }[form]()
    return text.replace("-", "\N{MINUS SIGN}").replace(" %", "\N{NO-BREAK SPACE}%")


def comparisons(results: Mapping[str, Any]) -> list[Comparison]:
    """What `results.json` compares, the most telling first."""
    rows: list[tuple[str, str, str, str, Unit, Unit, bool]] = [
        # name, what it means, key of the sets, key of the gain, forms, whether more is better
        (
            "Completeness",
            "share of the details of its class that an image shows",
            "completeness.{}.mean",
            "completeness.gain",
            "share",
            "points",
            True,
        ),
        (
            "Complete images",
            "share of images that show every detail of their class",
            "completeness.{}.complete",
            "completeness.gain_complete",
            "share",
            "points",
            True,
        ),
        (
            "Foreign details",
            "details an image that its class does not have",
            "completeness.{}.foreign",
            "completeness.gain_foreign",
            "number",
            "change",
            False,
        ),
        (
            "Likely missing",
            "share of details that look fainter than on three quarters of the real images",
            "details.{}.likely_missing",
            "details.gain",
            "share",
            "points",
            False,
        ),
        (
            "Teacher accuracy",
            "share of images that a classifier of real images recognises",
            "teacher_accuracy.{}",
            "teacher_accuracy.gain",
            "share",
            "points",
            True,
        ),
        (
            "Nuisance diversity",
            "spread of what carries no meaning, within classes; real images have about 1",
            "nuisance_diversity.{}",
            "nuisance_diversity.gain",
            "number",
            "change",
            True,
        ),
    ]
    found = []
    for name, explained, key, gain, form, change, more in rows:
        before, after, real = (
            pick(results, "results.json", key.format(which)) for which in ("uninformed", "informed", "real")
        )
        mean, low, high = (pick(results, "results.json", f"{gain}.{k}") for k in ("mean", "ci95.0", "ci95.1"))
        if before or after:
            found.append(Comparison(name, explained, form, change, more, before, after, real, mean, low, high))
    return found


def reach(rows: list[Comparison]) -> float:
    """The largest distance from 0 that an interval reaches: half the scale of the plot of changes."""
    ends = [abs(v.number) for row in rows for v in (row.low, row.high) if v is not None]
    return max(ends, default=0.0) or 1.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.3f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
