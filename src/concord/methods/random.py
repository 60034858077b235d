"""A uniform choice of real images: the simplest baseline, and what every other method has to beat."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from concord.data import ImageSet
from concord.data.reading import square
from concord.errors import ConcordError
from concord.methods.base import Cost, Made
from concord.methods.supply import Supply, shuffled
from concord.recipe import Recipe
from concord.report.page import write_report
from concord.runs.plan import Sample, sample_seed
from concord.runs.store import encode


class RealImages:
    """The first images of each class in some order, copied; a `Method`.

    An IPC takes a prefix of the order, so a smaller set is part of a larger one. With ``unreadable: skip`` images are
    opened while planning, and those that cannot be read are passed over; else reading one is an error when it is made.
    """

    batch_size = 1
    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet, supply: Supply, everything: bool = False) -> None:
        self._recipe, self._data, self._supply, self._everything = recipe, data, supply, everything

    def count(self, class_index: int, ipc: int) -> int:
        wanted = len(self._data.items(class_index)) if self._everything else ipc
        there = len(self._supply.readable(class_index, wanted))
        if there < (1 if self._everything else wanted):
            raise ConcordError(self._too_few(ipc))
        return there

    def _too_few(self, ipc: int) -> str:
        kind = "readable images" if self._recipe.unreadable == "skip" else "images"
        if self._everything:
            lacking = [e.key for e in self._data.classes if not self._supply.readable(e.label, 1)]
            return f"no {kind} in {', '.join(lacking[:5])}; take them out with classes=..."
        counts = {e.key: len(self._supply.readable(e.label, ipc)) for e in self._data.classes}
        short = {key: n for key, n in counts.items() if n < ipc}
        some = ", ".join(f'"{key}" has {n}' for key, n in islice(short.items(), 5))
        more = f" and {len(short) - 5} more classes" if len(short) > 5 else ""
        least = min(short.values())
        way = f"give ipc={least} or less" if least else "take the empty ones out with classes=..."
        return f"fewer {kind} than ipc={ipc} asks for: {some}{more}; {way}"

    def sample(self, class_index: int, index: int) -> Sample:
        source = self._supply.first(class_index, index + 1)[index]
        key = self._data.classes[class_index].key
        return Sample(class_index, index, sample_seed(self._recipe.seed, key, index), source=source)

    def make(self, batch: Sequence[Sample], variant: str) -> list[Made]:
        size = self._recipe.size
        images = (self._data.read(sample.source) for sample in batch)
        return [Made(square(image, size) if size else image) for image in images]

    def recall(self, concepts: Mapping[str, Any]) -> None:
        return None

    def concepts(self) -> None:
        return None

    def results(self, out: Path) -> dict[str, Any]:
        if self._recipe.unreadable == "error":
            return {}
        return {"unreadable": len(self._supply.unreadable), "unreadable_files": sorted(self._supply.unreadable)}

    def finish(self, out: Path) -> None:
        write_report(out)

    def _trial(self, class_index: int, source: str) -> Sample:
        """A sample from an image of the class, for its cost."""
        return Sample(class_index, 0, 0, source=source)

    def cost(self) -> Cost:
        """Make an image of a few classes, and count."""
        start, sizes = time.perf_counter(), []
        for class_index in range(min(3, len(self._data.classes))):
            if some := self._supply.readable(class_index, 1):
                made = self.make([self._trial(class_index, some[0])], "images")[0]
                sizes.append(len(encode(made.image, self._recipe.format)))
        if not sizes:
            return Cost()
        seconds = (time.perf_counter() - start) / len(sizes)
        return Cost(bytes_per_image=sum(sizes) / len(sizes), seconds_per_image=seconds, memory=2e8)


def random_choice(recipe: Recipe, data: ImageSet) -> RealImages:
    """Return a uniform choice without replacement of `ipc` images a class."""
    return RealImages(recipe, data, Supply(data, shuffled(recipe.seed), recipe.unreadable == "skip"))
