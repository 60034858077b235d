"""Selection by validity: of an over-abundant list, keep the phrases that the real images bear out (Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from concord.concepts.bank import concept_text

if TYPE_CHECKING:  # torch is imported where it is used: reading and checking a bank needs none of it
    from torch import Tensor

    from concord.data import ClassTable


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
    """Rate the phrases of a class on its real images and keep the best (Eq. 10).

    Args:
        class_name: fills the text form "{class} with {phrase}".
        phrases: the bank's phrases, in any order; repeated ones count once.
        mean_image: mean image embedding of the class, (D,); see `mean_embedding`.
        embed_texts: texts to unit embeddings (N, D).
        keep: how many to keep.
        pinned: phrases of the user's own; always kept, whatever their activation, and part of the `keep`. More pins
            than `keep` keep all pins.

    Returns:
        Every phrase, the most active first; ties keep the bank's order.
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
    bank: str | None,
    encoder: str,
    classes: ClassTable,
    selection: Sequence[Sequence[Concept]],
    similarity: np.ndarray,
) -> dict[str, Any]:
    """What `concepts.json` holds: every phrase of every class with its activation, and how alike the names are.

    Args:
        bank: name of the bank; None where all phrases are pinned.
        encoder: directory or model id of the encoder that rated them.
        classes: the classes, in label order.
        selection: from `select`, for each class.
        similarity: cosines of the bare class names' text embeddings, (C, C).
    """
    return {
        "bank": bank,
        "encoder": encoder,
        "classes": {
            entry.folder: {"class_name": entry.class_name, "concepts": [asdict(concept) for concept in concepts]}
            for entry, concepts in zip(classes, selection, strict=True)
        },
        "similarity": {"classes": [entry.class_name for entry in classes], "cosine": similarity.round(4).tolist()},
    }
