"""Scorers: how sure it is that an image shows a concept.

Two of them, with one face: an attribute detector where one exists, and percentiles of image-text similarity among the
real images elsewhere. Either should be another model than the one that informed the sampling: a pupil does not mark
his own work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from concord.concepts.bank import concept_text
from concord.errors import ConcordError
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder

Concept = tuple[str, str]
"""A (class name, phrase) pair."""


class Scorer(Protocol):
    """Rates images against concepts."""

    threshold: float
    """A rating of at least this counts as found."""

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Ratings in [0, 1], (B, K), of images (B, 3, H, W) in [-1, 1] for K concepts."""
        ...


class Detector:
    """A multi-label classifier whose labels are phrases; the class name plays no part.

    Raises:
        ConcordError: a phrase is not among the detector's labels.
    """

    threshold = 0.5

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._column = {label: i for i, label in enumerate(classifier.labels)}

    def knows(self, phrases: Sequence[str]) -> bool:
        """Whether all of these are among the detector's labels."""
        return all(phrase in self._column for phrase in phrases)

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        unknown = [phrase for _, phrase in concepts if phrase not in self._column]
        if unknown:
            raise ConcordError(
                f"the detector has no label {unknown[0]!r} (it has {', '.join(map(repr, self._column))}):"
                " name another detector in scorer.model, or set scorer.kind=percentile"
            )
        with torch.no_grad():
            probabilities = self.classifier.logits(pixels).sigmoid()
        return probabilities[:, [self._column[phrase] for _, phrase in concepts]]


class Percentile:
    """Where an image's similarity with "{class} with {phrase}" lies among that class's real images.

    An image at or above the lower quartile of the real images counts as showing the concept: a quarter of the real
    ones would not. For a phrase of another class, the real images of that class are the yardstick.
    """

    threshold = 0.25

    def __init__(self, encoder: Encoder, real: Callable[[str], Tensor]) -> None:
        """`real`: class name to unit embeddings (N, D) of some of its real images."""
        self.encoder, self.real = encoder, real
        self._sorted: dict[Concept, Tensor] = {}

    def similarity(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Cosines (B, K), on the CPU, of images (B, 3, H, W) in [-1, 1] with "{class} with {phrase}"."""
        with torch.no_grad():
            texts = self.encoder.texts([concept_text(*concept) for concept in concepts])
            return (self.encoder.images(pixels) @ texts.T).cpu()

    def percentile(self, similarity: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Where cosines (B, K) lie among the real images of each concept's class: the share not above, in [0, 1]."""
        columns = []
        for k, concept in enumerate(concepts):
            if concept not in self._sorted:
                text = self.encoder.texts([concept_text(*concept)])[0]
                self._sorted[concept] = (self.real(concept[0]).to(text) @ text).cpu().sort().values
            reference = self._sorted[concept]
            column = similarity[:, k].contiguous()
            columns.append(torch.searchsorted(reference, column, right=True) / len(reference))
        return torch.stack(columns, 1)

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        return self.percentile(self.similarity(pixels, concepts), concepts)
