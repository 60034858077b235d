"""Negatives: concepts of other classes, drawn once per sample and fixed over its steps (paper, Sec. 3.3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast, get_args

import numpy as np

from concord.choices import NegativeKind as Kind
from concord.errors import ConcordError
from concord.text import nearest

FIRST = 24
"""About how many classes are put in order ahead of all others; a sample draws some five or ten."""
LAST = 2.0**-900
"""The pace of classes of weight 0: they arrive after all others. A power of two: it rounds no clock."""


def checked_kind(word: str) -> Kind:
    """Take a word of the user's for a kind. Raises ConcordError: it is none; the nearest is named."""
    if word not in (kinds := get_args(Kind)):
        raise ConcordError(f'no kind of negatives "{word}"{nearest(word, kinds)}; there are {", ".join(kinds)}')
    return cast(Kind, word)


def class_weights(similarity: Sequence[float], own: int, kind: Kind = "weighted", k: int = 5) -> np.ndarray:
    """How likely each class gives a negative, (C,), not normalised; the own class has weight 0.

    similarity: cosine of the bare class names' text embeddings with the own class's, (C,). own: index of the own class.
    kind: "weighted" by max(0, similarity); "random", all alike; "similar", all alike among the `k` most similar.
    """
    cosine = np.array(similarity, dtype=float)
    others = np.arange(len(cosine)) != own
    if kind == "weighted":
        return np.where(others, np.maximum(0, cosine), 0)
    if kind == "similar":
        ranked = np.flatnonzero(others)
        ranked = ranked[np.argsort(-cosine[ranked], kind="stable")]
        return np.isin(np.arange(len(cosine)), ranked[:k]).astype(float)
    return others.astype(float)


class Numbers(Protocol):
    """Random numbers: a `numpy.random.Generator`, or `Quick`."""

    def integers(self, high: int, /) -> int:
        """One in [0, high)."""

    def standard_exponential(self, size: int, /) -> np.ndarray:
        """So many of mean 1."""


