"""Phrases for classes that students mix up: those that real images bear out, and that tell just these apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from concord.concepts.bank import Bank, ClassConcepts, concept_text
from concord.concepts.selection import mean_embedding


@dataclass(frozen=True)
class Pair:
    """Two classes, by their labels, and how often test images of one are given the other, the mean of both ways."""

    first: int
    second: int
    share: float


def shares(confusion: np.ndarray) -> np.ndarray:
    """How often two classes are mixed up, (K, K), symmetric, of test images by true and given class (K, K)."""
    given = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    mixed: np.ndarray = (given + given.T) / 2
    return mixed


def mixed_up(confusion: np.ndarray, most: int) -> list[Pair]:
    """The pairs of classes that are mixed up most, at most so many; none that never are."""
    mixed = np.triu(shares(confusion), 1)
    order = np.argsort(-mixed, axis=None, kind="stable")[:most]
    found = [(int(n // len(mixed)), int(n % len(mixed))) for n in order]
    return [Pair(a, b, float(mixed[a, b])) for a, b in found if mixed[a, b] > 0]


@dataclass(frozen=True)
class Telling:
    """A phrase of a class: its activation on the class's real images (Eq. 10), and what it adds to telling it apart.

    margin: by how much more active it is there than on the real images of the class that it is mixed up with, the least
    where there are several, and beyond what the class's name alone is. A detail that both classes have adds nothing.
    """

    phrase: str
    activation: float
    margin: float


def tell_apart(
    name: str, phrases: Sequence[str], own: Tensor, others: Sequence[Tensor], embed_texts: Callable[[list[str]], Tensor]
) -> list[Telling]:
    """Rate a class's phrases, those first that tell it apart most.

    own: unit embeddings (N, D) of the class's real images; others: of each class that it is mixed up with, one or more.
    embed_texts: texts to unit embeddings.
    """
    unique = list(dict.fromkeys(phrases))
    texts = embed_texts([name, *(concept_text(name, phrase) for phrase in unique)]).float().cpu()
    on_own = texts @ mean_embedding(own).cpu()
    by_name, *by_phrase = on_own - torch.stack([texts @ mean_embedding(other).cpu() for other in others]).amax(dim=0)
    activations, margins = on_own[1:], torch.stack(by_phrase) - by_name
    rated = [Telling(*one) for one in zip(unique, activations.tolist(), margins.tolist(), strict=True)]
    return sorted(rated, key=lambda one: -one.margin)


def kept(rated: Sequence[Telling], most: int) -> list[Telling]:
    """Of a class's phrases, the most telling first, at most so many that real images bear out and that tell it apart.

    Borne out is what is more active than the mean of its phrases. Telling is what has a positive margin, at least half
    of the largest one: to inform by more would only dilute it. One is kept in any case, the most telling.
    """
    mean = float(np.mean([one.activation for one in rated]))
    seen = [one for one in rated if one.activation >= mean] or [*rated]
    telling = [one for one in seen if one.margin > 0 and one.margin >= seen[0].margin / 2]
    return telling[:most] or seen[:1]


def with_phrases(bank: Bank, name: str, chosen: dict[str, ClassConcepts]) -> Bank:
    """The bank under another name, with other phrases of some classes, by their names there."""
    origin = {**bank.provenance, "refined": f"{', '.join(sorted(chosen))} of {bank.name}, by concord refine"}
    return bank.model_copy(update={"name": name, "classes": {**bank.classes, **chosen}, "provenance": origin})
