"""Negatives: concepts of other classes, drawn once per sample and fixed over its steps (paper, Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Kind = Literal["weighted", "random", "similar"]


def class_weights(similarity: Sequence[float], own: int, kind: Kind = "weighted", k: int = 10) -> np.ndarray:
    """How likely each class gives a negative, (C,), not normalised; the own class has weight 0.

    Args:
        similarity: cosine of the bare class names' text embeddings with the own class's, (C,).
        own: index of the own class.
        kind: "weighted" by max(0, similarity); "random", all alike; "similar", all alike among the `k` most similar.
    """
    cosine = np.array(similarity, dtype=float)
    others = np.arange(len(cosine)) != own
    if kind == "weighted":
        return np.where(others, np.maximum(0, cosine), 0)
    if kind == "similar":
        ranked = sorted(np.flatnonzero(others), key=lambda c: -cosine[c])
        return np.isin(np.arange(len(cosine)), ranked[:k]).astype(float)
    return others.astype(float)


def draw_negatives(
    concepts: Sequence[Sequence[str]],
    own: int,
    weights: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> list[tuple[int, str]]:
    """Draw concepts of other classes for one sample.

    Classes are drawn without replacement by weight, and a phrase uniformly from those that the class kept. With fewer
    classes than negatives, every class is drawn once before any is drawn twice. No phrase comes twice, and none that
    is also the sample's own: a fish cannot be pushed away from the stripe that it should show. Where this leaves
    fewer than `count`, fewer are returned.

    Args:
        concepts: the kept phrases of every class.
        own: index of the sample's class.
        weights: from `class_weights`; classes of weight 0 are drawn only if no other class has a phrase left.
        count: how many; 0 gives none.
        rng: the sample's own generator.

    Returns:
        (class index, phrase) pairs.
    """
    used = set(concepts[own])
    drawn: list[tuple[int, str]] = []
    while len(drawn) < count:
        # Exponential races: sorting by Exp(1) / weight is weighted drawing without replacement.
        race = rng.exponential(size=len(concepts)) / np.maximum(weights, 1e-12)
        before = len(drawn)
        for c in np.argsort(race):
            left = [phrase for phrase in concepts[c] if phrase not in used]
            if c == own or not left or len(drawn) == count:
                continue
            phrase = left[rng.integers(len(left))]
            used.add(phrase)
            drawn.append((int(c), phrase))
        if len(drawn) == before:
            break
    return drawn
