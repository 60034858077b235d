"""Scorers: how sure it is that an image shows a concept.

Either should be another model than the one that informed the sampling: a pupil does not mark his own work.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from concord.concepts.bank import concept_text
from concord.concepts.selection import embed_images
from concord.data import ImageSet
from concord.errors import ConcordError
from concord.models.cache import ModelCache
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.recipe import Recipe
from concord.storage import images

Concept = tuple[str, str]
"""A (class name, phrase) pair."""
Real = Callable[[Encoder, str], Tensor]
"""Encoder and class name to unit embeddings (N, D) of some of the class's real images."""


REAL_IMAGES, HELD = 100, 16
"""Real images of a class behind percentiles; classes whose embeddings are held."""


class RealEmbeddings:
    """The `Real` of a data set; those of the last `HELD` classes are kept, as percentiles go by class."""

    def __init__(self, data: ImageSet, skip_unreadable: bool) -> None:
        self._data, self._skip = data, skip_unreadable
        self._embedded: dict[tuple[Encoder, str], Tensor] = {}

    def __call__(self, encoder: Encoder, name: str) -> Tensor:
        if (encoder, name) not in self._embedded:
            labels = [entry.label for entry in self._data.classes if entry.class_name == name]
            rows = [embed_images(encoder, self._data, label, REAL_IMAGES, self._skip) for label in labels]
            while len(self._embedded) >= HELD:
                del self._embedded[next(iter(self._embedded))]
            self._embedded[encoder, name] = torch.cat(rows)
        return self._embedded[encoder, name]


class Scorer(Protocol):
    """Rates images against concepts."""

    threshold: float
    """A rating of at least this counts as found."""

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Ratings in [0, 1], (B, K), of images (B, 3, H, W) in [-1, 1] for K concepts."""


@runtime_checkable
class Tells(Protocol):
    """A scorer that knows something of its rating that results.json shall hold."""

    def facts(self) -> dict[str, Any]:
        """Keys of results.json with their values, as JSON has them."""


class Detector:
    """A multi-label classifier whose labels are phrases (others are refused); the class name plays no part."""

    threshold = 0.5

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._column = {label: i for i, label in enumerate(classifier.labels)}

    def knows(self, phrases: Sequence[str]) -> bool:
        """Whether all of these are among the detector's labels."""
        return all(phrase in self._column for phrase in phrases)

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        if unknown := [phrase for _, phrase in concepts if phrase not in self._column]:
            raise ConcordError(
                f"the detector has no label {unknown[0]!r} (it has {', '.join(map(repr, self._column))}):"
                " name another detector in scorer.model, or set scorer.kind=percentile"
            )
        with torch.no_grad():
            probabilities = self.classifier.logits(pixels).sigmoid()
        return probabilities[:, [self._column[phrase] for _, phrase in concepts]]


ALIKE = 1e-6
"""Cosines that differ by no more are equal: their last bits depend on how many are computed together."""


class Known(NamedTuple):
    """What percentiles of a concept need: its text's unit embedding (D,), and its cosines with real images, sorted."""

    text: Tensor
    real: Tensor


class Percentile:
    """Where an image's similarity with "{class} with {phrase}" lies among that class's real images.

    An image at or above the lower quartile of the real images counts as showing the concept: a quarter of the real
    ones would not. For a phrase of another class, the real images of that class are the yardstick.
    """

    threshold = 0.25

    def __init__(self, encoder: Encoder, real: Callable[[str], Tensor]) -> None:
        """`real`: class name to unit embeddings (N, D) of some of its real images."""
        self.encoder, self.real = encoder, real
        self.known: dict[Concept, Known] = {}

    def similarity(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Cosines (B, K), on the CPU, of images (B, 3, H, W) in [-1, 1] with "{class} with {phrase}"."""
        with torch.no_grad():
            return self.cosines(self.encoder.images(pixels).cpu(), concepts)

    def cosines(self, embeddings: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Cosines (B, K) of the encoder's unit embeddings (B, D) of images, all on the CPU."""
        return embeddings @ torch.stack([self._know(concept).text for concept in concepts]).T

    def percentile(self, similarity: Tensor, concepts: Sequence[Concept]) -> Tensor:
        """Where cosines (B, K) lie among the real images of each concept's class: the share not above, in [0, 1]."""
        of_real = [self._know(concept).real for concept in concepts]
        table = pad_sequence(of_real, batch_first=True, padding_value=torch.inf)  # (K, R)
        not_above = torch.searchsorted(table, similarity.T.to(table).contiguous() + ALIKE, right=True)  # (K, B)
        return not_above.T / torch.tensor([len(cosines) for cosines in of_real])

    def learn(self, concepts: Sequence[Concept], real: Tensor) -> None:
        """Take unit embeddings (N, D) of real images that are at hand for those of these concepts' class."""
        for concept in concepts:
            if concept not in self.known:
                text = self.encoder.texts([concept_text(*concept)])[0]
                self.known[concept] = Known(text.cpu(), (real.to(text) @ text).cpu().sort().values)

    def _know(self, concept: Concept) -> "Known":
        if concept not in self.known:
            self.learn([concept], self.real(concept[0]))
        return self.known[concept]

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        return self.percentile(self.similarity(pixels, concepts), concepts)


@dataclass(frozen=True)
class Vocabulary:
    """All K concepts that are looked for, (class name, phrase), and which class has which: `own`, booleans (C, K)."""

    concepts: tuple[Concept, ...]
    own: np.ndarray

    def of_class(self, label: int) -> list[Concept]:
        """The concepts that a class has."""
        return [self.concepts[k] for k in np.flatnonzero(self.own[label])]

    @classmethod
    def of(cls, names: Sequence[str], details: Sequence[Sequence[str]], shared: bool) -> Self:
        """From every class's details. `shared`: a phrase means the same in every class, as an attribute does."""
        concepts: dict[str, Concept] = {}
        for name, phrases in zip(names, details, strict=True):
            for phrase in phrases:
                concepts.setdefault(phrase if shared else f"{name}\0{phrase}", (name, phrase))
        own = [
            [phrase in details[c] and (shared or name == names[c]) for name, phrase in concepts.values()]
            for c in range(len(names))
        ]
        return cls(tuple(concepts.values()), np.array(own, dtype=bool).reshape(len(names), len(concepts)))


def found(scorer: Scorer, pictures: Iterable[Image.Image], concepts: Sequence[Concept]) -> Iterator[np.ndarray]:
    """Which of K concepts a scorer finds in images, batch by batch: booleans (B, K)."""
    for pixels in images.batches(pictures):
        yield (scorer.rate(pixels, concepts) >= scorer.threshold).cpu().numpy()


def detector(recipe: Recipe, models: ModelCache, real: Real) -> Detector:
    """The scorer `detector`: the attribute detector of `scorer.model`."""
    return Detector(models.classifier(str(recipe.scorer.model), "scorer.model"))


def percentile(recipe: Recipe, models: ModelCache, real: Real) -> Percentile:
    """The scorer `percentile`: by the encoder of `scorer.model`, or the one that informs."""
    return percentile_by(recipe.scorer.model, "scorer.model", models, real)


def percentile_by(model: str | None, key: str, models: ModelCache, real: Real) -> Percentile:
    """Percentiles by an encoder, the recipe's `key`; None: by the one that informs."""
    encoder = models.encoder if model is None else models.load_encoder(model, key)
    return Percentile(encoder, partial(real, encoder))


def no_scorer(recipe: Recipe, models: ModelCache, real: Real) -> None:
    """The scorer `none`."""
