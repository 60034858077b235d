"""Figures of a comparison as text, alike on the terminal and on the page."""

from __future__ import annotations

import json
from typing import Any, Literal

from concord.comparison.measure import Form, Measure
from concord.console import plain

Verdict = Literal["better", "worse", "same", "unclear"]


def figure(value: float | None, form: Form) -> str:
    """A value: shares in per cent, seconds with their unit; a dash where there is none."""
    if value is None:
        return "-"
    return {
        "share": f"{100 * value:.1f} %",
        "percent": f"{value:.1f} %",
        "number": f"{value:.3f}",
        "seconds": f"{value:.3g} s",
    }[form]


def change(measure: Measure) -> tuple[str, str]:
    """The difference, as in ``+9.8`` (of shares in points), and what stands beside it.

    That is its interval, ``+7.0 to +12.6``, with p where it is known, or of seconds how many times as long B takes.
    """
    if measure.change is None:
        return "-", ""
    scale, digits = {"share": (100, 1), "percent": (1, 1), "number": (1, 3), "seconds": (1, 3)}[measure.form]

    def signed(value: float) -> str:
        return f"{scale * value + 0.0:+.{digits}f}" if round(scale * value, digits) else f"{0:.{digits}f}"

    beside = ""
    if measure.ci95 is not None:
        beside = f"{signed(measure.ci95[0])} to {signed(measure.ci95[1])}"
        if measure.p is not None:
            beside += f" (p {measure.p:.2g})"
    elif measure.form == "seconds" and measure.a and measure.b:
        beside = f"{measure.b / measure.a:.2f} times A"
    return signed(measure.change), beside


def verdict(measure: Measure) -> Verdict:
    """What the interval says of the second run; "unclear" where it holds 0, is not known, or neither side is better."""
    if measure.change == 0:
        return "same"
    if measure.ci95 is None or not measure.better or measure.ci95[0] <= 0 <= measure.ci95[1]:
        return "unclear"
    return "better" if (measure.ci95[0] > 0) == (measure.better > 0) else "worse"


def setting(value: Any, most: int = 60) -> str:
    """A recipe's value in one line, cut where it is long."""
    text = plain(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= most else text[: most - 3] + "..."
