"""Images that are read when they are asked for: a set of ImageNet's size does not fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from PIL import Image

from concord.storage.threads import in_threads

KEPT = 100_000_000
"""Bytes of pixels of a set that stay in memory once they were read: a small set is read once, however many ask."""
AHEAD, AT_ONCE = 64, 4
T = TypeVar("T")


class Remembered(Generic[T]):
    """`read`, but that an image stays in memory once it was read, as long as there is room: `KEPT` bytes of pixels."""

    def __init__(self, read: Callable[[T], Image.Image]) -> None:
        self._read, self._kept, self._room = read, dict[T, Image.Image](), KEPT

    def __call__(self, source: T) -> Image.Image:
        if (image := self._kept.get(source)) is None:
            image = self._read(source)
            size = 3 * image.width * image.height
            if size <= self._room:
                self._room -= size
                self._kept[source] = image
        return image


class Unread(Sequence[Image.Image], Generic[T]):
    """As many images as there are `sources`, each by `read` of its own; read ahead by threads when all are asked for.

    An error of `read` is that of whoever asks for the image.
    """

    def __init__(self, read: Callable[[T], Image.Image], sources: Sequence[T]) -> None:
        self._sources = sources
        self._one = Remembered[int](lambda place: read(sources[place]))

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
