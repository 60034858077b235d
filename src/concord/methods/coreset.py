"""Coresets: real images that stand for their class by where they lie in a feature space.

Both orders are greedy, so that a smaller set is part of a larger one; what is as good goes by the order of the
references. Distances are Euclidean and summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from concord.data import ImageSet
from concord.methods.base import Cost
from concord.methods.features import Space, class_features, feature_space
from concord.methods.random import RealImages
from concord.methods.supply import Supply
from concord.recipe import Recipe

SLACK = 1e-12
"""Squared distances closer than this part of the largest from the mean are as good: two images, say, lie equally far
from their mean, and rounding shall not choose among them."""
ROWS = 256
"""Features whose distances are taken at once: their differences stay in the processor's cache."""


def k_center(features: np.ndarray) -> Iterator[int]:
    """Yield the rows of `features` (N, D) in the order of k-center greedy (Sener & Savarese 2018).

    The first is the row nearest to the mean (theirs is any), each next one the farthest from all before it. The first
    k leave no row farther away than twice what the best k rows would.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    distances = squared_distances(features, mean)
    slack = SLACK * distances.max()
    chosen = first_least(distances, slack)
    nearest = np.full(len(features), np.inf)
    for _ in range(len(features)):
        yield chosen
        np.minimum(nearest, squared_distances(features, features[chosen]), out=nearest)
        nearest[chosen] = -1  # never again, not even where all others equal one that is chosen
        chosen = first_least(-nearest, slack)


def herding(features: np.ndarray) -> Iterator[int]:
    """Yield the rows of `features` (N, D) in the order of herding (Welling 2009) without repetition, as iCaRL has it.

    Each next row brings the mean of those chosen nearest to the mean mu of all: for the k-th, the minimum of
    ||mu - (s + x) / k|| over x, with s the sum of those before, is the row nearest to k mu - s.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    total, taken = np.zeros_like(mean), np.zeros(len(features), bool)
    slack = SLACK * squared_distances(features, mean).max()
    for k in range(1, len(features) + 1):
        distances = squared_distances(features, k * mean - total)
        distances[taken] = np.inf
        chosen = first_least(distances, slack)
        yield chosen
        taken[chosen] = True
        total += features[chosen]


def first_least(values: np.ndarray, slack: float) -> int:
    """The first place of the least of the values, or of what exceeds it by no more than `slack`."""
    return int(np.argmax(values <= values.min() + slack))


def squared_distances(features: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances float64 (N,) of rows (N, D) from a point (D,); equal rows have equal ones."""
    distances = np.empty(len(features))
    for start in range(0, len(features), ROWS):
        # As differences: the expanded square cancels, and a matrix product sums a row by its place in the matrix.
        difference = features[start : start + ROWS] - point.astype(np.float64)
        np.einsum("nd,nd->n", difference, difference, out=distances[start : start + ROWS])
    return distances


class CoresetSupply(Supply):
    """The images of each class in the order of a coreset.

    A class's features are worked out when its first image is asked for, of all its images that can be read; they are
    not kept, but the first `most` of the order are.
    """

    def __init__(
        self,
        data: ImageSet,
        order: Callable[[np.ndarray], Iterator[int]],
        space: Callable[[], Space],
        most: int,
        skip_unreadable: bool,
    ) -> None:
        super().__init__(data, lambda entry, items: list(items), skip_unreadable)
        self._greedy, self._space, self._most = order, space, most
        self._chosen: dict[int, list[str]] = {}

    def readable(self, class_index: int, most: int) -> Sequence[str]:
        return super().first(class_index, most)[:most]

    def first(self, class_index: int, count: int) -> list[str]:
        if len(self._chosen.get(class_index, ())) < count:
            items = self._data.items(class_index)
            read, features = class_features(self._data, items, self._space(), self._skip)
            self.unreadable += sorted(set(items).difference(read, self.unreadable))
            order = self._greedy(features) if read else iter(())
            self._chosen[class_index] = [read[i] for i in islice(order, max(count, self._most))]
        return self._chosen[class_index]


class Coreset(RealImages):
    """Real images in the order of `k_center` or `herding`; a `Method`. Where they are copied no model is loaded."""

    def __init__(self, recipe: Recipe, data: ImageSet, order: Callable[[np.ndarray], Iterator[int]]) -> None:
        skip = recipe.unreadable == "skip"
        super().__init__(recipe, data, CoresetSupply(data, order, lambda: self._space, recipe.ipc, skip))

    @cached_property
    def _space(self) -> Space:
        return feature_space(self._recipe, self._data.classes)

    def results(self, out: Path) -> dict[str, Any]:
        return {"features": self._space.name, **super().results(out)}

    def cost(self) -> Cost:
        """Bytes alone: choosing takes most of the time and memory, and is not tried out."""
        return replace(super().cost(), seconds_per_image=None, memory=None)


def coreset(recipe: Recipe, data: ImageSet) -> Coreset:
    """Return the coreset that the recipe names."""
    return Coreset(recipe, data, {"k_center": k_center, "herding": herding}[recipe.method])
