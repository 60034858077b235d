"""Generate a set with a diffusion model, informed by concepts or not: `method=dit`.

The parent plans: it selects concepts on real images (Eq. 10), draws negatives, and writes both into the samples. A
worker then makes batches from samples alone. Results are read back from the stored files, so that what is scored is
what was kept.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concord import images
from concord.concepts import Concept, concept_text, draw_negatives, load_bank, select
from concord.concepts.bank import Bank
from concord.concepts.negatives import class_weights
from concord.concepts.selection import mean_embedding
from concord.data import ImageSet
from concord.diffusion.families.dit import DiT
from concord.diffusion.sampler import Guide, noise, sample
from concord.encoder import Encoder
from concord.errors import ConcordError, nearest
from concord.informing.informer import Informer
from concord.informing.objectives import Objective, class_name, classifier, contrastive, cosine
from concord.methods.base import Cost, Made
from concord.models.classifier import Classifier
from concord.recipe import Recipe, models
from concord.report.sheet import Band, Tile, contact_sheet
from concord.resources import find_model, model_path, resolve_device
from concord.runs.plan import Sample, sample_seed
from concord.runs.store import read_manifest
from concord.scoring.completeness import Counts, count_details, paired_interval, spread_within_classes
from concord.scoring.scorer import Detector, Percentile, Scorer

SHEET_CLASSES, SHEET_SAMPLES = 12, 8
REAL_IMAGES = 100
"""Real images a class behind the yardsticks of the report and of the percentile scorer."""


class Generate:
    """See the module's text; the methods are those of `concord.methods.base.Method`."""

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data = recipe, data
        self._informed = recipe.informing.enabled
        self._names = [entry.class_name for entry in data.classes]

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
        keys = [entry.bank_key or entry.class_name for entry in self._data.classes]
        pinned = _by_class(settings.pinned, self._data)
        if bank is None:
            if self._uses_concepts and not all(pinned):
                raise ConcordError(
                    "informing by concepts needs concepts.bank (a bundled name or a JSON file), or concepts.pinned for"
                    " every class; or inform by the class name alone (informing.objective.contrastive=0"
                    " informing.objective.class_name=1)"
                )
            lists: list[tuple[str, ...]] = [()] * len(keys)
        else:
            bank.require(keys)
            lists = [bank.phrases(key) for key in keys]
        if not any(lists) and not any(pinned):
            return [[] for _ in keys]
        return [
            select(name, phrases, mean_embedding(self._real_embeddings(i)), self._encoder.texts, settings.keep, pins)
            for i, (name, phrases, pins) in enumerate(zip(self._names, lists, pinned, strict=True))
        ]

    @cached_property
    def _kept(self) -> list[list[str]]:
        return [[concept.phrase for concept in concepts if concept.kept] for concepts in self._selection]

    @cached_property
    def _similarity(self) -> np.ndarray:
        """Cosine between the embeddings of the bare class names, (C, C)."""
        texts = self._encoder.texts(self._names).float()
        return (texts @ texts.T).cpu().double().numpy()

    def sample(self, class_index: int, index: int) -> Sample:
        seed = sample_seed(self._recipe.seed, self._data.classes[class_index].folder, index)
        name = self._names[class_index]
        positives: tuple[str, ...] = ()
        negatives: tuple[str, ...] = ()
        if self._uses_concepts:
            positives = tuple(concept_text(name, phrase) for phrase in self._kept[class_index])
            settings = self._recipe.concepts.negatives
            weights = class_weights(self._similarity[class_index], class_index, settings.kind, settings.k)
            drawn = draw_negatives(self._kept, class_index, weights, settings.count, np.random.default_rng(seed))
            negatives = tuple(concept_text(self._names[c], phrase) for c, phrase in drawn)
        return Sample(class_index, index, seed, positives, negatives, prompt=name)

    def concepts(self) -> dict[str, Any] | None:
        if not self._uses_concepts:
            return None
        return {
            "bank": self._bank.name if self._bank else None,
            "encoder": self._recipe.encoder,
            "classes": {
                entry.folder: {
                    "class_name": entry.class_name,
                    "concepts": [vars(concept) for concept in concepts],
                }
                for entry, concepts in zip(self._data.classes, self._selection, strict=True)
            },
            "similarity": {"classes": self._names, "cosine": self._similarity.round(4).tolist()},
        }

    # --- what a worker makes -----------------------------------------------------------------------------------

    @cached_property
    def _device(self) -> torch.device:
        return torch.device(resolve_device(self._recipe.device))

    @cached_property
    def _dtype(self) -> torch.dtype:
        return getattr(torch, self._recipe.dtype)

    @cached_property
    def _model(self) -> DiT:
        settings = self._recipe.pipeline
        tiny = settings.tiny_decoder if self._recipe.informing.decoder == "tiny" else None
        if self._informed and self._recipe.informing.decoder == "tiny" and tiny is None:
            raise ConcordError("informing.decoder=tiny needs pipeline.tiny_decoder (a directory or hub id)")
        return DiT.from_pretrained(
            model_path(settings.model),
            dtype=self._dtype,
            device=self._device,
            tiny_decoder=model_path(tiny) if tiny else None,
        )

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder.from_pretrained(model_path(self._recipe.encoder), dtype=self._dtype, device=self._device)

    @cached_property
    def _class_ids(self) -> list[int]:
        """The model's class id of every class: the data set's own mapping, or the pipeline's label of that name."""
        labels = self._model.labels
        ids = []
        for entry in self._data.classes:
            found = entry.model_id if entry.model_id is not None else labels.get(entry.class_name)
            if found is None:
                raise ConcordError(
                    f"the model {self._recipe.pipeline.model!r} has no class {entry.class_name!r}"
                    f"{nearest(entry.class_name, labels)}: map the folder to one of its {len(labels)} labels with"
                    f' class_names.{entry.folder}="..."'
                )
            ids.append(found)
        return ids

    def make(self, batch: Sequence[Sample], variant: str) -> list[Made]:
        return self._run(batch, informed=self._informed and variant == "images", steps=self._recipe.pipeline.steps)

    def _run(self, batch: Sequence[Sample], informed: bool, steps: int) -> list[Made]:
        model, settings = self._model, self._recipe.pipeline
        x = noise([s.seed for s in batch], model.latent_shape, self._dtype, self._device)
        generators = [torch.Generator().manual_seed(s.seed) for s in batch]
        for generator in generators:  # a stochastic scheduler goes on where the first noise ended, as diffusers does
            torch.randn(model.latent_shape, generator=generator, dtype=self._dtype)
        denoise = model.denoise(
            [self._class_ids[s.class_index] for s in batch], settings.guidance_scale, channels=settings.channels
        )
        informer = self._informer(batch) if informed else None
        guides: list[Guide] = [informer] if informer else []
        scheduler = model.scheduler(settings.scheduler)
        latents = sample(denoise, x, scheduler, steps=steps, guides=guides, generators=generators)
        with torch.no_grad():
            pixels = model.decode(latents)
        skipped = informer.uninformed_steps.tolist() if informer else [0] * len(batch)
        made = []
        for image, count in zip(images.to_pil(pixels), skipped, strict=True):
            if self._recipe.size:
                image = image.resize((self._recipe.size, self._recipe.size), Image.Resampling.BICUBIC)
            made.append(Made(image, {"uninformed_steps": int(count)} if informer else {}))
        return made

    def _informer(self, batch: Sequence[Sample]) -> Informer:
        settings, weights = self._recipe.informing, self._recipe.informing.objective
        objectives: list[Objective] = []
        if weights.contrastive or weights.cosine:
            positives, own = self._embedded([s.positives for s in batch])
            negatives, other = self._embedded([s.negatives for s in batch])
            temperature = settings.temperature or self._encoder.temperature
            if weights.contrastive:
                objectives.append(
                    Objective(
                        weights.contrastive,
                        lambda image, _: contrastive(image, positives, negatives, temperature, own, other),
                    )
                )
            if weights.cosine:
                objectives.append(Objective(weights.cosine, lambda image, _: cosine(image, positives, own)))
        if weights.class_name:
            names = self._encoder.texts([s.prompt for s in batch])
            objectives.append(Objective(weights.class_name, lambda image, _: class_name(image, names)))
        if weights.classifier and settings.classifier:
            judge = Classifier.from_pretrained(model_path(settings.classifier), dtype=self._dtype, device=self._device)
            ids = _label_ids(judge, [s.prompt for s in batch], "informing.classifier").to(self._device)
            objectives.append(
                Objective(weights.classifier, lambda _, pixels: classifier(judge.logits(pixels), ids))
            )
        return Informer(
            objectives,
            decode=self._model.tiny_decode if settings.decoder == "tiny" else self._model.decode,
            encoder=self._encoder,
            mode=settings.mode,
            weight=settings.weight,
            strength=settings.strength,
            window=settings.window,
            every=settings.every,
        )

    def _embedded(self, texts: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Text embeddings (B, K, D) padded to the longest list, and which of them are texts, (B, K)."""
        longest = max((len(t) for t in texts), default=0)
        mask = torch.tensor([[k < len(t) for k in range(longest)] for t in texts], dtype=torch.bool)
        flat = [text for t in texts for text in [*t, *[""] * (longest - len(t))]]
        embeddings = self._encoder.texts(flat) if flat else torch.zeros(0, 1, device=self._device)
        return embeddings.view(len(texts), longest, -1), mask.view(len(texts), longest).to(self._device)

    # --- what it came to ---------------------------------------------------------------------------------------

    def _real_images(self, class_index: int, most: int | None) -> list[Image.Image]:
        items = self._data.items(class_index)
        if most is not None and len(items) > most:
            items = [items[i * len(items) // most] for i in range(most)]
        return [self._data.read(item) for item in items]

    def _real_embeddings(self, class_index: int, most: int | None = -1) -> Tensor:
        """Unit embeddings (N, D) of real images of a class, at most `concepts.images` of them."""
        pictures = self._real_images(class_index, self._recipe.concepts.images if most == -1 else most)
        with torch.no_grad():
            return torch.cat([self._encoder.images(pixels.to(self._device)) for pixels in images.batches(pictures)]).cpu()

    @cached_property
    def _scorer(self) -> Scorer | None:
        settings = self._recipe.scorer
        if settings.kind == "detector" and settings.model:
            return Detector(Classifier.from_pretrained(model_path(settings.model), device=self._device))
        if settings.kind == "percentile":
            # Another encoder than the informer's, if one is named: a pupil does not mark his own work.
            encoder = (
                Encoder.from_pretrained(model_path(settings.model), device=self._device)
                if settings.model
                else self._encoder
            )
            cache: dict[str, Tensor] = {}

            def real(name: str) -> Tensor:
                if name not in cache:
                    pictures = self._real_images(self._names.index(name), REAL_IMAGES)
                    with torch.no_grad():
                        parts = [encoder.images(pixels.to(self._device)) for pixels in images.batches(pictures)]
                    cache[name] = torch.cat(parts).cpu()
                return cache[name]

            return Percentile(encoder, real)
        return None

    @cached_property
    def _details(self) -> list[list[str]]:
        """What each class's images should show: the data set's known details, else the kept concepts."""
        known = self._data.known_details
        if known is not None:
            return [list(known[entry.folder]) for entry in self._data.classes]
        return self._kept if self._uses_concepts else [[] for _ in self._names]

    def _found(self, pictures: Sequence[Image.Image]) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Which concepts a scorer finds in images, booleans (N, K), and the K concepts."""
        assert self._scorer is not None
        concepts: dict[str, tuple[str, str]] = {}
        for name, details in zip(self._names, self._details, strict=True):
            for phrase in details:
                # With known details a phrase means the same whatever the class; without, it is bound to its class.
                concepts.setdefault(phrase if self._data.known_details else f"{name}\0{phrase}", (name, phrase))
        columns = list(concepts.values())
        ratings = [self._scorer.rate(pixels.to(self._device), columns).cpu() for pixels in images.batches(pictures)]
        return (torch.cat(ratings) >= self._scorer.threshold).numpy(), columns

    def _own(self, labels: np.ndarray, columns: list[tuple[str, str]]) -> np.ndarray:
        shared = self._data.known_details is not None
        own = np.array(
            [
                [phrase in self._details[c] and (shared or name == self._names[c]) for name, phrase in columns]
                for c in range(len(self._names))
            ]
        )
        return own[labels]

    def _set(self, out: Path, variant: str) -> tuple[list[Image.Image], np.ndarray]:
        rows = read_manifest(out / variant)
        pictures = []
        for row in rows:
            with Image.open(out / variant / row["file_name"]) as image:
                pictures.append(image.convert("RGB"))
        return pictures, np.array([row["label"] for row in rows])

    def results(self, out: Path) -> dict[str, Any]:
        results: dict[str, Any] = {}
        sets = {("informed" if v == "images" and self._informed else "uninformed"): self._set(out, v) for v in self.variants}
        if self._scorer is not None and all(self._details):
            results["completeness"] = self._completeness(sets)
        for key, model in (("teacher", self._recipe.teacher), ("nuisance", self._recipe.nuisance)):
            if model:
                reader = Classifier.from_pretrained(model_path(model), device=self._device)
                results |= self._agreement(reader, sets) if key == "teacher" else self._diversity(reader, sets)
        return results

    def _completeness(self, sets: dict[str, tuple[list[Image.Image], np.ndarray]]) -> dict[str, Any]:
        counts: dict[str, Counts] = {}
        for name, (pictures, labels) in {**sets, **self._real_set}.items():
            found, columns = self._found(pictures)
            counts[name] = count_details(found, self._own(labels, columns))
        report: dict[str, Any] = {name: c.summary() for name, c in counts.items()}
        if "informed" in counts and "uninformed" in counts:
            labels = sets["informed"][1]
            after, before = counts["informed"], counts["uninformed"]
            report["gain"] = paired_interval(after.share, before.share, labels)
            report["gain_complete"] = paired_interval(after.complete, before.complete, labels)
            report["gain_foreign"] = paired_interval(after.foreign, before.foreign, labels)
        return report

    @cached_property
    def _real_set(self) -> dict[str, tuple[list[Image.Image], np.ndarray]]:
        """Some real images with labels, as the yardstick: a made set need not be more complete than these."""
        pictures: list[Image.Image] = []
        labels: list[int] = []
        for c in range(len(self._names)):
            some = self._real_images(c, REAL_IMAGES)
            pictures += some
            labels += [c] * len(some)
        return {"real": (pictures, np.array(labels))}

    def _agreement(
        self, teacher: Classifier, sets: dict[str, tuple[list[Image.Image], np.ndarray]]
    ) -> dict[str, Any]:
        ids = _label_ids(teacher, self._names, "teacher").numpy()
        right = {}
        for name, (pictures, labels) in {**sets, **self._real_set}.items():
            right[name] = (_read(teacher, pictures).argmax(1) == ids[labels]).astype(float)
        report: dict[str, Any] = {name: float(values.mean()) for name, values in right.items()}
        if "informed" in right and "uninformed" in right:
            report["gain"] = paired_interval(right["informed"], right["uninformed"], sets["informed"][1])
        return {"teacher_accuracy": report}

    def _diversity(
        self, reader: Classifier, sets: dict[str, tuple[list[Image.Image], np.ndarray]]
    ) -> dict[str, Any]:
        values = {name: (_read(reader, pictures), labels) for name, (pictures, labels) in {**sets, **self._real_set}.items()}
        report: dict[str, Any] = {name: spread_within_classes(v, labels) for name, (v, labels) in values.items()}
        if "informed" in values and "uninformed" in values:
            (after, labels), (before, _) = values["informed"], values["uninformed"]
            report["gain"] = paired_interval(after, before, labels, spread_within_classes)
        return {"nuisance_diversity": report}

    def finish(self, out: Path) -> None:
        bands = []
        sets = {variant: read_manifest(out / variant) for variant in self.variants}
        chosen = sorted({row["label"] for row in sets["images"]})[:SHEET_CLASSES]
        for c in chosen:
            tiles = {
                variant: self._tiles(out / variant, [r for r in rows if r["label"] == c][:SHEET_SAMPLES], c)
                for variant, rows in sets.items()
            }
            before: Sequence[Tile | None] = tiles.get("uninformed") or [None] * len(tiles["images"])
            concepts = tuple(self._details[c]) if self._scorer is not None else tuple(self._kept[c] if self._uses_concepts else ())
            bands.append(Band(self._names[c], concepts, list(zip(before, tiles["images"], strict=True))))
        contact_sheet(bands, f"{self._recipe.name}: {self._title()}", self._notes(out)).save(out / "samples.png")

    def _tiles(self, folder: Path, rows: Sequence[dict[str, Any]], c: int) -> list[Tile]:
        pictures = []
        for row in rows:
            with Image.open(folder / row["file_name"]) as image:
                pictures.append(image.convert("RGB"))
        if self._scorer is None or not self._details[c]:
            return [Tile(picture) for picture in pictures]
        found, columns = self._found(pictures)
        mine = [columns.index(next(x for x in columns if x[1] == p and (self._data.known_details or x[0] == self._names[c]))) for p in self._details[c]]
        return [Tile(picture, tuple(bool(f) for f in row[mine])) for picture, row in zip(pictures, found, strict=True)]

    def _title(self) -> str:
        return "informed beside uninformed, same seeds" if len(self.variants) == 2 else "informed" if self._informed else "uninformed"

    def _notes(self, out: Path) -> list[str]:
        path = out / "results.json"
        completeness = json.loads(path.read_text()).get("completeness", {}) if path.exists() else {}
        notes = []
        if "gain" in completeness:
            before, after = completeness["uninformed"], completeness["informed"]
            low, high = completeness["gain"]["ci95"]
            notes.append(
                f"completeness {before['mean']:.2f} -> {after['mean']:.2f} (gain {completeness['gain']['mean']:+.3f},"
                f" 95 % interval {low:+.3f} to {high:+.3f}); complete samples {before['complete']:.0%} ->"
                f" {after['complete']:.0%}; foreign details {before['foreign']:.2f} -> {after['foreign']:.2f} an image"
            )
        if self._scorer is not None:
            notes.append("a filled number: the scorer finds the concept; a crossed one: it does not")
        return notes

    def cost(self) -> Cost:
        """Time one step of a small batch where every model is on this machine, and scale it; else nothing is known."""
        needed = models(self._recipe)
        paths = [find_model(model) for model in needed.values()]
        if any(path is None for path in paths):
            return Cost()
        batch = [self.sample(c % len(self._names), c // len(self._names)) for c in range(min(4, self.batch_size))]
        seconds = 0.0
        for variant in self.variants:
            informed = self._informed and variant == "images"
            self._run(batch[:1], informed, steps=1)
            times = []
            for steps in (1, 3):
                start = time.perf_counter()
                self._run(batch, informed, steps)
                times.append(time.perf_counter() - start)
            step = max(0.0, times[1] - times[0]) / 2
            seconds += (max(0.0, times[0] - step) + step * self._recipe.pipeline.steps) / len(batch)
        parameters = sum(p.numel() * p.element_size() for p in self._model.parameters())
        return Cost(seconds_per_image=seconds, memory=2.0 * parameters + 6e8)


def _by_class(pinned: dict[str, list[str]], data: ImageSet) -> list[list[str]]:
    """Pinned phrases in label order; the recipe names classes by folder or by name."""
    lists: list[list[str]] = [[] for _ in data.classes]
    for name, phrases in pinned.items():
        lists[data.classes.find(name).label].extend(phrases)
    return lists


def _label_ids(model: Classifier, names: Sequence[str], key: str) -> Tensor:
    """Positions of class names among a classifier's labels."""
    column = {label: i for i, label in enumerate(model.labels)}
    for name in names:
        if name not in column:
            raise ConcordError(f"the classifier in {key} has no class {name!r}{nearest(name, column)}")
    return torch.tensor([column[name] for name in names])


def _read(model: Classifier, pictures: Sequence[Image.Image]) -> np.ndarray:
    """Logits (N, K) of many images."""
    with torch.no_grad():
        return torch.cat([model.logits(pixels) for pixels in images.batches(pictures)]).float().cpu().numpy()
