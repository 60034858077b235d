"""Sets of image files, in whatever they lie: how one is read, and a look at a few before anything is made of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from PIL import Image

from concord.data.classes import ClassTable
from concord.errors import ConcordError
from concord.storage.files import require_file
from concord.storage.images import ReadOptions, Source, open_image, read_image, read_size
from concord.storage.threads import in_threads

LOOKED_AT, SAMPLED = 16, 64
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

    @cached_property
    def content(self) -> str:
        """A digest of the sizes of all files and the bytes of a few: other photographs have another."""
        items = [item for of_class in self._items for item in of_class]
        return self._digest_of(_spread(items, SAMPLED), repr(self._sizes()))

    @cached_property
    def content_of_all(self) -> str:
        """A digest of the bytes of all images."""
        return self._digest_of([item for of_class in self._items for item in of_class])

    def _sizes(self) -> Sequence[int]:
        """Bytes of each file, where each image is one and the fingerprint does not have them."""
        return ()

    def _digest_of(self, items: Sequence[str], more: str = "") -> str:
        digest = hashlib.sha256(more.encode())
        for part in in_threads(self._digest, items, ahead=64, at_once=1):
            digest.update(part)
        return digest.hexdigest()[:16]

    def _digest(self, item: str) -> bytes:
        """A digest of a file's bytes; of one that cannot be read, of nothing."""
        try:
            source = self.source(item)
            if isinstance(source, Path):
                require_file(source)
            data = source.read_bytes() if isinstance(source, Path) else source.read()
            return hashlib.blake2b(data).digest()
        except (ConcordError, OSError):
            return hashlib.blake2b().digest()

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
