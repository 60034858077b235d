"""What informing changed: completeness, teacher accuracy and nuisance diversity of informed, uninformed and real sets.

An informed and an uninformed image of the same class and index share their seed, so that their difference has an
interval of its own. Where the booleans that are counted come from is a scorer's business (`scorers.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from concord.metrics.measure_run import Measuring, Pictures
from concord.metrics.scorers import Scorer, Vocabulary, found
from concord.metrics.statistics import paired_interval
from concord.models.classifier import Classifier
from concord.models.teachers import Teacher, load_teacher
from concord.storage import images


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
        means = {"mean": self.share.mean(), "complete": self.complete.mean(), "foreign": self.foreign.mean()}
        return {name: float(mean) for name, mean in means.items()} | {"n": len(self.share)}


def count_details(found: np.ndarray, own: np.ndarray) -> Counts:
    """Count own and foreign details, where found and own are booleans (N, K).

    They say what a scorer finds in each image, and what its class has: at least one detail, or it is a ValueError.
    """
    if found.shape != own.shape:
        raise ValueError(f"found has shape {found.shape}, own has {own.shape}; they must be equal")
    if not own.any(1).all():
        raise ValueError("every image's class needs at least one detail")
    return Counts((found & own).sum(1) / own.sum(1), (found & ~own).sum(1))


def spread_within_classes(values: np.ndarray, groups: np.ndarray) -> float:
    """Diversity: standard deviation of each column within each class, averaged over classes and columns.

    values: (N, D), such as nuisances that a regressor reads; columns of about unit deviation in real images. groups:
    class of each row, (N,). Classes with fewer than two rows are left out; 0 if none remains.
    """
    deviations = [values[groups == g].std(0, ddof=1) for g in np.unique(groups) if (groups == g).sum() > 1]
    return float(np.mean(deviations)) if deviations else 0.0


def measure(run: Measuring) -> dict[str, Any] | None:
    """The metric `completeness`: where the recipe has a scorer, and every class details to look for."""
    if run.scorer is None or not all(run.details):
        return None
    return completeness(run.scorer, run.vocabulary, run.sets)


def measure_teacher_accuracy(run: Measuring) -> dict[str, Any] | None:
    """The metric `teacher_accuracy`: where the recipe names a teacher."""
    if not run.recipe.teacher:
        return None
    teacher = load_teacher(run.recipe.teacher, run.data.classes, device=str(run.models.device))
    return teacher_accuracy(teacher, run.sets)


def measure_nuisance_diversity(run: Measuring) -> dict[str, Any] | None:
    """The metric `nuisance_diversity`: where the recipe names a regressor of nuisances."""
    if not run.recipe.nuisance:
        return None
    return nuisance_diversity(run.models.classifier(run.recipe.nuisance, "nuisance"), run.sets)


def completeness(scorer: Scorer, vocabulary: Vocabulary, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Completeness, complete samples and foreign details of each set, and the gains from "uninformed" to "informed"."""
    counts = {name: _count(scorer, pictures, vocabulary) for name, pictures in sets.items()}
    report: dict[str, Any] = {name: count.summary() for name, count in counts.items()}
    if {"informed", "uninformed"} <= counts.keys():
        after, before, labels = counts["informed"], counts["uninformed"], sets["informed"].labels
        report["gain"] = paired_interval(after.share, before.share, labels)
        report["gain_complete"] = paired_interval(after.complete, before.complete, labels)
        report["gain_foreign"] = paired_interval(after.foreign, before.foreign, labels)
    return report


def _count(scorer: Scorer, pictures: Pictures, vocabulary: Vocabulary) -> Counts:
    """The details of a whole set; what is found is counted as it comes, for images times concepts are too many."""
    counts, end = list[Counts](), 0
    for rows in found(scorer, pictures.images, vocabulary):
        start, end = end, end + len(rows)
        counts.append(count_details(rows, vocabulary.own[pictures.labels[start:end]]))
    return Counts(np.concatenate([of.share for of in counts]), np.concatenate([of.foreign for of in counts]))


def teacher_accuracy(teacher: Teacher, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Share of each set's images that a teacher recognises as their class, with the gain and its interval."""

    def named(pictures: Pictures) -> np.ndarray:
        outputs = _read(lambda pixels: teacher.logits((pixels + 1) / 2), pictures.images)  # teachers take [0, 1]
        return np.concatenate([logits.argmax(1) for logits in outputs])

    right = {name: named(pictures) == pictures.labels for name, pictures in sets.items()}
    report: dict[str, Any] = {name: float(values.mean()) for name, values in right.items()}
    if {"informed", "uninformed"} <= right.keys():
        report["gain"] = paired_interval(right["informed"], right["uninformed"], sets["informed"].labels)
    return report


def nuisance_diversity(reader: Classifier, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """How much each set varies in what carries no meaning (pose, colour, background), within classes.

    Measured on nuisances that a regressor reads, because complete images of one class are bound to be alike in their
    details; about 1 on real images. With the gain and its interval.
    """
    values = {name: np.concatenate([*_read(reader.logits, p.images)]) for name, p in sets.items()}
    report: dict[str, Any] = {name: spread_within_classes(v, sets[name].labels) for name, v in values.items()}
    if {"informed", "uninformed"} <= values.keys():
        labels = sets["informed"].labels
        report["gain"] = paired_interval(values["informed"], values["uninformed"], labels, spread_within_classes)
    return report


def _read(logits: Callable[[torch.Tensor], torch.Tensor], pictures: Iterable[Image.Image]) -> Iterator[np.ndarray]:
    """Logits of images, batch by batch, (B, K)."""
    for pixels in images.batches(pictures):
        with torch.no_grad():
            found = logits(pixels)
        yield found.float().cpu().numpy()
