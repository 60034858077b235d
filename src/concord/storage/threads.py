"""Images decoded and encoded in threads: the codecs let go of Python's lock, so that no device waits for them."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from concord.system import cores

_AT_ONCE = 16
"""Items that a thread takes in a row: handing over each alone would take longer than reading a small image."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], ahead: int | None = None, at_once: int = _AT_ONCE
) -> Iterator[Result]:
    """Yield what `work` makes of each item, in their order; its first error ends it, and what waits is not begun.

    ahead: results that may wait to be taken, where they are large. at_once: items that a thread takes in a row.
    """

    def some(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + at_once]]

    starts = iter(range(0, len(items), at_once))
    with ThreadPoolExecutor(max(2, cores())) as pool:
        waiting = deque(pool.submit(some, start) for start in islice(starts, ahead and max(1, ahead // at_once)))
        try:
            while waiting:
                results = waiting.popleft().result()
                waiting.extend(pool.submit(some, start) for start in islice(starts, 1))
                yield from results
        finally:
            for future in waiting:
                future.cancel()


Data = TypeVar("Data")
AHEAD = 2
"""Batches that may wait: enough that neither side idles, and no more memory than that."""


class Writer(Generic[Item, Data]):
    """Encode and store batches behind the caller's back; use it as a context, which ends when all is stored.

    Threads `encode` items; one thread `store`s batches, in the order in which they were given. What is stored when, and
    after which kill, is the store's own affair: the writer only moves it off the maker's path. An error of either is
    raised by the next `put` or at the context's end, and nothing is stored after it. Where the caller's own block
    fails, what was put before is still stored.
    """

    def __init__(
        self, encode: Callable[[Item], Data], store: Callable[[Sequence[Data]], None], threads: int, ahead: int = AHEAD
    ) -> None:
        self._encode, self._store = encode, store
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._waiting: queue.Queue[list[Future[Data]] | None] = queue.Queue(ahead)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)

    def put(self, items: Sequence[Item]) -> None:
        """Hand over a batch; waits only where `ahead` batches are waiting already."""
        self._raise()
        self._waiting.put([self._pool.submit(self._encode, item) for item in items])

    def __enter__(self) -> "Writer[Item, Data]":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        self._pool.shutdown()
        if error is None:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (futures := self._waiting.get()) is not None:
            if self._error is None:  # after an error batches are taken and dropped, or `put` would wait for ever
                try:
                    self._store([future.result() for future in futures])
                except BaseException as error:
                    self._error = error
