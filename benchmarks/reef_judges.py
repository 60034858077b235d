"""Who judges sets of reef in benchmarks: models that do not inform. A part of the scripts that compare sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concord.concepts.selection import embed_images
from concord.metrics.completeness import completeness, nuisance_diversity, teacher_accuracy
from concord.metrics.measure_run import Pictures
from concord.metrics.scorers import Detector, Percentile, Vocabulary
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.models.hub import model_path
from concord.models.teachers import load_teacher
from concord.recipe import load
from concord.runs.directory import open_run
from concord.workflows.executors import open_recipe_data

REAL_IMAGES = 100
"""Of a class, behind the other encoder's percentiles."""


def as_set(images: Sequence[Image.Image], labels: Sequence[int]) -> Pictures:
    return Pictures(list(images), np.array(labels))


def pictures(out: Path, variant: str = "images") -> Pictures:
    """A set of a run."""
    samples = open_run(out).samples(variant)
    return as_set([sample.image for sample in samples], [sample.label for sample in samples])


class Judge:
    """The reef recipe's detector, teacher and regressor, and its second encoder: none informs."""

    def __init__(self) -> None:
        full = load("reef")
        data = open_recipe_data(full)
        names = [entry.class_name for entry in data.classes]
        known = data.known_details or {}
        details = [list(known[entry.key]) for entry in data.classes]
        self.vocabulary = Vocabulary.of(names, details, shared=True)
        self._by_class = Vocabulary.of(names, details, shared=False)
        models = (str(full.scorer.model), str(full.nuisance))
        detector, self.reader = (Classifier.from_pretrained(model_path(m)) for m in models)
        self.teacher = load_teacher(str(full.teacher), data.classes)
        self.detector = Detector(detector)
        encoder = Encoder.from_pretrained(model_path(str(full.scorer.encoder)))
        embedded = {
            entry.class_name: embed_images(encoder, data, entry.label, REAL_IMAGES, False) for entry in data.classes
        }
        self._other = Percentile(encoder, embedded.__getitem__)

    def compare(self, after: Pictures, before: Pictures) -> dict[str, Any]:
        """Figures of a set and its gains over another of the same seeds.

        `other_encoder`: the share of own details whose percentile by the second encoder is above the lowest quarter of
        real images, 0.75 of which are there by construction.
        """
        sets = {"informed": after, "uninformed": before}
        seen = completeness(self._other, self._by_class, sets)
        return {
            "completeness": completeness(self.detector, self.vocabulary, sets),
            "other_encoder": {
                "informed": seen["informed"]["mean"],
                "uninformed": seen["uninformed"]["mean"],
                "gain": seen["gain"],
            },
            "teacher_accuracy": teacher_accuracy(self.teacher, sets),
            "nuisance_diversity": nuisance_diversity(self.reader, sets),
        }
