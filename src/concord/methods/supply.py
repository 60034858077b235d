"""Real images of a class in the order in which a method takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from concord.data import ClassEntry, ImageSet
from concord.errors import ConcordError

Order = Callable[[ClassEntry, Sequence[str]], list[str]]
"""Puts the images of a class into the order in which they are taken."""


class Supply:
    """The images of each class in some order; those that cannot be read are passed over where asked for.

    `unreadable` names the ones that were.
    """

    def __init__(self, data: ImageSet, order: Order, skip_unreadable: bool) -> None:
        self._data, self._order, self._skip = data, order, skip_unreadable
        self._taken: dict[int, list[str]] = {}
        self._rest: dict[int, Iterator[str]] = {}
        self.unreadable: list[str] = []

    def first(self, class_index: int, count: int) -> list[str]:
        """Return the first `count` images of a class or more, or fewer where there are no more."""
        if class_index not in self._rest:
            items = self._data.items(class_index)
            self._rest[class_index] = iter(self._order(self._data.classes[class_index], items))
            self._taken[class_index] = []
        taken = self._taken[class_index]
        while len(taken) < count:
            item = next(self._rest[class_index], None)
            if item is None:
                break
            if self._skip and not self._readable(item):
                self.unreadable.append(item)
            else:
                taken.append(item)
        return taken

    def readable(self, class_index: int, most: int) -> Sequence[str]:
        """Return `most` images of a class, or fewer where there are no more, for no more than it costs to read them."""
        return self.first(class_index, most)[:most]

    def cyclic(self, class_index: int, index: int) -> str:
        """Return image `index` of a class, from the first again where there are no more.

        Raises:
            ConcordError: the class has none that can be read.
        """
        taken = self.first(class_index, index + 1)
        if not taken:
            key = self._data.classes[class_index].key
            raise ConcordError(f'the class "{key}" has no image that can be read; take it out with classes=...')
        return taken[index % len(taken)]

    def _readable(self, item: str) -> bool:
        try:
            self._data.read(item)
        except ConcordError:
            return False
        return True


def shuffled(seed: int) -> Order:
    """A uniform order that no library version and no other class can change: sorted by a keyed digest."""

    def order(entry: ClassEntry, items: Sequence[str]) -> list[str]:
        return sorted(items, key=lambda item: hashlib.sha256(f"{seed}\0{entry.key}\0{item}".encode()).digest())

    return order
