"""Zero-shot classification: do a bank's phrases recognise the classes better than their bare names?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from concord.concepts.bank import Bank, concept_text
from concord.concepts.validity import bank_key, embed_images
from concord.data import ClassEntry, ImageSet
from concord.encoder import Encoder


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

    A class's similarity is the mean cosine over "{class} with {phrase}" for all its phrases in the bank, against that
    with the class's name alone: both without a template around them.

    Args:
        bank: must have every class.
        data: the labelled images.
        encoder: embeds both.
        most: images a class, evenly spaced; None takes all.
        skip_unreadable: leave out images that cannot be read.

    Raises:
        ConcordError: the bank lacks a class.
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
