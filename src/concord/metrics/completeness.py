"""What informing changed: completeness, teacher accuracy and nuisance diversity of informed, uninformed and real sets.

An informed and an uninformed image of the same class and index share their seed, so that their difference has an
interval of its own. Where the booleans that are counted come from is a scorer's business (`scorers.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from concord.metrics.class_images import ClassImages
from concord.metrics.measure_run import Measuring, Pictures
from concord.metrics.scorers import Concept, Known, Percentile, Scorer, Vocabulary, found
from concord.metrics.statistics import paired_interval
from concord.models.classifier import Classifier
from concord.models.teachers import Teacher
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

    @classmethod
    def joined(cls, some: Sequence[Self]) -> Self:
        """The counts of several groups of images as those of one."""
        share, foreign = ([getattr(of, name) for of in some] for name in ("share", "foreign"))
        return cls(np.concatenate([np.empty(0), *share]), np.concatenate([np.empty(0, int), *foreign]))

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


@dataclass(frozen=True)
class Rated:
    """What percentiles need of one class: the embeddings (N, D) of its images, by set, and `Known` of concepts."""

    rows: dict[str, np.ndarray]
    known: dict[Concept, tuple[np.ndarray, np.ndarray]]


def of_class(run: Measuring, of: ClassImages) -> Rated | dict[str, Counts] | None:
    """What is found in the images of one class, by set.

    By percentiles all of the vocabulary is looked for, and so other classes' real images are needed: the embeddings are
    what is kept, and concepts of which this class is the first.
    """
    if run.scorer is None or not all(run.details):
        return None
    scorer, vocabulary = run.scorer, run.vocabulary
    if isinstance(scorer, Percentile):
        concepts = [vocabulary.concepts[k] for k in np.flatnonzero(vocabulary.own.argmax(0) == of.label)]
        run.learn(scorer, concepts, of)
        known = {concept: scorer.known[concept] for concept in concepts}
        numbers = {concept: (one.text.numpy(), one.real.numpy()) for concept, one in known.items()}
        return Rated(run.rows(of, scorer.encoder.images), numbers)
    found = run.rows(of, partial(scorer.rate, concepts=vocabulary.concepts))
    return {name: _counted(rates >= scorer.threshold, vocabulary, of.label) for name, rates in found.items()}


def measure(run: Measuring) -> dict[str, Any] | None:
    """The metric `completeness`: where the recipe has a scorer, and every class details to look for."""
    if run.scorer is None or not all(run.details):
        return None
    parts: list[Rated | dict[str, Counts]] = run.parts("completeness")
    scorer, vocabulary = run.scorer, run.vocabulary
    if isinstance(scorer, Percentile):
        for part in parts:
            assert isinstance(part, Rated)
            scorer.known |= {c: Known(*map(torch.tensor, numbers)) for c, numbers in part.known.items()}

    def counts(label: int, part: Rated | dict[str, Counts]) -> dict[str, Counts]:
        if not isinstance(part, Rated):
            return part
        assert isinstance(scorer, Percentile)
        found = {}
        for name, rows in part.rows.items():
            cosines = scorer.cosines(torch.tensor(rows), vocabulary.concepts)
            rates = scorer.percentile(cosines, vocabulary.concepts).numpy()
            found[name] = _counted(rates >= scorer.threshold, vocabulary, label)
        return found

    found = [counts(label, part) for label, part in enumerate(parts)]
    return _gains({name: Counts.joined([of[name] for of in found]) for name in found[0]}, _labels(run))


def recognised_of_class(run: Measuring, of: ClassImages) -> dict[str, np.ndarray] | None:
    """Which images of one class the teacher recognises, by set."""
    if (teacher := run.teacher) is None:
        return None
    return {name: logits.argmax(1) == of.label for name, logits in run.rows(of, partial(_logits, teacher)).items()}


def measure_teacher_accuracy(run: Measuring) -> dict[str, Any] | None:
    """The metric `teacher_accuracy`: where the recipe names a teacher."""
    if not run.recipe.teacher:
        return None
    return _accuracy(_joined(run.parts("teacher_accuracy")), _labels(run))


def nuisances_of_class(run: Measuring, of: ClassImages) -> dict[str, np.ndarray] | None:
    """What a regressor reads in the images of one class, by set."""
    if not run.recipe.nuisance:
        return None
    return run.rows(of, run.models.classifier(run.recipe.nuisance, "nuisance").logits)


def measure_nuisance_diversity(run: Measuring) -> dict[str, Any] | None:
    """The metric `nuisance_diversity`: where the recipe names a regressor of nuisances."""
    if not run.recipe.nuisance:
        return None
    parts: list[dict[str, np.ndarray]] = run.parts("nuisance_diversity")
    labels = _labels(run) | {"real": np.repeat(np.arange(len(parts)), [len(part["real"]) for part in parts])}
    return _diversity(_joined(parts), labels)


def _labels(run: Measuring) -> dict[str, np.ndarray]:
    return {run.set_of(variant): run.labels(variant) for variant in run.variants}


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of all classes, by set; a class without an image of a set has none of any width."""
    names = parts[0] if parts else ()
    return {name: np.concatenate([part[name] for part in parts if len(part[name])]) for name in names}


