"""A bank on a data set: what the real images say of its phrases (Eq. 10), and how alike the classes' names are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from concord import images
from concord.concepts.bank import Bank
from concord.concepts.selection import Concept, mean_embedding, select
from concord.data import ClassEntry, ImageSet
from concord.data.sampling import some_images
from concord.encoder import Encoder
from concord.errors import ConcordError

BATCH = 64
"""Real images in memory at once."""


def bank_key(entry: ClassEntry) -> str:
    """What a bank calls a class."""
    return entry.bank_key or entry.class_name


def embed_images(
    encoder: Encoder, data: ImageSet, class_index: int, most: int | None, skip_unreadable: bool = False
) -> Tensor:
    """Unit embeddings (N, D), on the CPU, of images of a class: evenly spaced ones where it has more than `most`.

    Raises:
        ConcordError: an image cannot be read; with `skip_unreadable`, none can.
    """
    pictures, rows = some_images(data, class_index, most, skip_unreadable), []
    with torch.no_grad():
        while some := list(islice(pictures, BATCH)):
            rows += [encoder.images(pixels).cpu() for pixels in images.batches(some)]
    if not rows:
        key = data.classes[class_index].key
        raise ConcordError(f'no image of the class "{key}" can be read; take it out with classes=...')
    return torch.cat(rows)


def name_similarity(encoder: Encoder, names: Sequence[str]) -> np.ndarray:
    """Cosine between the text embeddings of bare class names, (C, C) in float64."""
    texts = encoder.texts(names).float()
    return (texts @ texts.T).cpu().double().numpy()


def select_classes(
    data: ImageSet,
    bank: Bank | None,
    encoder: Encoder,
    *,
    keep: int = 5,
    most: int | None = 100,
    pinned: Mapping[str, Sequence[str]] | None = None,
    skip_unreadable: bool = False,
) -> list[list[Concept]]:
    """Rate every class's phrases on its real images and keep the best, in label order; see `select`.

    Args:
        data: the labelled images.
        bank: must have every class; None where all phrases are pinned.
        encoder: rates the phrases.
        keep: how many a class keeps.
        most: images a class that rate them, evenly spaced; None takes all.
        pinned: class (folder, name or WordNet id) to phrases that are never dropped.
        skip_unreadable: let the other images rate where some cannot be read.

    Raises:
        ConcordError: the bank lacks a class, or a pinned phrase's class is not in the data.
    """
    if bank is not None:
        bank.require([bank_key(entry) for entry in data.classes])
    pins: list[list[str]] = [[] for _ in data.classes]
    for name, phrases in (pinned or {}).items():
        pins[data.classes.find(name).label].extend(phrases)
    return [
        select(
            entry.class_name,
            bank.phrases(bank_key(entry)) if bank is not None else (),
            mean_embedding(embed_images(encoder, data, entry.label, most, skip_unreadable)),
            encoder.texts,
            keep,
            pins[entry.label],
        )
        for entry in data.classes
    ]
