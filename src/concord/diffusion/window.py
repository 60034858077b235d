"""A part of a schedule, as fractions of it or as step numbers."""

import math


def window_steps(window: tuple[float, float], count: int) -> range:
    """The numbers of a window's steps, of `count` in all. window: [start, end) as fractions; as numbers if end > 1."""
    start, end = window
    if end <= 1:
        # Rounding errors such as 0.3 * 10 must not move the edge by a step.
        start, end = math.ceil(start * count - 1e-9), math.ceil(end * count - 1e-9)
    return range(int(start), int(end))
