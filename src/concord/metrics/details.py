"""Which of its class's details an image is likely to lack, where no detector knows: percentiles among real images.

An image in the lowest quarter for "{class} with {phrase}" looks less like it than three quarters of the real ones: the
detail is likely missing. It is evidence, not truth; docs/reef.md says how well it tells where the truth is known.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from concord.metrics.class_images import ClassImages, Made
from concord.metrics.measure_run import Measuring
from concord.metrics.scorers import Concept, Detector, Percentile, Scorer
from concord.storage import images
from concord.storage.atomic import write_json

WORST = 10
"""How many of the details that are most often missing are named in results.json."""


@dataclass(frozen=True, slots=True)
class Detail:
    """One phrase on one image: cosine similarity, and its percentile among the class's real images, in [0, 1]."""

    phrase: str
    similarity: float
    percentile: float


def details(
    scorer: Percentile, name: str, phrases: Sequence[str], pictures: Sequence[Image.Image]
) -> list[list[Detail]]:
    """The evidence for each image of one class and each of the class's phrases, in their order."""
    concepts = [(name, phrase) for phrase in phrases]
    batches = images.batches(pictures)
    return [row for pixels in batches for row in _rated(scorer, concepts, scorer.similarity(pixels, concepts))]


def _rated(scorer: Percentile, concepts: Sequence[Concept], similarity: Tensor) -> list[list[Detail]]:
    """The evidence for images of one class by their cosines (B, K) with its concepts."""
    rows = zip(similarity.tolist(), scorer.percentile(similarity, concepts).tolist(), strict=True)
    phrases = [phrase for _, phrase in concepts]
    return [[Detail(*row) for row in zip(phrases, s, p, strict=True)] for s, p in rows]


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


class Found(NamedTuple):
    """The evidence for images of one class: their files, and what `Evidence.add` takes."""

    files: list[str]
    found: list[list[Detail]]
    shown: list[list[bool]] | None


def of_class(run: Measuring, of: ClassImages) -> dict[str, Found]:
    """The evidence for the images of one class, by variant; none where no concepts inform."""
    if run.kept is None:
        return {}
    scorer, name, phrases = run.percentile, run.names[of.label], run.kept[of.label]
    concepts, evidence = [(name, phrase) for phrase in phrases], dict[str, Found]()
    for variant, made in of.made.items():
        if made:
            run.learn(scorer, concepts, of)
            found = _rated(scorer, concepts, scorer.cosines(of.rows(scorer.encoder.images, made), concepts))
            evidence[variant] = Found([one.file for one in made], found, _shown(run.scorer, of, made, concepts))
    return evidence


def measure(run: Measuring) -> dict[str, Any] | None:
    """The metric `details`, where concepts inform: leave details.json, and return it in short for each set."""
    if run.kept is None:
        return None
    scorer, short, everything = run.percentile, dict[str, Any](), dict[str, Any]()
    for variant in run.variants:
        evidence = Evidence(scorer.threshold)
        for name, found in zip(run.names, run.parts("details"), strict=True):
            if variant in found:
                evidence.add(name, *found.pop(variant))  # of many images, twice is much
        short["informed" if variant == "images" else "uninformed"] = evidence.summary()
        everything |= evidence.images
    encoder = run.recipe.scorer.model if run.scorer is scorer else run.recipe.scorer.encoder
    record = {"encoder": encoder or run.recipe.encoder, "missing_below": scorer.threshold, "images": everything}
    write_json(run.out / "details.json", record)
    return short


def _shown(
    detector: Scorer | None, of: ClassImages, made: Sequence[Made], concepts: Sequence[Concept]
) -> list[list[bool]] | None:
    """Which phrases a detector finds in each image; None without a detector, or where it does not know them."""
    if not isinstance(detector, Detector) or not detector.knows([phrase for _, phrase in concepts]):
        return None
    shown: list[list[bool]] = (of.rows(partial(detector.rate, concepts=concepts), made) >= detector.threshold).tolist()
    return shown
