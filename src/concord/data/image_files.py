"""Sets of image files, in whatever they lie: how one is read, and a look at a few before anything is made of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from concord.data.classes import ClassTable
from concord.errors import ConcordError
from concord.storage.files import require_file
from concord.storage.images import ReadOptions, Source, open_image, read_image, read_size
from concord.storage.threads import in_threads

LOOKED_AT, SAMPLED = 16, 64
_DARK = 2**14
"""Below a quarter of the brightness that 16 bits can say."""
T = TypeVar("T")


FilePart = tuple[Path, int, int | None]
"""A file, where a part of it begins, and its length; None for the whole file."""


@dataclass(eq=False, repr=False)
class ImageFiles(ABC):
    """An `ImageSet` of files below `root`. A reference names one below that."""

    root: Path
    classes: ClassTable
    _items: Sequence[Sequence[str]]
    notes: list[str]
    options: ReadOptions
    grey: tuple[int, int] | None = field(init=False, default=None)
    """The values in use, to name as grey_range, where 16-bit grey images come out nearly black."""
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
        return [item for of_class in thinned(self._items, LOOKED_AT) for item in thinned(of_class, each)]

    @cached_property
    def content(self) -> str:
        """A digest of the sizes of all files and the bytes of a few: other photographs have another."""
        return _digest(self._parts(SAMPLED), repr(self._sizes()))

    @cached_property
    def content_of_all(self) -> str:
        """A digest of the bytes of all files."""
        return _digest(self._parts(None), "")

    def _sizes(self) -> Sequence[int]:
        """Bytes of each file, where the fingerprint does not have them."""
        return ()

    @abstractmethod
    def _parts(self, most: int | None) -> Sequence[FilePart]:
        """Parts of the files, some `most` of them spread over all; None for all whole."""

    def look(self) -> None:
        """Look at a few images, and note what is odd about them; refuse the set where most of them cannot be read."""
        some, wrong, brightest = self.some(), list[str](), list[int]()
        for item in some:
            try:
                with open_image(self.source(item), replace(self.options, hint=""), f"{self.root}/{item}") as image:
                    if image.mode.startswith("I"):
                        brightest.append(int(np.asarray(image).max()))
            except ConcordError as error:
                wrong.append(str(error))
        refuse_most(wrong, len(some))
        if self.options.grey_range is None and brightest and max(brightest) < _DARK:
            self.grey = (0, 2 ** max(8, max(brightest).bit_length()) - 1)
            self.notes.append(
                f"16-bit images come out nearly black: their brightest pixel looked at is {max(brightest)} of 65535;"
                f" grey_range={[*self.grey]} scales them"
            )
        elif self.options.grey_range and not brightest:
            self.notes.append("grey_range does nothing here: no image looked at has 16 bits of grey")


def _digest(parts: Sequence[FilePart], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for part in in_threads(_of_part, parts, ahead=64, at_once=1):
        digest.update(part)
    return digest.hexdigest()[:16]


def _of_part(part: FilePart) -> bytes:
    """A digest of a part; of one that cannot be read, of nothing."""
    path, start, length = part
    try:
        require_file(path)
        with path.open("rb") as file:
            if length is None:
                return hashlib.file_digest(file, "blake2b").digest()
            file.seek(start)
            return hashlib.blake2b(file.read(length)).digest()
    except OSError:
        return hashlib.blake2b().digest()


def thinned(things: Sequence[T], most: int) -> Sequence[T]:
    return things[:: max(1, -(-len(things) // most))]


def refuse_most(wrong: Sequence[str], looked_at: int) -> None:
    """Refuse a set of which more than half of what was looked at cannot be read. wrong: what is wrong with those."""
    if 2 * len(wrong) > looked_at:
        raise ConcordError(f"data: {len(wrong)} of the {looked_at} images looked at cannot be read; {wrong[0]}")
