"""Generate a set with a diffusion model, informed by concepts or not: `method=dit`, `minimax`, `unclip` or `text`.

The parent plans: it selects concepts on real images (Eq. 10), draws negatives, condition images and prompts, and
writes them into the samples. A worker then makes batches from samples alone (`concord.methods.batch_sampler`), which
is imported with the first of them: planning takes no torch, but for what is embedded.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from concord.choices import STARTS
from concord.concepts.plan import ConceptPlan
from concord.data import ImageSet
from concord.methods.base import Cost, GeneratedImage
from concord.methods.class_mapping import assign_checkpoints
from concord.methods.prompts import TEMPLATES, prompt
from concord.methods.supply import supply_pool
from concord.models.cache import ModelCache
from concord.models.hub import find_model
from concord.pipelines.class_ids import class_ids
from concord.pipelines.load import load_family, pipeline_labels, recipe_family
from concord.plan import Sample, sample_seed
from concord.recipe import Pipeline, Recipe, guide_settings, models
from concord.registry import GUIDES
from concord.system import quartiles, timed

if TYPE_CHECKING:
    from concord.methods.batch_sampler import BatchSampler
    from concord.methods.candidates import BestOf
    from concord.pipelines.starts import StartSet

COST_IMAGES = 2
"""Real images a class that select concepts where only the cost is asked for."""
ROUNDS, TRYING = 5, 1.5
"""How often the steps of a dry run are timed at most, and for how many seconds, but once in any case."""


class Generate:
    """See the module's text; a `Method` that is `Informed` and `Resumes`.

    models, load: what loads the recipe's models, and its diffusion model (see `BatchSampler`), where these are others
    than those that it names.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSet,
        models: ModelCache | None = None,
        load: Callable[..., Any] = load_family,
    ) -> None:
        self._recipe, self._data = recipe, data
        self.models = models or ModelCache(recipe)
        self.concepts = ConceptPlan(recipe, data, self.models)
        self._guided = recipe.is_guided
        self._load = load
        self._reads = recipe_family(recipe).reads
        begins, guides = recipe.pipeline.start, [guide_settings(entry) for entry in recipe.guides]
        conditioned = "image" in self._reads or begins == "real" or (begins is None and recipe.pipeline.strength)
        conditioned = conditioned or recipe.pipeline.ip_adapter is not None
        conditioned = conditioned or any(GUIDES.get(name).takes_image(settings) for name, settings in guides)
        self._pool = supply_pool(recipe, data, recipe.pipeline.supply) if conditioned else None
        self._start_set = None if begins in (None, *STARTS) else _start_set(str(begins))
        owners = recipe.pipeline.checkpoints
        self._checkpoints = assign_checkpoints(owners, data.classes) if owners else [""] * len(data.classes)
        for name, settings in guides:
            GUIDES.get(name).check(settings, recipe, min(Counter(self._checkpoints).values()))
        # Where the model is not here yet, its classes are checked when it is loaded.
        if "class" in self._reads and (labels := pipeline_labels(recipe.pipeline.model or "")) is not None:
            class_ids(labels, data.classes, str(recipe.pipeline.model))

    @cached_property
    def sampler(self) -> BatchSampler:
        """What makes batches from planned samples."""
        from concord.methods.batch_sampler import BatchSampler

        return BatchSampler(self._recipe, self._data, self.models, self._load)

    @cached_property
    def _best(self) -> BestOf | None:
        if self._recipe.select.kind != "best":
            return None
        from concord.methods.candidates import BestOf

        return BestOf(self._recipe, self._data, self.models, self.sampler)

    @property
    def batch_size(self) -> int:
        return self._recipe.batch_size

    @property
    def variants(self) -> tuple[str, ...]:
        paired = self._recipe.uninformed and self._guided and self._recipe.select.kind == "none"
        return ("images", "uninformed") if paired else ("images",)

    def count(self, class_index: int, ipc: int) -> int:
        if self._start_set is not None:
            self._start_set.require(self._data.classes[class_index], ipc)
        return ipc

    def _start(self, class_index: int, index: int) -> str:
        """What a sample begins from, where that is neither noise nor the real image that it names."""
        if self._start_set is not None:
            return self._start_set.file(self._data.classes[class_index], index)
        settings = self._recipe.pipeline
        return f"prototype {index % settings.prototypes}" if settings.start == "prototype" else ""

    def sample(self, class_index: int, index: int) -> Sample:
        entry, recipe, text = self._data.classes[class_index], self._recipe, self._data.classes[class_index].class_name
        seed = sample_seed(recipe.seed, entry.key, index)
        drawn, against = self.concepts.draw(class_index, seed, index), ""
        if "prompt" in self._reads:
            settings = recipe.pipeline
            text = prompt(text, entry.key, index, recipe.seed, settings.prompts or TEMPLATES, drawn.own)
            if settings.negative_prompts:
                against = prompt("", entry.key, index, recipe.seed, settings.negative_prompts, drawn.others)
        return Sample(
            class_index,
            index,
            seed,
            drawn.positives,
            drawn.negatives,
            prompt=text,
            source=self._pool.cyclic(class_index, index) if self._pool else "",
            checkpoint=self._checkpoints[class_index],
            start=self._start(class_index, index),
            negative_prompt=against,
        )

    def resume(self, concepts: Mapping[str, Any]) -> None:
        self.concepts.resume(concepts)

    def record(self) -> dict[str, Any] | None:
        return self.concepts.record()

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        guided = self._guided and variant == "images"
        return self.sampler.make(batch, guided) if self._best is None else self._best.make(batch, guided)

    def operations(self, sample: Sample) -> int | None:
        return self.sampler.operations(lambda: self.make([sample], "images"))

    def cost(self) -> Cost:
        """Time a few steps of a small batch where every model is on this machine; else nothing is known.

        The schedules of one step and of three are made again and again, in turn, as long as that takes little.
        """
        if any(find_model(model) is None for model in models(self._recipe).values()):
            return Cost()
        classes = len(self._data.classes)
        few = self._recipe.concepts.model_copy(update={"images": COST_IMAGES})
        planned = Generate(self._recipe.model_copy(update={"concepts": few}), self._data)
        batch = [planned.sample(i % classes, i // classes) for i in range(min(4, self.batch_size))]
        settings, found = self._recipe.pipeline, []
        every = settings.steps - settings.skipped(settings.steps)

        def taking(guided: bool, taken: int) -> float:
            schedule, device = _schedule_of(taken, settings), str(planned.models.device)
            return timed(lambda: planned.sampler.make(batch, guided, schedule), device)

        for variant in self.variants:
            guided = self._guided and variant == "images"
            planned.sampler.make(batch[:1], guided, _schedule_of(1, settings))  # load and warm up
            images, end = list[float](), time.perf_counter() + TRYING / len(self.variants)
            while not images or (len(images) < ROUNDS and time.perf_counter() < end):
                one, three = taking(guided, 1), taking(guided, 3)
                step = max(0.0, three - one) / 2
                images.append((max(0.0, one - step) + step * every) / len(batch))
            found.append(quartiles(images))
        candidates = 1 if self._best is None else self._best.share
        low, middle, high = (candidates * sum(of_all) for of_all in zip(*found, strict=True))
        return Cost(seconds_per_image=middle, seconds_range=(low, high))


def _start_set(directory: str) -> StartSet:
    from concord.pipelines.starts import StartSet

    return StartSet(directory)


def _schedule_of(taken: int, settings: Pipeline) -> int:
    """Steps of a schedule of which so many are taken: fewer than all where a sampling begins from an image."""
    return next(steps for steps in itertools.count(taken) if int(steps * (settings.strength or 1)) >= taken)
