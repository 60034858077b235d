"""What informing changed: completeness, teacher accuracy and nuisance diversity of informed, uninformed and real sets.

Sets are compared sample by sample: an informed and an uninformed image of the same class and index share their seed,
so their difference has an interval of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from concord import images
from concord.errors import ConcordError, nearest
from concord.models.classifier import Classifier
from concord.models.teachers import Teacher
from concord.scoring.completeness import count_details, paired_interval, spread_within_classes
from concord.scoring.scorer import Concept, Scorer


@dataclass(frozen=True)
class Pictures:
    """Images with their labels, (N,)."""

    images: Sequence[Image.Image]
    labels: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """All concepts that are looked for, and which class has which.

    concepts: K (class name, phrase) pairs. own: booleans (C, K).
    """

    concepts: tuple[Concept, ...]
    own: np.ndarray

    @classmethod
    def of(cls, names: Sequence[str], details: Sequence[Sequence[str]], shared: bool) -> Vocabulary:
        """From every class's details.

        `shared`: a phrase means the same in every class, as an attribute does; otherwise a phrase is bound to its
        class, as "{class} with {phrase}" is.
        """
        concepts: dict[str, Concept] = {}
        for name, phrases in zip(names, details, strict=True):
            for phrase in phrases:
                concepts.setdefault(phrase if shared else f"{name}\0{phrase}", (name, phrase))
        own = [
            [phrase in details[c] and (shared or name == names[c]) for name, phrase in concepts.values()]
            for c in range(len(names))
        ]
        return cls(tuple(concepts.values()), np.array(own, dtype=bool).reshape(len(names), len(concepts)))


def found(scorer: Scorer, pictures: Sequence[Image.Image], vocabulary: Vocabulary) -> np.ndarray:
    """Which concepts a scorer finds in images, booleans (N, K)."""
    ratings = [scorer.rate(pixels, vocabulary.concepts) for pixels in images.batches(pictures)]
    return (torch.cat(ratings) >= scorer.threshold).cpu().numpy()


def completeness(scorer: Scorer, vocabulary: Vocabulary, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Completeness, complete samples and foreign details of each set, and the gains from "uninformed" to "informed"."""
    counts = {
        name: count_details(found(scorer, pictures.images, vocabulary), vocabulary.own[pictures.labels])
        for name, pictures in sets.items()
    }
    report: dict[str, Any] = {name: count.summary() for name, count in counts.items()}
    if {"informed", "uninformed"} <= counts.keys():
        after, before, labels = counts["informed"], counts["uninformed"], sets["informed"].labels
        report["gain"] = paired_interval(after.share, before.share, labels)
        report["gain_complete"] = paired_interval(after.complete, before.complete, labels)
        report["gain_foreign"] = paired_interval(after.foreign, before.foreign, labels)
    return report


def teacher_accuracy(teacher: Teacher, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Share of each set's images that a teacher recognises as their class, with the gain and its interval."""

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        return teacher.logits((pixels + 1) / 2)  # teachers take [0, 1]

    right = {name: _read(logits, p.images).argmax(1) == p.labels for name, p in sets.items()}
    report: dict[str, Any] = {name: float(values.mean()) for name, values in right.items()}
    if {"informed", "uninformed"} <= right.keys():
        report["gain"] = paired_interval(right["informed"], right["uninformed"], sets["informed"].labels)
    return report


def nuisance_diversity(reader: Classifier, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """How much each set varies in what carries no meaning (pose, colour, background), within classes.

    Measured on nuisances that a regressor reads, because complete images of one class are bound to be alike in their
    details; about 1 on real images. With the gain and its interval.
    """
    values = {name: _read(reader.logits, p.images) for name, p in sets.items()}
    report: dict[str, Any] = {name: spread_within_classes(v, sets[name].labels) for name, v in values.items()}
    if {"informed", "uninformed"} <= values.keys():
        labels = sets["informed"].labels
        report["gain"] = paired_interval(values["informed"], values["uninformed"], labels, spread_within_classes)
    return report


def label_ids(model: Classifier, names: Sequence[str], key: str) -> torch.Tensor:
    """Positions of class names among a classifier's labels, (len(names),).

    Raises:
        ConcordError: the classifier, which the recipe names in `key`, lacks a class.
    """
    column = {label: i for i, label in enumerate(model.labels)}
    for name in names:
        if name not in column:
            raise ConcordError(f'the classifier in {key} has no class "{name}"{nearest(name, column)}')
    return torch.tensor([column[name] for name in names])


def _read(logits: Callable[[torch.Tensor], torch.Tensor], pictures: Sequence[Image.Image]) -> np.ndarray:
    """Logits (N, K) of many images."""
    with torch.no_grad():
        return torch.cat([logits(pixels) for pixels in images.batches(pictures)]).float().cpu().numpy()
