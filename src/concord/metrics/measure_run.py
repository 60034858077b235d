"""What a generated set came to: measured on the stored files, so that what is measured is what was kept."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concord.concepts.plan import ConceptPlan
from concord.data import ImageSet
from concord.data.sampling import readable
from concord.metrics.measures import ALWAYS
from concord.metrics.scorers import REAL_IMAGES, Percentile, RealEmbeddings, Scorer, Tells, Vocabulary, percentile_by
from concord.metrics.unread import Unread
from concord.models.cache import ModelCache
from concord.recipe import Recipe
from concord.recipe.sections import Scorer as ScorerSettings
from concord.registry import METRICS, SCORERS
from concord.runs.directory import Run
from concord.storage import images

REAL_IN_ALL, REAL_SIDE = 2000, 512
"""Real images that the report measures beside the made ones are so many in all, and no larger: more would take long,
and say no more."""


@dataclass(frozen=True)
class Pictures:
    """Images with their labels, (N,). Those of a run are read as they are asked for, and may be too many to keep."""

    images: Sequence[Image.Image]
    labels: np.ndarray


class Measuring:
    """A run whose images are all `stored`, with what measures share; `variants` are its sets, ``images`` first."""

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSet,
        out: Path,
        variants: Sequence[str],
        models: ModelCache,
        concepts: ConceptPlan | None = None,
    ) -> None:
        self.recipe, self.data, self.out, self.variants = recipe, data, out, tuple(variants)
        self.stored, self.models, self.concepts = Run(out), models, concepts
        self.names = [entry.class_name for entry in data.classes]
        self._guided = concepts is not None and recipe.is_guided
        self.skip = recipe.unreadable == "skip"
        self._embed_real = RealEmbeddings(data, self.skip)

    @cached_property
    def scorer(self) -> Scorer | None:
        """What the recipe rates images by; None where it names nothing."""
        kind = self.recipe.scorer.kind
        with SCORERS.blamed(kind):
            return SCORERS.build(kind, SCORERS.get(kind).build)(self.recipe, self.models, self._embed_real)

    @cached_property
    def percentile(self) -> Percentile:
        """Percentiles among real images: by the recipe's scorer, `scorer.encoder`, or the encoder that informs."""
        if isinstance(self.scorer, Percentile):
            return self.scorer
        return percentile_by(self.recipe.scorer.encoder, "scorer.encoder", self.models, self._embed_real)

    @cached_property
    def details(self) -> list[list[str]]:
        """What each class's images should show: the data set's known details, else the kept concepts."""
        known = self.data.known_details
        if known is not None:
            return [list(known[entry.key]) for entry in self.data.classes]
        return self.concepts.kept if self.concepts and self.concepts.used else [[] for _ in self.names]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.names, self.details, shared=self.data.known_details is not None)

    @cached_property
    def sets(self) -> dict[str, Pictures]:
        """The stored sets by name, and real images as the yardstick: a set need not be more complete than these."""
        sets = {}
        for variant in self.variants:
            samples = self.stored.samples(variant)
            name = "informed" if variant == "images" and self._guided else "uninformed"
            sets[name] = Pictures(Unread(attrgetter("image"), samples), np.array([s.label for s in samples]))
        most = max(1, min(REAL_IMAGES, REAL_IN_ALL // len(self.names)))
        some = [(c, item) for c in range(len(self.names)) for item in readable(self.data, c, most, self.skip)]
        real = Unread(self._real, [item for _, item in some])
        return sets | {"real": Pictures(real, np.array([label for label, _ in some]))}

    def _real(self, item: str) -> Image.Image:
        return images.shrunk(self.data.read(item), REAL_SIDE)

    def results(self) -> dict[str, Any]:
        """Measure what results.json shall hold, by metric; a ConcordError blames a stranger's that fails."""
        found = {}
        for name in dict.fromkeys((*(ALWAYS if self.concepts else ()), *self.recipe.metrics)):
            with METRICS.blamed(name):
                figures = METRICS.build(name, METRICS.get(name).compute)(self)
                json.dumps(figures, allow_nan=False)
            if figures is not None:
                found[name] = figures
        return found

    def roles(self) -> dict[str, Any]:
        """Who informed the images of a generated set, who measures them, and who chose them, where somebody did."""
        recipe = self.recipe
        if not recipe.is_generated:
            return {}
        found: dict[str, Any] = {"guide": recipe.informers, "judge": _named(recipe.scorer, recipe)}
        if isinstance(self.scorer, Tells):
            found |= self.scorer.facts()
        if (select := recipe.select).kind == "none":
            return found
        judge = "objective" if recipe.judge is None else _named(recipe.judge, recipe)
        if select.pooled:
            judge = {"encoder": f"encoder {recipe.encoder}", "teacher": f"teacher {recipe.teacher}"}.get(
                recipe.space, recipe.space
            )
        found["selection"] = {"kind": select.kind, "of": select.of, "judge": judge}
        if select.kind == "best":
            rows = [sample.scores for sample in self.stored.samples()]
            found["selection"] |= {
                "finish": select.finish,
                "rating": round(float(np.mean([row["rating"] for row in rows])), 4),
                "first_kept": round(float(np.mean([row["candidate"] == 0 for row in rows])), 4),
            }
        return found

    def active_share(self) -> dict[str, Any]:
        """Where images stop early: the mean share of their gradients that were taken."""
        if not self._guided or self.recipe.informing.stop is None:
            return {}
        shares = [sample.scores["active_share"] for sample in self.stored.samples()]
        return {"active_share": round(float(np.mean(shares)), 4)}


def _named(scorer: ScorerSettings, recipe: Recipe) -> str | None:
    """A scorer in words, as in ``percentile reef:clip-2``; None where nothing rates."""
    by = scorer.model or (recipe.encoder if scorer.kind == "percentile" else "")
    return None if scorer.kind == "none" else f"{scorer.kind} {by}".rstrip()
