"""Sets of image files, in whatever they lie: how one is read, and a look at a few before anything is made of them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

from concord.data.classes import ClassTable
from concord.errors import ConcordError
from concord.storage.images import ReadOptions, Source, open_image, read_image, read_size

LOOKED_AT = 16
T = TypeVar("T")


@dataclass(eq=False, repr=False)
class ImageFiles(ABC):
    """An `ImageSet` of files below `root`. A reference names one below that."""

    root: Path
    classes: ClassTable
    _items: Sequence[Sequence[str]]
    notes: list[str]
    options: ReadOptions
    known_details = None

    @abstractmethod
    def source(self, item: str) -> Source:
        """Return the file, or its bytes."""

    def items(self, class_index: int) -> Sequence[str]:
        return self._items[class_index]

    def read(self, item: str) -> Image.Image:
        return read_image(self.source(item), self.options, f"{self.root}/{item}")

    def size(self, item: str) -> tuple[int, int]:
        return read_size(self.source(item), self.options, f"{self.root}/{item}")

    def some(self) -> list[str]:
        """References to a few images, spread over classes."""
        each = -(-LOOKED_AT // len(self._items))
        return [item for of_class in _spread(self._items, LOOKED_AT) for item in _spread(of_class, each)]

    def look(self) -> None:
        """Look at the heads of a few images; refuse the set where most of them cannot be read."""
        some, wrong = self.some(), []
        for item in some:
            try:
                with open_image(self.source(item), replace(self.options, hint=""), f"{self.root}/{item}"):
                    pass
            except ConcordError as error:
                wrong.append(str(error))
        refuse_most(wrong, len(some))


def _spread(things: Sequence[T], most: int) -> Sequence[T]:
    return things[:: max(1, -(-len(things) // most))]


def refuse_most(wrong: Sequence[str], looked_at: int) -> None:
    """Refuse a set of which more than half of what was looked at cannot be read. wrong: what is wrong with those."""
    if 2 * len(wrong) > looked_at:
        raise ConcordError(f"data: {len(wrong)} of the {looked_at} images looked at cannot be read; {wrong[0]}")
