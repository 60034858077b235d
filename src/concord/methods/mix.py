"""Made and real images in one set (`method=mix`): the real ones are chosen when the made ones are there.

After CCFS (Chen et al. 2025), which adds to a distilled set the real images that it lacks; here by where they lie.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from concord.data import ImageSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.methods.base import Cost, GeneratedImage
from concord.methods.choice import CHOICES, Choice, one_by_one
from concord.methods.coreset import class_features
from concord.methods.pooled import Stored
from concord.methods.real import shuffled
from concord.methods.settings import real_images
from concord.methods.supply import opened_once
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.runs.directory import StoredSample, open_run
from concord.storage.images import square
from concord.text import counted

MOST = 1000
"""Real images of a class that are chosen among, evenly spaced."""


class Ranked:
    """A choice whose order is given: (P,) the lower the earlier."""

    def __init__(self, ranks: np.ndarray) -> None:
        self._ranks = ranks

    def cost(self) -> np.ndarray:
        return self._ranks

    def take(self, row: int) -> None: ...


class Mixed:
    """Images of a finished set and real ones; a `Method`. Made ones come in the order of their set."""

    batch_size = 1
    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data, self._settings = recipe, data, recipe.of_method
        run = open_run(str(self._settings.made))
        found: dict[str, list[StoredSample]] = {}
        for sample in run.samples():
            for name in {sample.folder, sample.class_name}:
                found.setdefault(name, []).append(sample)
        self._made = [found.get(entry.folder) or found.get(entry.class_name) or [] for entry in data.classes]
        self._stored = Stored([one for of_class in self._made for one in of_class])
        self._space = opened_once(recipe, data)
        self._orders: dict[int, tuple[list[int], list[str]]] = {}

    def count(self, class_index: int, ipc: int) -> int:
        entry, made = self._data.classes[class_index], self._made[class_index]
        real = real_images(self._settings.real, ipc)
        if len(made) < ipc - real:
            raise ConcordError(
                f"mix.made: {self._settings.made} has {counted(len(made), 'image')} of {entry.key}, and"
                f" {counted(ipc - real, 'made image')} of ipc={ipc} are asked for; grow that set, or raise mix.real"
            )
        if len(self._data.items(class_index)) < real:
            raise ConcordError(f"mix.real: there are no {counted(real, 'real image')} of {entry.key}; lower it, or ipc")
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        entry, made = self._data.classes[class_index], self._made[class_index]
        order, items = self._order_of(class_index)
        if index >= len(order):
            raise ConcordError(f"mix: no more images of {entry.key} can be read; lower ipc")
        if (row := order[index]) >= len(made):
            item = items[row - len(made)]
            return Sample(class_index, index, sample_seed(self._recipe.seed, entry.key, item), source=item)
        return Sample(class_index, index, made[row].seed or 0, tuple(made[row].positives), start=made[row].file)

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        size, images = self._recipe.size, []
        for sample in batch:
            image = self._stored.read(sample.start) if sample.start else self._data.read(sample.source)
            images.append(GeneratedImage(square(image, size) if size else image))
        return images

    def facts(self) -> dict[str, Any]:
        real = real_images(self._settings.real, self._recipe.ipc)
        return {"mix": {"made": self._recipe.ipc - real, "real": real}}

    def cost(self) -> Cost:
        return Cost()

    def _order_of(self, class_index: int) -> tuple[list[int], list[str]]:
        if class_index not in self._orders:
            self._orders[class_index] = self._ordered(class_index)
        return self._orders[class_index]

    def _ordered(self, class_index: int) -> tuple[list[int], list[str]]:
        """Rows of a class's made images, and behind them of its real ones, in their order; and the real ones."""
        made, skip = self._made[class_index], self._recipe.unreadable == "skip"
        items = evenly(self._data.items(class_index), MOST)
        if self._settings.choice == "random":
            shuffle = shuffled(self._recipe.seed)
            read = shuffle(self._data.classes[class_index], self._data.items(class_index))
            choice: Choice = Ranked(np.arange(len(made) + len(read), dtype=float))
        else:
            space = self._space()
            read, real = class_features(self._data, items, space, skip)
            of_made = class_features(Stored(made), [one.file for one in made], space)[1]
            pool = np.concatenate([of_made, real]) if made else real
            choice = CHOICES[self._settings.choice](real, pool)
        return list(self._turns(choice, len(made), len(read))), read

    def _turns(self, choice: Choice, made: int, real: int) -> Iterator[int]:
        """Rows in their order: where it is a made image's turn the next one, else the real one that is wanted most."""

        def allowed(place: int, free: np.ndarray) -> np.ndarray:
            shares = self._settings.real
            is_real = real_images(shares, place + 1) > real_images(shares, place)
            found = np.zeros_like(free)
            rows = free[made:] if is_real else free[:made]
            if is_real:
                found[made:] = rows
            elif rows.any():
                found[int(rows.argmax())] = True
            return found

        places = 0
        while places < made + real:
            n = real_images(self._settings.real, places + 1)
            if n > real or places + 1 - n > made:
                break  # one of the two has no more
            places += 1
        order = one_by_one(choice, made + real, allowed=allowed)
        return (row for row, _ in zip(order, range(places), strict=False))
