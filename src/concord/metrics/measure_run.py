"""What a generated set came to: measured on the stored files, so that what is measured is what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concord.concepts.plan import ConceptPlan
from concord.concepts.selection import embed_images
from concord.data import ImageSet
from concord.data.sampling import MOST, some_images, spread
from concord.metrics import embeddings
from concord.metrics.completeness import (
    Evidence,
    Pictures,
    Vocabulary,
    completeness,
    details,
    nuisance_diversity,
    teacher_accuracy,
)
from concord.metrics.copies import copies_summary, near_copies
from concord.metrics.scorers import Detector, Percentile, Scorer
from concord.models.cache import ModelCache
from concord.models.encoder import Encoder
from concord.models.hub import model_path
from concord.models.teachers import load_teacher
from concord.recipe import Recipe
from concord.runs.store import read_manifest
from concord.storage import images
from concord.storage.atomic import write_json

REAL_IMAGES, REAL_IN_ALL, REAL_SIDE = 100, 2000, 512
"""Real images a class behind percentiles; those that the report measures beside the made ones are so many in all, and
no larger, so that a thousand classes of photographs fit into memory."""


class Measuring:
    """A run whose images are all stored, with what measures share; `variants` are its sets, ``images`` first."""

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSet,
        out: Path,
        variants: Sequence[str],
        models: ModelCache,
        concepts: ConceptPlan,
    ) -> None:
        self.recipe, self.data, self.out, self.variants = recipe, data, out, tuple(variants)
        self.models, self.concepts = models, concepts
        self.names = [entry.class_name for entry in data.classes]
        self._guided = recipe.informing.enabled or bool(getattr(recipe, "guides", ()))
        self._skip = recipe.unreadable == "skip"
        self._embedded: tuple[str, Tensor] | None = None

    def _embed_real(self, encoder: Encoder, name: str) -> Tensor:
        """Unit embeddings (N, D) of real images of a class: what its percentiles are taken among.

        The last class's are kept: percentiles are taken phrase by phrase, class by class.
        """
        if self._embedded is None or self._embedded[0] != name:
            labels = [label for label, other in enumerate(self.names) if other == name]
            rows = [embed_images(encoder, self.data, label, REAL_IMAGES, self._skip) for label in labels]
            self._embedded = (name, torch.cat(rows))
        return self._embedded[1]

    @cached_property
    def scorer(self) -> Scorer | None:
        settings = self.recipe.scorer
        if settings.kind == "detector" and settings.model:
            return Detector(self.models.classifier(settings.model, "scorer.model"))
        return self.percentile if settings.kind == "percentile" else None

    @cached_property
    def percentile(self) -> Percentile:
        settings = self.recipe.scorer
        other = settings.model if settings.kind == "percentile" else None
        encoder = (
            Encoder.from_pretrained(model_path(other), device=self.models.device, key="scorer.model")
            if other
            else self.models.encoder
        )
        return Percentile(encoder, lambda name: self._embed_real(encoder, name))

    @cached_property
    def details(self) -> list[list[str]]:
        """What each class's images should show: the data set's known details, else the kept concepts."""
        known = self.data.known_details
        if known is not None:
            return [list(known[entry.key]) for entry in self.data.classes]
        return self.concepts.kept if self.concepts.used else [[] for _ in self.names]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.names, self.details, shared=self.data.known_details is not None)

    @cached_property
    def sets(self) -> dict[str, Pictures]:
        """The stored sets by name, and real images as the yardstick: a set need not be more complete than these."""
        sets = {}
        for variant in self.variants:
            rows = read_manifest(self.out / variant)
            name = "informed" if variant == "images" and self._guided else "uninformed"
            sets[name] = Pictures(load_pictures(self.out / variant, rows), np.array([row["label"] for row in rows]))
        most = max(1, min(REAL_IMAGES, REAL_IN_ALL // len(self.names)))
        real = [
            [images.shrunk(picture, REAL_SIDE) for picture in some_images(self.data, c, most, self._skip)]
            for c in range(len(self.names))
        ]
        labels = [c for c, pictures in enumerate(real) for _ in pictures]
        return sets | {"real": Pictures([p for pictures in real for p in pictures], np.array(labels))}

    def results(self) -> dict[str, Any]:
        """Measure; leave details.json, near_copies.json and embeddings.npz, and return what results.json shall hold."""
        recipe, results = self.recipe, dict[str, Any]()
        if self.concepts.used:
            results["details"] = self._evidence()
            results["near_copies"] = self._near_copies()
            self._save_embeddings()
        scored = self.scorer is not None and all(self.details)
        if not (scored or recipe.teacher or recipe.nuisance):
            return results
        sets = self.sets
        if self.scorer is not None and scored:
            results["completeness"] = completeness(self.scorer, self.vocabulary, sets)
        if recipe.teacher:
            teacher = load_teacher(recipe.teacher, self.data.classes, device=str(self.models.device))
            results["teacher_accuracy"] = teacher_accuracy(teacher, sets)
        if recipe.nuisance:
            reader = self.models.classifier(recipe.nuisance, "nuisance")
            results["nuisance_diversity"] = nuisance_diversity(reader, sets)
        return results

    def _evidence(self) -> dict[str, Any]:
        """Leave details.json, which detail each image is likely to lack, and return it in short for each set."""
        scorer = self.percentile
        short: dict[str, Any] = {}
        everything: dict[str, Any] = {}
        for variant in self.variants:
            evidence, rows = Evidence(scorer.threshold), read_manifest(self.out / variant)
            for label, group in groupby(rows, key=itemgetter("label")):  # class by class: not all fit into memory
                name, of_class = self.names[label], list(group)
                pictures, phrases = load_pictures(self.out / variant, of_class), self.concepts.kept[label]
                files = [f"{variant}/{row['file_name']}" for row in of_class]
                evidence.add(
                    name, files, details(scorer, name, phrases, pictures), self._shown(pictures, name, phrases)
                )
            short["informed" if variant == "images" else "uninformed"] = evidence.summary()
            everything |= evidence.images
        encoder = self.recipe.scorer.model if self.recipe.scorer.kind == "percentile" else None
        record = {"encoder": encoder or self.recipe.encoder, "missing_below": scorer.threshold, "images": everything}
        write_json(self.out / "details.json", record)
        return short

    def _shown(self, pictures: Sequence[Image.Image], name: str, phrases: Sequence[str]) -> list[list[bool]] | None:
        """Which phrases a detector finds in each image; None without a detector, or where it does not know them."""
        detector = self.scorer
        if not isinstance(detector, Detector) or not detector.knows(phrases):
            return None
        concepts = [(name, phrase) for phrase in phrases]
        ratings = [detector.rate(pixels, concepts) for pixels in images.batches(pictures)]
        return (torch.cat(ratings) >= detector.threshold).tolist() if ratings else []

    def _near_copies(self) -> dict[str, int]:
        """Leave near_copies.json, each made image's nearest real one, and return it in short."""
        made = (
            (f"{variant}/{row['file_name']}", picture, row["label"], row["source"])
            for variant in self.variants
            for row in read_manifest(self.out / variant)
            for picture in load_pictures(self.out / variant, [row])
        )
        record = near_copies(
            self.models.encoder, made, self.data, encoder_name=self.recipe.encoder, skip_unreadable=self._skip
        )
        write_json(self.out / "near_copies.json", record)
        return copies_summary(record)

    def _save_embeddings(self) -> None:
        """Leave embeddings.npz, some of each set, for the picture of how they lie beside each other."""
        encoder = self.models.encoder
        sets: dict[str, tuple[np.ndarray, Sequence[int]]] = {}
        for variant in self.variants:
            rows = read_manifest(self.out / variant)
            rows = [rows[i] for i in spread(len(rows))]
            pictures = (picture for row in rows for picture in load_pictures(self.out / variant, [row]))
            name = "informed" if variant == "images" else "uninformed"
            sets[name] = embeddings.embed(encoder, pictures), [row["label"] for row in rows]
            if variant == "images" and rows and rows[0]["source"]:
                read = (self.data.read(row["source"]) for row in rows)
                sets["conditions"] = embeddings.embed(encoder, read), [row["label"] for row in rows]
        most = max(1, MOST // len(self.names))
        real = [embed_images(encoder, self.data, label, most, self._skip) for label in range(len(self.names))]
        of = [label for label, rows in enumerate(real) for _ in rows]
        sets["real"] = torch.cat(real).half().numpy(), of
        embeddings.save(self.out / "embeddings.npz", sets)

    def active_share(self) -> dict[str, Any]:
        """Where images stop early: the mean share of their gradients that were taken."""
        if not self._guided or self.recipe.informing.stop is None:
            return {}
        shares = [row["scores"]["active_share"] for row in read_manifest(self.out / "images")]
        return {"active_share": round(float(np.mean(shares)), 4)}


def load_pictures(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Image.Image]:
    pictures = []
    for row in rows:
        with Image.open(folder / row["file_name"]) as image:
            pictures.append(image.convert("RGB"))
    return pictures
