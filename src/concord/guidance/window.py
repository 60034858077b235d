"""What a guide of one's own is told in Python, checked: a part of a schedule, and the size of a shift."""

import math

from concord.errors import ConcordError


def check_window(window: tuple[float, float], key: str = "informing.window") -> tuple[float, float]:
    """Return fractions [start, end) of the schedule, or step numbers, as they are; of others the error names `key`."""
    start, end = window
    if not 0 <= start < end or (end > 1 and (start != int(start) or end != int(end))):
        raise ConcordError(
            f"informing window {window} is empty or not understood; set `{key}` to fractions "
            "0 <= start < end <= 1 of the schedule, or to whole step numbers"
        )
    return start, end


def check_size(value: float, key: str) -> float:
    """Return the size of a shift as it is.

    Raises:
        ConcordError: it is negative, which would move images away from what they are to show, or not finite.
    """
    if not 0 <= value < math.inf:
        raise ConcordError(f"`{key}` is {value}; expected a finite number from 0")
    return value
