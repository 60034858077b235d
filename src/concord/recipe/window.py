"""A part of a schedule, as fractions of it or as step numbers."""

import math


def window_steps(window: tuple[float, float], count: int) -> range:
    """The numbers of a window's steps, of `count` in all. window: [start, end) as fractions; as numbers if end > 1."""
    start, end = window
    if end <= 1:
        # Rounding errors such as 0.3 * 10 must not move the edge by a step.
        start, end = math.ceil(start * count - 1e-9), math.ceil(end * count - 1e-9)
    return range(int(start), int(end))


def gradient_steps(window: tuple[float, float], every: int, count: int, first: int = 0) -> range:
    """The numbers of the steps, of `count`, that take a gradient: every k-th of a window's.

    first: the first step that can be informed, from which they are counted where the window begins earlier. Pure noise
    has no clean estimate to move, and image to image begins in the middle of a schedule.
    """
    steps = window_steps(window, count)
    return range(max(steps.start, first), steps.stop, every)
