"""Generate a set with a diffusion model, informed by concepts or not: `method=dit`, `minimax`, `unclip` or `text`.

The parent plans: it selects concepts on real images (Eq. 10), draws negatives, condition images and prompts, and
writes them into the samples. A worker then makes batches from samples alone (`concord.methods.making`). Results are
read back from the stored files, so that what is scored is what was kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concord import images
from concord.concepts import Concept, concept_text, draw_negatives, load_bank
from concord.concepts.bank import Bank
from concord.concepts.negatives import class_weights
from concord.concepts.selection import selection_record
from concord.concepts.validity import embed_images, name_similarity, select_classes
from concord.console import plain
from concord.data import ImageSet
from concord.data.sampling import some_images
from concord.encoder import Encoder
from concord.errors import ConcordError
from concord.methods.base import Cost, Made
from concord.methods.checkpoints import assign_checkpoints
from concord.methods.class_ids import class_ids
from concord.methods.making import Maker
from concord.methods.prompts import TEMPLATES, prompt
from concord.methods.supply import Supply, shuffled
from concord.models.pipelines import pipeline_labels
from concord.recipe import Recipe, models
from concord.report.page import write_report
from concord.report.sheet import Band, Tile, contact_sheet, sheet_notes
from concord.resources import find_model, model_path
from concord.runs.plan import Sample, sample_seed
from concord.runs.store import read_manifest, write_json
from concord.scoring import embeddings
from concord.scoring.copies import copies_summary, near_copies
from concord.scoring.details import Evidence, details
from concord.scoring.outcome import (
    Pictures,
    Vocabulary,
    completeness,
    found,
    nuisance_diversity,
    teacher_accuracy,
)
from concord.scoring.scorer import Detector, Percentile, Scorer

SHEET_CLASSES, SHEET_SAMPLES, HEATMAP_CLASSES = 12, 8, 100
COST_IMAGES = 2
"""Real images a class that select concepts where only the cost is asked for."""
REAL_IMAGES, REAL_IN_ALL, REAL_SIDE = 100, 2000, 512
"""Real images a class behind percentiles; those that the report measures beside the made ones are so many in all, and
no larger, so that a thousand classes of photographs fit into memory."""


class Generate:
    """See the module's text; the methods are those of `concord.methods.base.Method`."""

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data = recipe, data
        self._informed = recipe.informing.enabled
        self._names = [entry.class_name for entry in data.classes]
        self._skip = recipe.unreadable == "skip"
        self._maker = Maker(recipe, data)
        self._embedded: tuple[str, Tensor] | None = None
        conditioned = recipe.method == "unclip" or recipe.pipeline.image_strength is not None
        self._supply = Supply(data, shuffled(recipe.seed), self._skip) if conditioned else None
        self._checkpoints = (
            assign_checkpoints(recipe.pipeline.checkpoints, data.classes)
            if recipe.method == "minimax"
            else [""] * len(data.classes)
        )

        if recipe.method in ("dit", "generate", "minimax"):
            labels = pipeline_labels(recipe.pipeline.model or "")
            if labels is not None:  # else the model is not here yet, and it is checked when it is loaded
                class_ids(labels, data.classes, str(recipe.pipeline.model))

    @property
    def batch_size(self) -> int:
        return self._recipe.batch_size

    @property
    def variants(self) -> tuple[str, ...]:
        return ("images", "uninformed") if self._recipe.uninformed and self._informed else ("images",)

    def count(self, class_index: int, ipc: int) -> int:
        return ipc

    # --- what the parent decides -------------------------------------------------------------------------------

    @property
    def _uses_concepts(self) -> bool:
        weights = self._recipe.informing.objective
        return self._informed and bool(weights.contrastive or weights.cosine)

    @cached_property
    def _bank(self) -> Bank | None:
        if self._recipe.concepts.bank is None:
            return None
        return load_bank(self._recipe.concepts.bank)

    @cached_property
    def _selection(self) -> list[list[Concept]]:
        """Every class's phrases with their activations on its real images, the kept ones marked; [] without a bank."""
        settings, bank = self._recipe.concepts, self._bank
        if bank is None:
            pinned = {self._data.classes.find(name).label for name, phrases in settings.pinned.items() if phrases}
            if self._uses_concepts and len(pinned) < len(self._names):
                raise ConcordError(
                    "informing by concepts needs concepts.bank (a bundled name or a JSON file), or concepts.pinned for"
                    " every class; or inform by the class name alone (informing.objective.contrastive=0"
                    " informing.objective.class_name=1)"
                )
            if not pinned:
                return [[] for _ in self._names]
        return select_classes(
            self._data,
            bank,
            self._maker.encoder,
            keep=settings.keep,
            most=settings.images,
            pinned=settings.pinned,
            skip_unreadable=self._skip,
        )

    def recall(self, concepts: Mapping[str, Any]) -> None:
        known = concepts.get("classes", {})
        if self._uses_concepts and all(entry.folder in known for entry in self._data.classes):
            self._selection = [
                [Concept(**concept) for concept in known[entry.folder]["concepts"]] for entry in self._data.classes
            ]

    @cached_property
    def _kept(self) -> list[list[str]]:
        return [[concept.phrase for concept in concepts if concept.kept] for concepts in self._selection]

    @cached_property
    def _similarity(self) -> np.ndarray:
        return name_similarity(self._maker.encoder, self._names)

    def sample(self, class_index: int, index: int) -> Sample:
        seed = sample_seed(self._recipe.seed, self._data.classes[class_index].key, index)
        name = self._names[class_index]
        positives: tuple[str, ...] = ()
        negatives: tuple[str, ...] = ()
        if self._uses_concepts:
            positives = tuple(concept_text(name, phrase) for phrase in self._kept[class_index])
            settings = self._recipe.concepts.negatives
            weights = class_weights(self._similarity[class_index], class_index, settings.kind, settings.k)
            drawn = draw_negatives(
                self._kept, class_index, weights, settings.count, np.random.default_rng(seed), settings.kind
            )
            negatives = tuple(concept_text(self._names[c], phrase) for c, phrase in drawn)
        return Sample(
            class_index,
            index,
            seed,
            positives,
            negatives,
            prompt=self._prompt(class_index, index),
            source=self._supply.cyclic(class_index, index) if self._supply else "",
            checkpoint=self._checkpoints[class_index],
        )

    def _prompt(self, class_index: int, index: int) -> str:
        """What the sample's text says: a template with the class's name, or the name where no text is read."""
        entry, recipe = self._data.classes[class_index], self._recipe
        if recipe.method not in ("unclip", "text"):
            return entry.class_name
        return prompt(entry.class_name, entry.key, index, recipe.seed, recipe.pipeline.prompts or TEMPLATES)

    def concepts(self) -> dict[str, Any] | None:
        if not self._uses_concepts:
            return None
        bank = self._bank.name if self._bank else None
        return selection_record(bank, self._recipe.encoder, self._data.classes, self._selection, self._similarity)

    # --- what a worker makes -----------------------------------------------------------------------------------

    def make(self, batch: Sequence[Sample], variant: str) -> list[Made]:
        return self._maker.make(batch, informed=self._informed and variant == "images")

    # --- what it came to ---------------------------------------------------------------------------------------

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
        return self._kept if self._uses_concepts else [[] for _ in self._names]

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
        recipe, results = self._recipe, self._active_share(out)
        if self._uses_concepts:
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
            teacher = self._maker.classifier(recipe.teacher, "teacher")
            results["teacher_accuracy"] = teacher_accuracy(teacher, self._names, sets)
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
                found = details(scorer, name, self._kept[label], _load(out / variant, of_class))
                evidence.add(name, [f"{variant}/{row['file_name']}" for row in of_class], found)
            short["informed" if variant == "images" else "uninformed"] = evidence.summary()
            everything |= evidence.images
        encoder = self._recipe.scorer.model if self._recipe.scorer.kind == "percentile" else None
        record = {"encoder": encoder or self._recipe.encoder, "missing_below": scorer.threshold, "images": everything}
        write_json(out / "details.json", record)
        return short

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
        encoder, sets = self._maker.encoder, {}
        for variant in self.variants:
            rows = read_manifest(out / variant)
            rows = [rows[i] for i in embeddings.spread(len(rows))]
            pictures = (picture for row in rows for picture in _load(out / variant, [row]))
            name = "informed" if variant == "images" else "uninformed"
            sets[name] = embeddings.embed(encoder, pictures), [row["label"] for row in rows]
            if variant == "images" and self._supply:
                read = (self._data.read(row["source"]) for row in rows)
                sets["conditions"] = embeddings.embed(encoder, read), [row["label"] for row in rows]
        most = max(1, embeddings.MOST // len(self._names))
        real = [embed_images(encoder, self._data, label, most, self._skip) for label in range(len(self._names))]
        of = [label for label, rows in enumerate(real) for _ in rows]
        sets["real"] = torch.cat(real).half().numpy(), of
        embeddings.save(out / "embeddings.npz", sets)

    def _active_share(self, out: Path) -> dict[str, Any]:
        """Where images stop early: the mean share of their gradients that were taken."""
        if not self._informed or self._recipe.informing.stop is None:
            return {}
        shares = [row["scores"]["active_share"] for row in read_manifest(out / "images")]
        return {"active_share": round(float(np.mean(shares)), 4)}

    def finish(self, out: Path) -> None:
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
        if self._uses_concepts:
            self._draw_concepts(out)
        results = json.loads((out / "results.json").read_text(encoding="utf-8"))
        contact_sheet(bands, f"concord distill {self._recipe.name}", sheet_notes(results)).save(out / "samples.png")
        write_report(out)

    def _draw_concepts(self, out: Path) -> None:
        """Leave pictures of the concepts: which were kept and why, and how alike the classes' names are."""
        from concord.report.activations import activation_chart
        from concord.report.heatmap import by_likeness, heatmap
        from concord.report.plotting import save

        rated = list(zip(self._names, self._selection, strict=True))
        save(
            activation_chart(rated, "Concepts kept and dropped by their activation on real images"),
            out / "concepts.png",
        )
        if 1 < len(self._names) <= HEATMAP_CLASSES:
            order = by_likeness(self._similarity)
            ordered = self._similarity[np.ix_(order, order)]
            save(heatmap([self._names[i] for i in order], ordered), out / "similarity.png")

    def _tiles(self, pictures: list[Image.Image], c: int) -> list[Tile]:
        if self._scorer is None or not self._details[c]:
            return [Tile(picture) for picture in pictures]
        columns = np.flatnonzero(self._vocabulary.own[c])
        marks = found(self._scorer, pictures, self._vocabulary)[:, columns]
        return [Tile(picture, tuple(map(bool, row))) for picture, row in zip(pictures, marks, strict=True)]

    def cost(self) -> Cost:
        """Time a few steps of a small batch where every model is on this machine; else nothing is known."""
        if any(find_model(model) is None for model in models(self._recipe).values()):
            return Cost()
        classes = len(self._names)
        few = self._recipe.concepts.model_copy(update={"images": COST_IMAGES})
        planned = Generate(self._recipe.model_copy(update={"concepts": few}), self._data)
        planned._maker = self._maker
        batch = [planned.sample(i % classes, i // classes) for i in range(min(4, self.batch_size))]
        seconds = 0.0
        for variant in self.variants:
            informed = self._informed and variant == "images"
            self._maker.make(batch[:1], informed, steps=1)  # load and warm up
            times = []
            for steps in (1, 3):
                start = time.perf_counter()
                self._maker.make(batch, informed, steps)
                times.append(time.perf_counter() - start)
            step = max(0.0, times[1] - times[0]) / 2
            seconds += (max(0.0, times[0] - step) + step * self._recipe.pipeline.steps) / len(batch)
        return Cost(seconds_per_image=seconds)


def _load(folder: Path, rows: Sequence[dict[str, Any]]) -> list[Image.Image]:
    pictures = []
    for row in rows:
        with Image.open(folder / row["file_name"]) as image:
            pictures.append(image.convert("RGB"))
    return pictures