class Quick:
    """The numbers of `numpy.random.default_rng(seed)`, bit for bit; a single integer takes a fifth of the time.

    A plan of 200,000 images draws two million. Integers are by Lemire's method ("Fast Random Integer Generation in an
    Interval", 2019) from halves of 64-bit words, the lower first, as numpy draws them below 2**32.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.standard_exponential = rng.standard_exponential
        self._word, self._half = rng.bit_generator.random_raw, -1

    def integers(self, high: int, /) -> int:
        """One in [0, high); `high` in [1, 2**32)."""
        if high == 1:  # takes no random bits
            return 0
        while True:
            if (half := self._half) < 0:
                word = self._word()
                half, self._half = word & 0xFFFFFFFF, word >> 32
            else:
                self._half = -1
            product = half * high
            if (low := product & 0xFFFFFFFF) >= high or low >= (2**32 - high) % high:
                return product >> 32


class Race:
    """Classes in an order drawn without replacement by weight; those of weight 0 last, all alike.

    Sorting by Exp(1) / weight is such a draw: the first to arrive in a race of exponential clocks is class c with
    probability weight / sum, and the clocks that still run have no memory. Each class has its clock, drawn at once
    whatever is taken; but only those that arrive soon are put in order, as hardly a sample asks for more. What depends
    on the weights alone is worked out once for all samples of a class.
    """

    def __init__(self, weights: np.ndarray) -> None:
        self.likely = np.asarray(weights) > 0
        self._pace = np.where(self.likely, weights, LAST)
        self._soon = FIRST / self._pace.sum()

    def run(self, rng: Numbers) -> Iterator[int]:
        """Yield all classes in the order of one draw; of two that arrive together, that of the lower label first."""
        times = rng.standard_exponential(len(self._pace)) / self._pace
        for part in (np.less, np.greater_equal):
            places = part(times, self._soon).nonzero()[0]
            yield from places[times[places].argsort(kind="stable")].tolist()


def draw_negatives(
    concepts: Sequence[Sequence[str]],
    own: int,
    weights: np.ndarray | Race,
    count: int,
    rng: Numbers,
    kind: Kind = "weighted",
) -> list[tuple[int, str]]:
    """Draw up to `count` concepts of other classes for one sample, by its own `rng`: (class index, phrase) pairs.

    Classes are drawn without replacement by weight (`class_weights`, of the same `kind`), and a phrase uniformly from
    those that the class kept. With fewer classes than negatives, every class is drawn once before any is drawn twice;
    each further round draws by weight again. Classes of weight 0 come last in their round, all alike; with `kind`
    "similar" they wait until the others have no phrase left, for there weight 0 means that a class is not among the `k`
    nearest. No phrase comes twice, and none that is also the sample's own: a fish cannot be pushed away from the stripe
    that it should show.
    """
    race = weights if isinstance(weights, Race) else Race(weights)
    used = set(concepts[own])
    drawn: list[tuple[int, str]] = []
    for eligible in (race.likely, ~race.likely) if kind == "similar" else (None,):
        before = -1
        while before < len(drawn) < count:
            before = len(drawn)
            for c in race.run(rng):
                if c == own or (eligible is not None and not eligible[c]):
                    continue
                left = concepts[c]
                if not used.isdisjoint(left):
                    left = [phrase for phrase in left if phrase not in used]
                if not left:
                    continue
                phrase = left[rng.integers(len(left))]
                used.add(phrase)
                drawn.append((c, phrase))
                if len(drawn) == count:
                    return drawn
    return drawn


def inclusion(weights: np.ndarray, own: int, count: int, kind: Kind = "weighted") -> np.ndarray:
    """How likely each class is to give one of a sample's `count` negatives, (C,), where no phrases run out.

    A class is among the first of `_race` if fewer than `count` others arrive before it: an integral over its time of
    arrival of the chance that few others have arrived, taken by Gauss-Legendre quadrature to about 1e-6.
    """
    weights = np.where(np.arange(len(weights)) == own, 0, weights).astype(float)
    entrants, rest = np.flatnonzero(weights > 0), np.flatnonzero((weights <= 0) & (np.arange(len(weights)) != own))
    chances = np.zeros(len(weights))
    if count >= len(entrants):
        chances[entrants] = 1
        if kind != "similar" or not len(entrants):
            chances[rest] = min(1, (count - len(entrants)) / max(1, len(rest)))
        return chances
    share = weights[entrants] / weights.sum()
    # With u = exp(-share t), class c arrives uniformly in u in (0, 1); another is still out with chance u ** (o / c).
    nodes, parts = np.polynomial.legendre.leggauss(128)
    u = (nodes + 1) / 2
    for c, own_share in enumerate(share):
        few = np.zeros((max(1, count), len(u)))  # chance that 0, 1, ... count - 1 others have arrived, at every node
        few[0] = count > 0
        for other in np.delete(share, c):
            out = u ** (other / own_share)
            few[1:] = few[1:] * out + few[:-1] * (1 - out)
            few[0] *= out
        chances[entrants[c]] = (few.sum(0) * parts).sum() / 2
    return chances


@dataclass(frozen=True)
class Chances:
    """Where the negatives of one class come from: for every class its similarity, and its chances to give the first
    negative and any; (C,) each. `weights` are those that draw."""

    own: int
    similarity: np.ndarray
    weights: np.ndarray
    first: np.ndarray
    any: np.ndarray


def chances(similarity: np.ndarray, own: int, kind: Kind, k: int, count: int, whole: bool = True) -> Chances:
    """The chances of every class to give negatives to the class `own`; see `class_weights` and `inclusion`.

    whole: also the chance to give any of them, which takes long for many classes (seconds for a thousand); else NaN.
    """
    weights = class_weights(similarity.tolist(), own, kind, k)
    once = min(1, count)
    if whole:
        first, every = inclusion(weights, own, once, kind), inclusion(weights, own, count, kind)
    else:  # the first comes by the weights' shares
        first, every = weights / (weights.sum() or 1) * once, np.full(len(weights), np.nan)
    return Chances(own, similarity, weights, first, every)
