"""A set that is chosen from a larger one, which the same method makes first (`select: {kind: coverage}` and its like).

The pool is a run of its own, below the set's directory: it resumes, grows and is spread over workers as any. Place i is
chosen among the first ``of * (i + 1)`` images of its class, so that a set of IPC 10 is the prefix of one of IPC 50.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concord.data import ImageSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.methods.base import Cost, GeneratedImage
from concord.methods.choice import CHOICES, Allowed, one_by_one, spread_evenly, whole_groups
from concord.methods.coreset import Space, class_features
from concord.methods.diffusion import Generate
from concord.methods.supply import opened_once
from concord.plan import Sample
from concord.recipe import Format, Recipe
from concord.recipe.sections import Select
from concord.runs.directory import Run, StoredSample

REAL = 500
"""Real images of a class that the pool is held against, evenly spaced."""


class FromPool:
    """Images of a diffusion model, chosen from a pool of them; a `Method` that `Pools`, is `Informed` and `Resumes`."""

    batch_size = 1
    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data = recipe, data
        self._made = Generate(self.pool(recipe.ipc), data)
        self.models, self.concepts = self._made.models, self._made.concepts
        self._run: Run | None = None
        self._orders: dict[int, list[int]] = {}

    def pool(self, ipc: int) -> Recipe:
        """The recipe of the pool that a set of this IPC is chosen from; it keeps every pixel."""
        size = self._recipe.select.pool(ipc)
        plain = {"select": Select(), "ipc": size, "uninformed": False, "format": Format(), "metrics": []}
        return self._recipe.model_copy(update={**plain, "name": f"{self._recipe.name} pool"})

    def choose_from(self, pool: Path) -> None:
        """Choose from the finished pool in this directory."""
        self._run, self._orders = Run(pool), {}
        self._made.resume(self._run.concepts)

    def count(self, class_index: int, ipc: int) -> int:
        return self._made.count(class_index, self._recipe.select.pool(ipc)) and ipc

    def sample(self, class_index: int, index: int) -> Sample:
        chosen = self._chosen(class_index, index)
        row = chosen.row
        planned = self._made.sample(class_index, chosen.index)
        if planned.seed != row.get("seed"):
            raise ConcordError(f"{chosen.path} is not of this recipe; take {self._pool.out} away, and it is made anew")
        return Sample(**{**vars(planned), "index": index})

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        stored = [self._chosen(sample.class_index, sample.index) for sample in batch]
        return [GeneratedImage(one.image, {**one.scores, "candidate": one.index}) for one in stored]

    def resume(self, concepts: Mapping[str, Any]) -> None:
        self._made.resume(concepts)

    def record(self) -> dict[str, Any] | None:
        return self._made.record()

    def operations(self, sample: Sample) -> int | None:
        one = self._made.operations(sample)
        return None if one is None else one * self._recipe.select.of

    def cost(self) -> Cost:
        one, of = self._made.cost(), self._recipe.select.of
        span = None if one.seconds_range is None else (of * one.seconds_range[0], of * one.seconds_range[1])
        return Cost(one.bytes_per_image, one.seconds_per_image and of * one.seconds_per_image, one.memory, span)

    @property
    def _pool(self) -> Run:
        if self._run is None:
            raise RuntimeError("a pool is made first; see `concord.methods.base.Pools`")
        return self._run

    @cached_property
    def _space(self) -> Callable[[], Space]:
        return opened_once(self._recipe, self._data)

    def _chosen(self, class_index: int, index: int) -> StoredSample:
        if class_index not in self._orders:
            self._orders[class_index] = list(self._order(class_index))
        return self._by_class[class_index][self._orders[class_index][index]]

    @cached_property
    def _by_class(self) -> dict[int, list[StoredSample]]:
        found: dict[int, list[StoredSample]] = {entry.label: [] for entry in self._data.classes}
        for sample in self._pool.samples():
            found[sample.label].append(sample)
        return found

    def _order(self, class_index: int) -> Iterator[int]:
        select, pool = self._recipe.select, self._features(class_index)
        if select.kind == "groups":
            return whole_groups(self._means, class_index, pool, select.of, select.group)
        choice = CHOICES[select.kind](self._real(class_index), pool)
        allowed: dict[str, Allowed] = {}
        if select.difficulty:
            made, real = self._hardness(class_index)
            allowed["allowed"] = spread_evenly(made, real)
        return one_by_one(choice, len(pool), select.of, **allowed)

    def _features(self, class_index: int) -> np.ndarray:
        """Of the pool's images of a class, in their order."""
        stored = self._by_class[class_index]
        return class_features(Stored(stored), [one.file for one in stored], self._space())[1]

    def _real(self, class_index: int) -> np.ndarray:
        items = evenly(self._data.items(class_index), REAL)
        found = class_features(self._data, items, self._space(), self._recipe.unreadable == "skip")[1]
        if not len(found):
            key = self._data.classes[class_index].key
            raise ConcordError(f'no image of the class "{key}" can be read to choose by; take it out with classes=...')
        return found

    @cached_property
    def _means(self) -> list[np.ndarray]:
        return [self._real(entry.label).mean(axis=0, dtype=np.float64) for entry in self._data.classes]

    def _hardness(self, class_index: int) -> tuple[np.ndarray, np.ndarray]:
        """The teacher's cross-entropy with their class, of the pool's images of a class and of real ones."""
        space = self._teacher_losses(class_index)
        stored, items = self._by_class[class_index], evenly(self._data.items(class_index), REAL)
        made = class_features(Stored(stored), [one.file for one in stored], space)[1]
        real = class_features(self._data, items, space, self._recipe.unreadable == "skip")[1]
        return made[:, 0], real[:, 0]

    def _teacher_losses(self, class_index: int) -> Space:
        """The teacher's losses as a space of one dimension."""
        import torch

        from concord.methods.teacher import seen_side

        teacher = self._teacher

        @torch.no_grad()
        def losses(bytes_: np.ndarray) -> np.ndarray:
            pixels = torch.from_numpy(bytes_).permute(0, 3, 1, 2).float().div(255)
            return -teacher.logits(pixels).log_softmax(dim=1)[:, class_index, None].float().cpu().numpy()

        return Space("losses", seen_side(teacher, self._recipe.size), losses)

    @cached_property
    def _teacher(self) -> Any:
        from concord.methods.teacher import open_teacher

        return open_teacher(self._recipe, self._data)


class Stored:
    """Images of a run, read by their files."""

    def __init__(self, samples: Sequence[StoredSample]) -> None:
        self._samples = {sample.file: sample for sample in samples}

    def read(self, item: str) -> Image.Image:
        return self._samples[item].image
