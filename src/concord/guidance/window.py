"""The part of a schedule that a guide acts in."""

import math

from concord.diffusion.window import window_steps as window_steps
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


def gradient_steps(window: tuple[float, float], every: int, count: int, first: int = 0) -> range:
    """The numbers of the steps, of `count`, that take a gradient: every k-th of a window's.

    first: the first step that can be informed, from which they are counted where the window begins earlier. Pure noise
    has no clean estimate to move, and image to image begins in the middle of a schedule.
    """
    steps = window_steps(window, count)
    return range(max(steps.start, first), steps.stop, every)


def check_size(value: float, key: str) -> float:
    """Return the size of a shift as it is.

    Raises:
        ConcordError: it is negative, which would move images away from what they are to show, or not finite.
    """
    if not 0 <= value < math.inf:
        raise ConcordError(f"`{key}` is {value}; expected a finite number from 0")
    return value
