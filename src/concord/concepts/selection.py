"""Selection by validity: of an over-abundant list, keep the phrases that the real images bear out (Eq. 10).

Torch is imported where something is embedded: a plan needs the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from concord.concepts.bank import Bank, concept_text
from concord.data import ClassEntry, ClassTable, ImageSet
from concord.data.sampling import some_images
from concord.errors import ConcordError
from concord.storage import images

if TYPE_CHECKING:
    from torch import Tensor

    from concord.models.encoder import Encoder

BATCH = 64
"""Real images in memory at once."""


def bank_key(entry: ClassEntry) -> str:
    """What a bank calls a class."""
    return entry.bank_key or entry.class_name


def embed_images(
    encoder: Encoder, data: ImageSet, class_index: int, most: int | None, skip_unreadable: bool = False
) -> Tensor:
    """Unit embeddings (N, D), on the CPU, of images of a class, at most `most`; a ConcordError if none can be read."""
    import torch

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


def candidates(
    data: ImageSet, bank: Bank | None, pinned: Mapping[str, Sequence[str]]
) -> list[tuple[Sequence[str], Sequence[str]]]:
    """The phrases of every class in the bank, and those that are pinned to it, in label order.

    Raises:
        ConcordError: the bank lacks a class, or a pinned class is not in the data.
    """
    if bank is not None:
        bank.require([bank_key(entry) for entry in data.classes])
    pins: list[list[str]] = [[] for _ in data.classes]
    for name, phrases in pinned.items():
        pins[data.classes.find(name).label].extend(phrases)
    return [(bank.phrases(bank_key(e)) if bank is not None else (), pins[e.label]) for e in data.classes]


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

    bank: must have every class; None where all phrases are pinned. most: images a class that rate them, evenly spaced;
    None takes all. pinned: class (folder, name or WordNet id) to phrases that are never dropped.
    """
    every = candidates(data, bank, pinned or {})
    return [
        select_class(data, label, phrases, encoder, keep=keep, most=most, pinned=pins, skip_unreadable=skip_unreadable)
        for label, (phrases, pins) in enumerate(every)
    ]


def select_class(
    data: ImageSet,
    label: int,
    phrases: Sequence[str],
    encoder: Encoder,
    *,
    keep: int,
    most: int | None,
    pinned: Sequence[str] = (),
    skip_unreadable: bool = False,
) -> list[Concept]:
    """Rate phrases of one class on its real images and keep the best; see `select_classes`."""
    mean = mean_embedding(embed_images(encoder, data, label, most, skip_unreadable))
    return select(data.classes[label].class_name, phrases, mean, encoder.texts_together, keep, pinned)


@dataclass(frozen=True)
class Concept:
    """A phrase of a class with its activation, and whether it was kept."""

    phrase: str
    activation: float
    kept: bool
    pinned: bool = False


def mean_embedding(embeddings: Tensor) -> Tensor:
    """Average of image embeddings (N, D), each normalised first, so that every image has one vote; unit length (D,)."""
    import torch.nn.functional as F

    return F.normalize(F.normalize(embeddings.float(), dim=-1).mean(0), dim=-1)


def select(
    class_name: str,
    phrases: Sequence[str],
    mean_image: Tensor,
    embed_texts: Callable[[list[str]], Tensor],
    keep: int = 5,
    pinned: Sequence[str] = (),
) -> list[Concept]:
    """Rate the phrases of a class on its real images and keep the best (Eq. 10): all, the most active first.

    phrases: in any order, which ties keep; repeated ones count once. mean_image: (D,), see `mean_embedding`.
    embed_texts: texts to unit embeddings (N, D). pinned: phrases of the user's own, always kept and part of the `keep`,
    or more.
    """
    import torch.nn.functional as F

    candidates = list(dict.fromkeys([*phrases, *pinned]))
    texts = embed_texts([concept_text(class_name, phrase) for phrase in candidates])
    # Images were embedded batch by batch and lie on the CPU; texts lie where the encoder does.
    activations = (F.normalize(texts.float().cpu(), dim=-1) @ F.normalize(mean_image.float().cpu(), dim=-1)).tolist()
    order = sorted(range(len(candidates)), key=lambda i: -activations[i])
    free = max(0, keep - len(set(pinned)))
    kept = {i for i in order if candidates[i] in pinned} | set([i for i in order if candidates[i] not in pinned][:free])
    return [Concept(candidates[i], activations[i], i in kept, candidates[i] in pinned) for i in order]


def selection_record(
    bank: str | None, encoder: str, classes: ClassTable, selection: Sequence[Sequence[Concept]], similarity: np.ndarray
) -> dict[str, Any]:
    """What `concepts.json` holds: every phrase of every class with its activation, and the names' cosines (C, C)."""
    return {
        "bank": bank,
        "encoder": encoder,
        "classes": {
            entry.folder: {"class_name": entry.class_name, "concepts": [asdict(concept) for concept in concepts]}
            for entry, concepts in zip(classes, selection, strict=True)
        },
        "similarity": {"classes": [entry.class_name for entry in classes], "cosine": similarity.round(4).tolist()},
    }
