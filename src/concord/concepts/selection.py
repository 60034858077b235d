"""Selection by validity: of an over-abundant list, keep the phrases that the real images bear out (Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from concord.concepts.bank import concept_text


@dataclass(frozen=True)
class Concept:
    """A phrase of a class with its activation, and whether it was kept."""

    phrase: str
    activation: float
    kept: bool
    pinned: bool = False


def mean_embedding(embeddings: Tensor) -> Tensor:
    """Average of image embeddings (N, D), each normalised first, so that every image has one vote; unit length (D,)."""
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
    candidates = list(dict.fromkeys([*phrases, *pinned]))
    texts = embed_texts([concept_text(class_name, phrase) for phrase in candidates])
    activations = (F.normalize(texts.float(), dim=-1) @ F.normalize(mean_image.float(), dim=-1)).tolist()
    order = sorted(range(len(candidates)), key=lambda i: -activations[i])
    free = max(0, keep - len(set(pinned)))
    kept = {i for i in order if candidates[i] in pinned} | set([i for i in order if candidates[i] not in pinned][:free])
    return [Concept(candidates[i], activations[i], i in kept, candidates[i] in pinned) for i in order]
