"""What a generated set came to: measured on the stored files, and drawn."""

from __future__ import annotations

import json
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

from concord.concepts.selection import embed_images
from concord.data import ImageSet
from concord.data.sampling import MOST, some_images, spread
from concord.methods.batch_sampler import BatchSampler
from concord.methods.concept_plan import ConceptPlan
from concord.metrics import embeddings
from concord.metrics.completeness import (
    Evidence,
    Pictures,
    Vocabulary,
    completeness,
    details,
    found,
    nuisance_diversity,
    teacher_accuracy,
)
from concord.metrics.copies import copies_summary, near_copies
from concord.metrics.measures import lines
from concord.metrics.scorers import Detector, Percentile, Scorer
from concord.models.encoder import Encoder
from concord.models.hub import model_path
from concord.models.teachers import load_teacher
from concord.plan import Sample
from concord.recipe import Recipe
from concord.report.contact_sheet import Band, Tile, contact_sheet
from concord.report.page import write_report
from concord.runs.store import read_manifest
from concord.storage import images
from concord.storage.atomic import write_json
from concord.text import plain

SHEET_CLASSES, SHEET_SAMPLES, HEATMAP_CLASSES = 12, 8, 100


REAL_IMAGES, REAL_IN_ALL, REAL_SIDE = 100, 2000, 512
"""Real images a class behind percentiles; those that the report measures beside the made ones are so many in all, and
no larger, so that a thousand classes of photographs fit into memory."""


