"""Banks judged: zero-shot against the classes' bare names, and by what two say of the same class (Fig. 7)."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from concord.concepts.bank import Bank, concept_text
from concord.concepts.lint import lint
from concord.concepts.selection import Concept, bank_key, embed_images
from concord.concepts.words import gist, words
from concord.data import ClassEntry, ImageSet
from concord.models.encoder import Encoder


@dataclass(frozen=True)
class ClassScore:
    """For each image of one class, whether the bank and the bare names put it in its class; booleans (N,)."""

    entry: ClassEntry
    by_bank: np.ndarray
    by_name: np.ndarray


def score(
    bank: Bank, data: ImageSet, encoder: Encoder, most: int | None = None, skip_unreadable: bool = False
) -> list[ClassScore]:
    """Classify labelled images by the class whose texts they are most similar to, in label order.

    A class's similarity is the mean cosine over "{class} with {phrase}" for all its phrases in the bank, which must
    have it, against that with the class's name alone: both without a template around them. most: images a class, evenly
    spaced; None takes all.
    """
    bank.require([bank_key(entry) for entry in data.classes])
    phrases = torch.stack([_mean_text(bank, entry, encoder) for entry in data.classes])  # (C, D)
    names = encoder.texts([entry.class_name for entry in data.classes]).float().cpu()  # (C, D)
    scores = []
    for entry in data.classes:
        seen = embed_images(encoder, data, entry.label, most, skip_unreadable).float()  # (N, D)
        by_bank, by_name = (((seen @ texts.T).argmax(1) == entry.label).numpy() for texts in (phrases, names))
        scores.append(ClassScore(entry, by_bank, by_name))
    return scores


def _mean_text(bank: Bank, entry: ClassEntry, encoder: Encoder) -> Tensor:
    """Mean of a class's text embeddings, (D,): its product with an image is the mean similarity. Not of unit length."""
    texts = [concept_text(entry.class_name, phrase) for phrase in bank.phrases(bank_key(entry))]
    return encoder.texts(texts).float().mean(0).cpu()


Rate = Callable[[str, Sequence[str]], Sequence[Concept]]
"""From a class name and phrases to their activations on its real images."""


@dataclass(frozen=True)
class Line:
    """A phrase of one bank; `common` if the other bank says the same of the class; unrated without real images."""

    phrase: str
    common: bool
    activation: float | None = None
    kept: bool | None = None


@dataclass(frozen=True)
class Pair:
    """A class in both banks: its lines and lint faults in the first and in the second."""

    class_name: str
    lines: tuple[list[Line], list[Line]]
    faults: tuple[int, int]


def compare(a: Bank, b: Bank, rate: Rate | None = None, names: Sequence[str] | None = None) -> list[Pair]:
    """Compare the classes that both banks have, in the first one's order; names match whatever their case and hyphens.

    rate: rates phrases on real images; None leaves activations out, and the phrases in the banks' own order.
    names: only these classes, by their names in texts.
    """
    in_a, in_b = ({words(name): name for name in bank.classes} for bank in (a, b))
    faults = [Counter(fault.class_name for fault in lint(bank)) for bank in (a, b)]
    pairs = []
    for name in a.classes if names is None else names:
        if (key := words(name)) not in in_a or key not in in_b:
            continue
        own = in_a[key], in_b[key]
        phrases = (a.classes[own[0]].phrases, b.classes[own[1]].phrases)
        said = [{gist(phrase) for phrase in some} for some in phrases]
        lines = _lines(name, phrases[0], said[1], rate), _lines(name, phrases[1], said[0], rate)
        pairs.append(Pair(own[0], lines, (faults[0][own[0]], faults[1][own[1]])))
    return pairs


def only_in(a: Bank, b: Bank) -> list[str]:
    """Classes that `a` has and `b` has not."""
    there = set(map(words, b.classes))
    return [name for name in a.classes if words(name) not in there]


def _lines(name: str, phrases: Sequence[str], other: set[tuple[str, ...]], rate: Rate | None) -> list[Line]:
    if rate is None:
        return [Line(phrase, gist(phrase) in other) for phrase in phrases]
    return [Line(c.phrase, gist(c.phrase) in other, c.activation, c.kept) for c in rate(name, phrases)]
