"""A choice from a pool, one image after another: which comes next, given those that were taken.

Features are float32, a row an image: (N, D) of real images, (P, D) of the pool, whose images may be the real ones. What
is taken first never depends on what comes later, so that a small set is part of a larger one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from concord.methods.coreset import SLACK, first_least, squared_distances


class Choice(Protocol):
    """What is wanted next."""

    def cost(self) -> np.ndarray:
        """How little each of the pool is wanted now, (P,): the least comes next."""

    def take(self, row: int) -> None:
        """Row `row` of the pool is taken."""


class Herding:
    """Brings the mean of those taken nearest to that of the real images (Welling 2009, as `coreset.herding`)."""

    def __init__(self, real: np.ndarray, pool: np.ndarray) -> None:
        self._pool, self._mean = pool, real.mean(axis=0, dtype=np.float64)
        self._total, self._taken = np.zeros_like(self._mean), 0

    def cost(self) -> np.ndarray:
        return squared_distances(self._pool, (self._taken + 1) * self._mean - self._total)

    def take(self, row: int) -> None:
        self._total += self._pool[row]
        self._taken += 1


class Served:
    """What `Coverage` and `KCenter` share: how near the nearest of those taken is to each real image."""

    def __init__(self, real: np.ndarray, pool: np.ndarray) -> None:
        # (P, N), squared: a row an image of the pool.
        self.distances = np.stack([squared_distances(real, row) for row in pool]) if len(pool) else np.empty((0, 0))
        self.nearest: np.ndarray | None = None

    def take(self, row: int) -> None:
        found = self.distances[row]
        self.nearest = found if self.nearest is None else np.minimum(self.nearest, found)


class Coverage(Served):
    """Brings the real images nearest to those taken, on average: greedy facility location, or k-medoids.

    The gain of an image never grows with those taken before it (it is submodular), so that the greedy choice covers at
    least 1 - 1/e of what the best one of its size does (Nemhauser et al. 1978).
    """

    def cost(self) -> np.ndarray:
        if self.nearest is None:
            return self.distances.mean(axis=1)
        return np.minimum(self.distances, self.nearest).mean(axis=1)


class KCenter(Served):
    """Serves the real image that is farthest from all taken by the nearest of the pool (after Sener & Savarese 2018).

    The first is the one whose farthest real image is nearest.
    """

    def cost(self) -> np.ndarray:
        if self.nearest is None:
            return self.distances.max(axis=1)
        return self.distances[:, int(self.nearest.argmax())]


CHOICES: dict[str, Callable[[np.ndarray, np.ndarray], Choice]] = {
    "coverage": Coverage,
    "herding": Herding,
    "kcenter": KCenter,
}
Allowed = Callable[[int, np.ndarray], np.ndarray]
"""A place and which rows of the pool are free there, booleans (P,), to those of them that may be taken."""


def one_by_one(choice: Choice, size: int, each: int = 0, allowed: Allowed = lambda _, free: free) -> Iterator[int]:
    """Yield rows of a pool of `size` in the order in which they are taken, none twice.

    each: place i is chosen among the first ``each * (i + 1)`` rows, so that a pool that grows by so many rows a place
    changes no choice before; 0: among all.
    """
    taken = np.zeros(size, bool)
    for place in range(size // each if each else size):
        free = ~taken
        if each:
            free[each * (place + 1) :] = False
        cost = choice.cost()
        row = first_least(np.where(allowed(place, free), cost, np.inf), SLACK * float(np.abs(cost).max()))
        choice.take(row)
        taken[row] = True
        yield row


def spread_evenly(values: np.ndarray, real: np.ndarray) -> Allowed:
    """Have what is taken spread as real images do, by some value of each, such as how hard it is.

    Of M that are free, place i may take those sqrt(M) whose values lie nearest to a quantile of the real ones; the
    quantiles fill (0, 1) evenly however many there are (van der Corput). values: (P,) of the pool; real: (N,).
    """
    ranks = np.searchsorted(np.sort(real), values, side="right") / max(1, len(real))

    def allowed(place: int, free: np.ndarray) -> np.ndarray:
        distances = np.where(free, np.abs(ranks - quantile(place)), np.inf)
        nearest = np.argsort(distances, kind="stable")[: math.ceil(math.sqrt(free.sum()))]
        found = np.zeros_like(free)
        found[nearest] = True
        return found

    return allowed


def quantile(place: int) -> float:
    """1/2, 1/4, 3/4, 1/8, ...: the binary digits of place + 1, mirrored behind the point."""
    digits = f"{place + 1:b}"[::-1]
    return int(digits, 2) / 2 ** len(digits)


def whole_groups(means: Sequence[np.ndarray], own: int, pool: np.ndarray, of: int, group: int) -> Iterator[int]:
    """Yield rows of the pool, group by group, each the best of `of` (after S3 of IMS3, Wang et al. 2026).

    Of each stretch of `of` times `group` rows, the group is taken whose mean, with those of the groups before, is most
    like its own class's and least like the likest other's, by cosine. means: of each class's real images, (D,).
    """
    total, units = np.zeros(pool.shape[1]), [mean / np.linalg.norm(mean) for mean in means]
    for start in range(0, len(pool) - of * group + 1, of * group):
        sums = pool[start : start + of * group].reshape(of, group, -1).sum(axis=1, dtype=np.float64)
        likeness = np.stack([_cosine(total + one, units) for one in sums])  # (of, C)
        others = np.delete(likeness, own, axis=1).max(axis=1) if len(units) > 1 else np.zeros(of)
        best = first_least(others - likeness[:, own], SLACK)
        total += sums[best]
        yield from range(start + best * group, start + (best + 1) * group)


def _cosine(vector: np.ndarray, units: Sequence[np.ndarray]) -> np.ndarray:
    return np.array([vector @ unit for unit in units]) / max(float(np.linalg.norm(vector)), 1e-30)


def medoids(features: np.ndarray) -> Iterator[int]:
    """Yield rows of real images (N, D) as `Coverage` takes them from the real images themselves."""
    return one_by_one(Coverage(features, features), len(features))


def by_clusters(features: np.ndarray, count: int, seed: int) -> Iterator[int]:
    """Yield rows (N, D) by turns from `count` clusters (k-means), the largest first, the nearest to a middle first."""
    from concord.pipelines.prototypes import cluster_middles

    middles = cluster_middles(features, count, seed)
    distances = np.stack([squared_distances(features, middle) for middle in middles])
    owners = distances.argmin(axis=0)
    members = [np.flatnonzero(owners == k) for k in range(len(middles))]
    queues = [of[np.argsort(distances[k][of], kind="stable")].tolist() for k, of in enumerate(members)]
    for turn in range(max(map(len, queues))):
        yield from (queue[turn] for queue in queues if turn < len(queue))