class Outcome:
    """The measures and pictures of a run's directory; `variants` are its sets, ``images`` first."""

    def __init__(
        self, recipe: Recipe, data: ImageSet, maker: BatchSampler, concepts: ConceptPlan, variants: Sequence[str]
    ) -> None:
        self._recipe, self._data, self._maker, self._concepts = recipe, data, maker, concepts
        self.variants = tuple(variants)
        self._informed = recipe.informing.enabled
        self._names = [entry.class_name for entry in data.classes]
        self._skip = recipe.unreadable == "skip"
        self._embedded: tuple[str, Tensor] | None = None

    def _embed_real(self, encoder: Encoder, name: str) -> Tensor:
        """Unit embeddings (N, D) of real images of a class: what its percentiles are taken among.

        The last class's are kept: percentiles are taken phrase by phrase, class by class.
        """
        if self._embedded is None or self._embedded[0] != name:
            labels = [label for label, other in enumerate(self._names) if other == name]
            rows = [embed_images(encoder, self._data, label, REAL_IMAGES, self._skip) for label in labels]
            self._embedded = (name, torch.cat(rows))
        return self._embedded[1]

    @cached_property
    def _scorer(self) -> Scorer | None:
        settings = self._recipe.scorer
        if settings.kind == "detector" and settings.model:
            return Detector(self._maker.classifier(settings.model, "scorer.model"))
        return self._percentile if settings.kind == "percentile" else None

    @cached_property
    def _percentile(self) -> Percentile:
        settings = self._recipe.scorer
        other = settings.model if settings.kind == "percentile" else None
        encoder = (
            Encoder.from_pretrained(model_path(other), device=self._maker.device, key="scorer.model")
            if other
            else self._maker.encoder
        )
        return Percentile(encoder, lambda name: self._embed_real(encoder, name))

    @cached_property
    def _details(self) -> list[list[str]]:
        """What each class's images should show: the data set's known details, else the kept concepts."""
        known = self._data.known_details
        if known is not None:
            return [list(known[entry.key]) for entry in self._data.classes]
        return self._concepts.kept if self._concepts.used else [[] for _ in self._names]

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self._names, self._details, shared=self._data.known_details is not None)

    def _sets(self, out: Path) -> dict[str, Pictures]:
        """The stored sets by name, and real images as the yardstick: a set need not be more complete than these."""
        sets = {}
        for variant in self.variants:
            rows = read_manifest(out / variant)
            name = "informed" if variant == "images" and self._informed else "uninformed"
            sets[name] = Pictures(_load(out / variant, rows), np.array([row["label"] for row in rows]))
        most = max(1, min(REAL_IMAGES, REAL_IN_ALL // len(self._names)))
        real = [
            [images.shrunk(picture, REAL_SIDE) for picture in some_images(self._data, c, most, self._skip)]
            for c in range(len(self._names))
        ]
        labels = [c for c, pictures in enumerate(real) for _ in pictures]
        return sets | {"real": Pictures([p for pictures in real for p in pictures], np.array(labels))}

    def results(self, out: Path) -> dict[str, Any]:
        """Measure; leave details.json, near_copies.json and embeddings.npz, and return what results.json shall hold."""
        recipe, results = self._recipe, self._active_share(out) | self._operations(out)
        if self._concepts.used:
            results["details"] = self._evidence(out)
            results["near_copies"] = self._near_copies(out)
            self._save_embeddings(out)
        scored = self._scorer is not None and all(self._details)
        if not (scored or recipe.teacher or recipe.nuisance):
            return results
        sets = self._sets(out)
        if self._scorer is not None and scored:
            results["completeness"] = completeness(self._scorer, self._vocabulary, sets)
        if recipe.teacher:
            teacher = load_teacher(recipe.teacher, self._data.classes, device=str(self._maker.device))
            results["teacher_accuracy"] = teacher_accuracy(teacher, sets)
        if recipe.nuisance:
            reader = self._maker.classifier(recipe.nuisance, "nuisance")
            results["nuisance_diversity"] = nuisance_diversity(reader, sets)
        return results

    def _evidence(self, out: Path) -> dict[str, Any]:
        """Leave details.json, which detail each image is likely to lack, and return it in short for each set."""
        scorer = self._percentile
        short: dict[str, Any] = {}
        everything: dict[str, Any] = {}
        for variant in self.variants:
            evidence, rows = Evidence(scorer.threshold), read_manifest(out / variant)
            for label, group in groupby(rows, key=itemgetter("label")):  # class by class: not all fit into memory
                name, of_class = self._names[label], list(group)
                pictures, phrases = _load(out / variant, of_class), self._concepts.kept[label]
                files = [f"{variant}/{row['file_name']}" for row in of_class]
                evidence.add(
                    name, files, details(scorer, name, phrases, pictures), self._shown(pictures, name, phrases)
                )
            short["informed" if variant == "images" else "uninformed"] = evidence.summary()
            everything |= evidence.images
        encoder = self._recipe.scorer.model if self._recipe.scorer.kind == "percentile" else None
        record = {"encoder": encoder or self._recipe.encoder, "missing_below": scorer.threshold, "images": everything}
        write_json(out / "details.json", record)
        return short

    def _shown(self, pictures: Sequence[Image.Image], name: str, phrases: Sequence[str]) -> list[list[bool]] | None:
        """Which phrases a detector finds in each image; None without a detector, or where it does not know them."""
        detector = self._scorer
        if not isinstance(detector, Detector) or not detector.knows(phrases):
            return None
        concepts = [(name, phrase) for phrase in phrases]
        ratings = [detector.rate(pixels, concepts) for pixels in images.batches(pictures)]
        return (torch.cat(ratings) >= detector.threshold).tolist() if ratings else []

    def _near_copies(self, out: Path) -> dict[str, int]:
        """Leave near_copies.json, each made image's nearest real one, and return it in short."""
        made = (
            (f"{variant}/{row['file_name']}", picture, row["label"], row["source"])
            for variant in self.variants
            for row in read_manifest(out / variant)
            for picture in _load(out / variant, [row])
        )
        record = near_copies(
            self._maker.encoder, made, self._data, encoder_name=self._recipe.encoder, skip_unreadable=self._skip
        )
        write_json(out / "near_copies.json", record)
        return copies_summary(record)

    def _save_embeddings(self, out: Path) -> None:
        """Leave embeddings.npz, some of each set, for the picture of how they lie beside each other."""
        encoder = self._maker.encoder
        sets: dict[str, tuple[np.ndarray, Sequence[int]]] = {}
        for variant in self.variants:
            rows = read_manifest(out / variant)
            rows = [rows[i] for i in spread(len(rows))]
            pictures = (picture for row in rows for picture in _load(out / variant, [row]))
            name = "informed" if variant == "images" else "uninformed"
            sets[name] = embeddings.embed(encoder, pictures), [row["label"] for row in rows]
            if variant == "images" and rows and rows[0]["source"]:
                read = (self._data.read(row["source"]) for row in rows)
                sets["conditions"] = embeddings.embed(encoder, read), [row["label"] for row in rows]
        most = max(1, MOST // len(self._names))
        real = [embed_images(encoder, self._data, label, most, self._skip) for label in range(len(self._names))]
        of = [label for label, rows in enumerate(real) for _ in rows]
        sets["real"] = torch.cat(real).half().numpy(), of
        embeddings.save(out / "embeddings.npz", sets)

    def _operations(self, out: Path) -> dict[str, Any]:
        """Operations of one image of the first variant; those of an earlier call where nothing can be counted now."""
        rows = read_manifest(out / self.variants[0])
        if not rows:
            return {}
        row = rows[-1]  # its checkpoint is the one that was loaded last
        sample = Sample(
            row["label"],
            row["index"],
            row["seed"],
            tuple(row["positives"]),
            tuple(row["negatives"]),
            row["prompt"],
            row["source"],
            row["checkpoint"],
        )
        counted = self._maker.operations(sample, self._informed)
        if counted is not None:
            return {"tflop_per_image": float(f"{counted / 1e12:.4g}")}
        try:
            earlier = json.loads((out / "results.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: earlier[key] for key in ("tflop_per_image",) if key in earlier}

    def _active_share(self, out: Path) -> dict[str, Any]:
        """Where images stop early: the mean share of their gradients that were taken."""
        if not self._informed or self._recipe.informing.stop is None:
            return {}
        shares = [row["scores"]["active_share"] for row in read_manifest(out / "images")]
        return {"active_share": round(float(np.mean(shares)), 4)}

    def finish(self, out: Path) -> None:
        """Draw samples.png, concepts.png, similarity.png and report.html, when results.json is written."""
        bands = []
        rows = {variant: read_manifest(out / variant) for variant in self.variants}
        for c in sorted({row["label"] for row in rows["images"]})[:SHEET_CLASSES]:
            tiles = {
                variant: self._tiles(_load(out / variant, [r for r in all_rows if r["label"] == c][:SHEET_SAMPLES]), c)
                for variant, all_rows in rows.items()
            }
            before: Sequence[Tile | None] = tiles.get("uninformed") or [None] * len(tiles["images"])
            # In the vocabulary's order, which is that of the tiles' marks.
            phrases = tuple(self._vocabulary.concepts[k][1] for k in np.flatnonzero(self._vocabulary.own[c]))
            shown = plain(self._names[c]), tuple(map(plain, phrases))
            bands.append(Band(*shown, list(zip(before, tiles["images"], strict=True))))
        if self._concepts.used:
            self._draw_concepts(out)
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        notes = list(lines(results, "sheet"))
        contact_sheet(bands, f"concord distill {self._recipe.name}", notes).save(out / "samples.png")
        write_report(out)

    def _draw_concepts(self, out: Path) -> None:
        """Leave pictures of the concepts: which were kept and why, and how alike the classes' names are."""
        from concord.report.charts import activation_chart, save
        from concord.report.similarity import by_likeness, heatmap

        rated = list(zip(self._names, self._concepts.selection, strict=True))
        save(
            activation_chart(rated, "Concepts kept and dropped by their activation on real images"),
            out / "concepts.png",
        )
        if 1 < len(self._names) <= HEATMAP_CLASSES:
            order = by_likeness(self._concepts.similarity)
            ordered = self._concepts.similarity[np.ix_(order, order)]
            save(heatmap([self._names[i] for i in order], ordered), out / "similarity.png")

    def _tiles(self, pictures: list[Image.Image], c: int) -> list[Tile]:
        if self._scorer is None or not self._details[c]:
            return [Tile(picture) for picture in pictures]
        columns = np.flatnonzero(self._vocabulary.own[c])
        marks = found(self._scorer, pictures, self._vocabulary)[:, columns]
        return [Tile(picture, tuple(map(bool, row))) for picture, row in zip(pictures, marks, strict=True)]


def _load(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Image.Image]:
    pictures = []
    for row in rows:
        with Image.open(folder / row["file_name"]) as image:
            pictures.append(image.convert("RGB"))
    return pictures
