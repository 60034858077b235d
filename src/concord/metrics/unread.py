"""Images that are read when they are asked for: a set of ImageNet's size does not fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from PIL import Image

from concord.storage.threads import in_threads

KEPT = 100_000_000
"""Bytes of pixels of a set that stay in memory once they were read: a small set is read once, however many ask."""
AHEAD, AT_ONCE = 64, 4
T = TypeVar("T")


class Unread(Sequence[Image.Image], Generic[T]):
    """As many images as there are `sources`, each by `read` of its own; read ahead by threads when all are asked for.

    An error of `read` is that of whoever asks for the image.
    """

    def __init__(self, read: Callable[[T], Image.Image], sources: Sequence[T]) -> None:
        self._read, self._sources = read, sources
        self._kept: dict[int, Image.Image] = {}
        self._room = KEPT

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, place: int) -> Image.Image: ...
    @overload
    def __getitem__(self, place: slice) -> list[Image.Image]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return [self._one(one) for one in range(len(self))[place]]
        return self._one(range(len(self))[place])

    def __iter__(self) -> Iterator[Image.Image]:
        return in_threads(self._one, range(len(self)), ahead=AHEAD, at_once=AT_ONCE)

    def _one(self, place: int) -> Image.Image:
        if (image := self._kept.get(place)) is None:
            image = self._read(self._sources[place])
            size = 3 * image.width * image.height
            if size <= self._room:
                self._room -= size
                self._kept[place] = image
        return image
