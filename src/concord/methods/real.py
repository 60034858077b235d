"""Sets of real images: a uniform choice and all of them; and the pool that other choices among them share."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from concord.data import ClassEntry, ImageSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.storage.images import encode, square
from concord.system import quartiles, timed
from concord.text import listed

TRIED, FEWEST, TRYING = 24, 8, 0.6
"""Images that say what one costs, from as many classes as there are; at least so many of them, within some seconds."""
Order = Callable[[ClassEntry, Sequence[str]], list[str]]
"""Puts the images of a class into the order in which they are taken."""


class ImagePool:
    """The images of each class in some order; `unreadable` names those that were passed over, where asked for."""

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
        while len(taken) < count and (item := next(self._rest[class_index], None)) is not None:
            (self.unreadable if self._skip and not self._readable(item) else taken).append(item)
        return taken

    def readable(self, class_index: int, most: int) -> Sequence[str]:
        """Return `most` images of a class, or fewer where there are no more, for no more than it costs to read them."""
        return self.first(class_index, most)[:most]

    def cyclic(self, class_index: int, index: int) -> str:
        """Return image `index` of a class, from the first again where there are no more."""
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
        begun = hashlib.sha256(f"{seed}\0{entry.key}\0".encode())  # once a class, which may have thousands of images

        def digest(item: str) -> bytes:
            whole = begun.copy()
            whole.update(item.encode())
            return whole.digest()

        return sorted(items, key=digest)

    return order


class RealImages:
    """The first images of each class in some order, copied; a `Method`.

    An IPC takes a prefix of the order, so a smaller set is part of a larger one. With ``unreadable: skip`` images are
    opened while planning, and those that cannot be read are passed over; else reading one is an error when it is made.
    """

    batch_size = 1
    variants = ("images",)
    quick = True
    """Whether choosing takes no time and memory to speak of; else what it takes is not tried out."""

    def __init__(self, recipe: Recipe, data: ImageSet, pool: ImagePool, everything: bool = False) -> None:
        self._recipe, self._data, self._pool, self._everything = recipe, data, pool, everything

    def count(self, class_index: int, ipc: int) -> int:
        wanted = len(self._data.items(class_index)) if self._everything else ipc
        there = len(self._pool.readable(class_index, wanted))
        if there < (1 if self._everything else wanted):
            raise ConcordError(self._too_few(ipc))
        return there

    def _too_few(self, ipc: int) -> str:
        kind = "readable images" if self._recipe.unreadable == "skip" else "images"
        if self._everything:
            lacking = [e.key for e in self._data.classes if not self._pool.readable(e.label, 1)]
            return f"no {kind} in {', '.join(lacking[:5])}; take them out with classes=..."
        counts = {e.key: len(self._pool.readable(e.label, ipc)) for e in self._data.classes}
        short = {key: n for key, n in counts.items() if n < ipc}
        some = listed((f'"{key}" has {n}' for key, n in short.items()), noun="classes")
        least = min(short.values())
        way = f"give ipc={least} or less" if least else "take the empty ones out with classes=..."
        return f"fewer {kind} than ipc={ipc} asks for: {some}; {way}"

    def sample(self, class_index: int, index: int) -> Sample:
        source = self._pool.first(class_index, index + 1)[index]
        key = self._data.classes[class_index].key
        return Sample(class_index, index, sample_seed(self._recipe.seed, key, index), source=source)

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        size = self._recipe.size
        images = (self._data.read(sample.source) for sample in batch)
        return [GeneratedImage(square(image, size) if size else image) for image in images]

    def facts(self) -> dict[str, Any]:
        if self._recipe.unreadable == "error":
            return {}
        return {"unreadable": len(self._pool.unreadable), "unreadable_files": sorted(self._pool.unreadable)}

    def _trial(self, class_index: int, source: str) -> Sample:
        return Sample(class_index, 0, 0, source=source)

    def cost(self) -> Cost:
        times, sizes, end = list[float](), list[int](), time.perf_counter() + TRYING

        def tried(sample: Sample) -> None:
            sizes.append(len(encode(self.make([sample], "images")[0].image, self._recipe.format)))

        labels = evenly(range(len(self._data.classes)), TRIED)
        for place in range(TRIED + 1):
            label, nth = labels[place % len(labels)], place // len(labels)
            some = self._pool.readable(label, nth + 1)
            if len(some) > nth and (len(times) < FEWEST or time.perf_counter() < end):
                times.append(timed(partial(tried, self._trial(label, some[nth]))))
        if not sizes:
            return Cost()
        one = sum(sizes) / len(sizes)
        low, middle, high = quartiles(times[1:] or times)  # the first loads what reads and writes images
        return Cost(one, middle, memory=2e8, seconds_range=(low, high)) if self.quick else Cost(one)


def random_choice(recipe: Recipe, data: ImageSet) -> RealImages:
    """Return a uniform choice without replacement of `ipc` images a class."""
    return RealImages(recipe, data, ImagePool(data, shuffled(recipe.seed), recipe.unreadable == "skip"))


def full_set(recipe: Recipe, data: ImageSet) -> RealImages:
    """Return every image of every class, in the order of their names."""
    pool = ImagePool(data, lambda entry, items: list(items), recipe.unreadable == "skip")
    return RealImages(recipe, data, pool, everything=True)
