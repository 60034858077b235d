"""Which of its class's details an image is likely to lack, where no detector knows: percentiles among real images.

An image in the lowest quarter for "{class} with {phrase}" looks less like it than three quarters of the real ones: the
detail is likely missing. It is evidence, not truth; docs/reef.md says how well it tells where the truth is known.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch
from PIL import Image

from concord.metrics.measure_run import Measuring
from concord.metrics.scorers import Detector, Percentile, Scorer
from concord.storage import images
from concord.storage.atomic import write_json

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


class Evidence:
    """The evidence of a whole set, gathered class by class: for `details.json`, and in short for results.json."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.images: dict[str, list[dict[str, Any]]] = {}
        self._missing, self._total = Counter[tuple[str, str]](), Counter[tuple[str, str]]()

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
            rows = self.images[file] = []
            for k, d in enumerate(of_image):
                missing, rounded = d.percentile < self.threshold, round(d.similarity, 4)
                row = {"phrase": d.phrase, "similarity": rounded, "percentile": round(d.percentile, 3)}
                rows.append({**row, "likely_missing": missing, **({"found": shown[number][k]} if shown else {})})
                self._total[name, d.phrase] += 1
                self._missing[name, d.phrase] += missing

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


def measure(run: Measuring) -> dict[str, Any] | None:
    """The metric `details`, where concepts inform: leave details.json, and return it in short for each set."""
    if run.concepts is None or not run.concepts.used:
        return None
    scorer, short, everything = run.percentile, dict[str, Any](), dict[str, Any]()
    for variant in run.variants:
        evidence, samples = Evidence(scorer.threshold), run.stored.samples(variant)
        for label, group in groupby(samples, attrgetter("label")):  # class by class: not all fit into memory
            name, of_class, phrases = run.names[label], list(group), run.concepts.kept[label]
            pictures, files = [sample.image for sample in of_class], [sample.file for sample in of_class]
            shown = _shown(run.scorer, pictures, name, phrases)
            evidence.add(name, files, details(scorer, name, phrases, pictures), shown)
        short["informed" if variant == "images" else "uninformed"] = evidence.summary()
        everything |= evidence.images
    encoder = run.recipe.scorer.model if run.scorer is scorer else run.recipe.scorer.encoder
    record = {"encoder": encoder or run.recipe.encoder, "missing_below": scorer.threshold, "images": everything}
    write_json(run.out / "details.json", record)
    return short


def _shown(
    detector: Scorer | None, pictures: Sequence[Image.Image], name: str, phrases: Sequence[str]
) -> list[list[bool]] | None:
    """Which phrases a detector finds in each image; None without a detector, or where it does not know them."""
    if not isinstance(detector, Detector) or not detector.knows(phrases):
        return None
    concepts = [(name, phrase) for phrase in phrases]
    ratings = [detector.rate(pixels, concepts) for pixels in images.batches(pictures)]
    return (torch.cat(ratings) >= detector.threshold).tolist() if ratings else []