def completeness(scorer: Scorer, vocabulary: Vocabulary, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Completeness, complete samples and foreign details of each set, and the gains from "uninformed" to "informed"."""
    counts = {name: _count(scorer, pictures, vocabulary) for name, pictures in sets.items()}
    return _gains(counts, {name: pictures.labels for name, pictures in sets.items()})


def _gains(counts: Mapping[str, Counts], labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    report: dict[str, Any] = {name: count.summary() for name, count in counts.items()}
    if {"informed", "uninformed"} <= counts.keys():
        after, before, groups = counts["informed"], counts["uninformed"], labels["informed"]
        report["gain"] = paired_interval(after.share, before.share, groups)
        report["gain_complete"] = paired_interval(after.complete, before.complete, groups)
        report["gain_foreign"] = paired_interval(after.foreign, before.foreign, groups)
    return report


def _count(scorer: Scorer, pictures: Pictures, vocabulary: Vocabulary) -> Counts:
    """The details of a whole set; what is found is counted as it comes, for images times concepts are too many."""
    counts, end = list[Counts](), 0
    for rows in found(scorer, pictures.images, vocabulary.concepts):
        start, end = end, end + len(rows)
        counts.append(count_details(rows, vocabulary.own[pictures.labels[start:end]]))
    return Counts.joined(counts)


def _counted(rows: np.ndarray, vocabulary: Vocabulary, label: int) -> Counts:
    """The details of images of one class, where `rows` (N, K) says which are found."""
    return count_details(rows, np.broadcast_to(vocabulary.own[label], rows.shape)) if len(rows) else Counts.joined([])


def teacher_accuracy(teacher: Teacher, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """Share of each set's images that a teacher recognises as their class, with the gain and its interval."""
    logits = {name: _read(partial(_logits, teacher), pictures.images) for name, pictures in sets.items()}
    right = {name: rows.argmax(1) == sets[name].labels for name, rows in logits.items()}
    return _accuracy(right, {name: pictures.labels for name, pictures in sets.items()})


def _accuracy(right: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    report: dict[str, Any] = {name: float(values.mean()) for name, values in right.items()}
    if {"informed", "uninformed"} <= right.keys():
        report["gain"] = paired_interval(right["informed"], right["uninformed"], labels["informed"])
    return report


def _logits(teacher: Teacher, pixels: torch.Tensor) -> torch.Tensor:
    return teacher.logits((pixels + 1) / 2)  # teachers take [0, 1]


def nuisance_diversity(reader: Classifier, sets: Mapping[str, Pictures]) -> dict[str, Any]:
    """How much each set varies in what carries no meaning (pose, colour, background), within classes.

    Measured on nuisances that a regressor reads, because complete images of one class are bound to be alike in their
    details; about 1 on real images. With the gain and its interval.
    """
    values = {name: _read(reader.logits, pictures.images) for name, pictures in sets.items()}
    return _diversity(values, {name: pictures.labels for name, pictures in sets.items()})


def _diversity(values: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]) -> dict[str, Any]:
    report: dict[str, Any] = {name: spread_within_classes(v, labels[name]) for name, v in values.items()}
    if {"informed", "uninformed"} <= values.keys():
        groups = labels["informed"]
        report["gain"] = paired_interval(values["informed"], values["uninformed"], groups, spread_within_classes)
    return report


def _read(logits: Callable[[torch.Tensor], torch.Tensor], pictures: Iterable[Image.Image]) -> np.ndarray:
    """Logits of images, (N, K)."""
    with torch.no_grad():
        return np.concatenate([logits(pixels).float().cpu().numpy() for pixels in images.batches(pictures)])
