"""Reading many images at a time: decoders let other threads run meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from concord.resources import cores

_AT_ONCE = 16
"""Items that a thread takes in a row: handing over each alone would take longer than reading a small image."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield what `work` makes of each item, in their order; its first error ends it, and what waits is not begun."""

    def some(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + _AT_ONCE]]

    with ThreadPoolExecutor(max(2, cores())) as pool:
        for results in pool.map(some, range(0, len(items), _AT_ONCE)):
            yield from results
