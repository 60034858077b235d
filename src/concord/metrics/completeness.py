"""Which of its class's details an image is likely to lack, where no detector knows: percentiles among real images.

For every made image, the similarity with each of its positives ("{class} with {phrase}") is placed among the real
images of its class. An image in the lowest quarter for a phrase looks less like it than three quarters of the real
ones: the detail is likely missing. It is evidence, not truth; docs/reef.md says how well it tells on reef, where the
truth is known.

Completeness, counted: which of its class's details an image shows, and how sure a difference between two sets is.

Pure functions on boolean tables; where the booleans come from is a scorer's business (`scorer.py`).

What informing changed: completeness, teacher accuracy and nuisance diversity of informed, uninformed and real sets.

Sets are compared sample by sample: an informed and an uninformed image of the same class and index share their seed,
so their difference has an interval of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from concord.errors import ConcordError
from concord.metrics.scorers import Concept, Percentile, Scorer
from concord.metrics.statistics import paired_interval
from concord.models.classifier import Classifier
from concord.models.teachers import Teacher
from concord.storage import images
from concord.text import nearest


@dataclass(frozen=True)
class Counts:
    """Per image: the share of its class's details found, and how many found that the class does not have; (N,) each."""

    share: np.ndarray
    foreign: np.ndarray

    @property
    def complete(self) -> np.ndarray:
        """Images with every detail of their class, (N,)."""
        return self.share == 1.0

    def summary(self) -> dict[str, float | int]:
        """Means over images, as `results.json` has them."""
        return {
            "mean": float(self.share.mean()),
            "complete": float(self.complete.mean()),
            "foreign": float(self.foreign.mean()),
            "n": len(self.share),
        }


def count_details(found: np.ndarray, own: np.ndarray) -> Counts:
    """Count own and foreign details.

    Args:
        found: details that a scorer finds in each image, booleans (N, K).
        own: details that each image's class has, booleans (N, K), at least one an image.

    Raises:
        ValueError: the shapes differ or an image's class has no detail.
    """
    if found.shape != own.shape:
        raise ValueError(f"found has shape {found.shape}, own has {own.shape}; they must be equal")
    if not own.any(1).all():
        raise ValueError("every image's class needs at least one detail")
    return Counts((found & own).sum(1) / own.sum(1), (found & ~own).sum(1))


def spread_within_classes(values: np.ndarray, groups: np.ndarray) -> float:
    """Diversity: standard deviation of each column within each class, averaged over classes and columns.

    Args:
        values: (N, D), such as nuisances that a regressor reads; columns of about unit deviation in real images.
        groups: class of each row, (N,). Classes with fewer than two rows are left out; 0 if none remains.
    """
    deviations = [values[groups == g].std(0, ddof=1) for g in np.unique(groups) if (groups == g).sum() > 1]
    return float(np.mean(deviations)) if deviations else 0.0


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


WORST = 10
"""How many of the details that are most often missing are named in results.json."""


@dataclass(frozen=True)
class Detail:
    """One phrase on one image: cosine similarity, and its percentile among the class's real images, in [0, 1]."""

    phrase: str
    similarity: float
    percentile: float


def details(
    scorer: Percentile, name: str, phrases: Sequence[str], pictures: Sequence[Image.Image]
) -> list[list[Detail]]:
    """The evidence for each image of one class and each of the class's phrases, in their order."""
    concepts, found = [(name, phrase) for phrase in phrases], []
    for pixels in images.batches(pictures):
        similarity = scorer.similarity(pixels, concepts)
        percentile = scorer.percentile(similarity, concepts)
        found += [
            [Detail(*row) for row in zip(phrases, s, p, strict=True)]
            for s, p in zip(similarity.tolist(), percentile.tolist(), strict=True)
        ]
    return found


@dataclass
class Evidence:
    """The evidence of a whole set, gathered class by class: for `details.json`, and in short for results.json."""

    threshold: float

    def __post_init__(self) -> None:
        self.images: dict[str, list[dict[str, Any]]] = {}
        self._missing: Counter[tuple[str, str]] = Counter()
        self._total: Counter[tuple[str, str]] = Counter()

    def add(
        self,
        name: str,
        files: Sequence[str],
        found: Sequence[Sequence[Detail]],
        shown: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        """Take in images of the class `name`.

        files: where each lies, relative to the run's directory. shown: whether a detector finds each detail, where
        there is one; its word is kept beside the evidence.
        """
        for number, (file, of_image) in enumerate(zip(files, found, strict=True)):
            self.images[file] = [
                {
                    "phrase": d.phrase,
                    "similarity": round(d.similarity, 4),
                    "percentile": round(d.percentile, 3),
                    "likely_missing": d.percentile < self.threshold,
                }
                for d in of_image
            ]
            for k, row in enumerate(self.images[file] if shown is not None else ()):
                row["found"] = shown[number][k]  # type: ignore[index]
            self._total.update((name, d.phrase) for d in of_image)
            self._missing.update((name, d.phrase) for d in of_image if d.percentile < self.threshold)

    def summary(self) -> dict[str, Any]:
        """The share of details that are likely missing, and which they are most often."""
        share = {key: self._missing[key] / count for key, count in self._total.items()}
        worst = sorted((key for key in share if share[key]), key=lambda key: (-share[key], key))[:WORST]
        return {
            "likely_missing": self._missing.total() / max(1, self._total.total()),
            "most_missed": [
                {"class_name": name, "phrase": phrase, "share": share[name, phrase], "n": self._total[name, phrase]}
                for name, phrase in worst
            ],
        }
