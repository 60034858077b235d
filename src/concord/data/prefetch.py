"""Images read ahead: several threads decode a batch while another is computed on, so that memory stays bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from concord.data import ImageSet
from concord.errors import ConcordError
from concord.system import cores

T = TypeVar("T")


def read_ahead(
    data: ImageSet,
    items: Sequence[str],
    prepare: Callable[[str, Image.Image], T],
    batch: int = 64,
    skip_unreadable: bool = False,
) -> Iterator[list[tuple[str, T]]]:
    """Yield (item, what `prepare` made of it and its image) in the order of the items, at most `batch` at once.

    skip_unreadable: leave out those that cannot be read, instead of ending with their error.

    Raises:
        ConcordError: an image cannot be read.
    """

    def one(item: str) -> tuple[str, T] | None:
        try:
            image = data.read(item)
        except ConcordError:
            if skip_unreadable:
                return None
            raise
        return item, prepare(item, image)

    def finished(batch: Sequence[Future[tuple[str, T] | None]]) -> list[tuple[str, T]]:
        return [found for future in batch if (found := future.result()) is not None]

    waiting: deque[list[Future[tuple[str, T] | None]]] = deque()
    with ThreadPoolExecutor(max(2, cores())) as pool:
        for start in range(0, len(items), batch):
            waiting.append([pool.submit(one, item) for item in items[start : start + batch]])
            if len(waiting) == 2:
                yield finished(waiting.popleft())
        if waiting:
            yield finished(waiting.popleft())
