"""Which of a class's concepts each image gets, so that over the set every one has its share: deficit first."""

from collections.abc import Sequence

import numpy as np


class Shares:
    """Deals out phrases by turns of `each`: those first that have had least of their share; by chance among equals.

    What image i gets depends on `seed` and i alone, and no two phrases' counts ever differ by more than one.
    """

    def __init__(self, phrases: Sequence[str], each: int, seed: int) -> None:
        self._phrases, self._each = tuple(phrases), min(each, len(phrases))
        self._rng = np.random.default_rng(seed)
        self._given = np.zeros(len(phrases), int)
        self._dealt: list[tuple[str, ...]] = []

    def of(self, index: int) -> tuple[str, ...]:
        """The phrases of image `index`, in the order in which they were given."""
        while len(self._dealt) <= index:
            chance = self._rng.random(len(self._phrases))
            taken = np.sort(np.lexsort((chance, self._given))[: self._each])
            self._given[taken] += 1
            self._dealt.append(tuple(self._phrases[n] for n in taken))
        return self._dealt[index]
