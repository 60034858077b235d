"""A worker's part of generation: from planned samples to images, with the models of one recipe.

A batch of the plan is made in inner batches where memory is short: half as many images at once each time that it runs
out, down to one.
"""

import functools
import gc
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from concord.concepts.selection import embed_images
from concord.data import ImageSet
from concord.diffusion.sampler import Guide, Sampling, generators, together
from concord.errors import ConcordError
from concord.guidance.concept_guide import ConceptGuide
from concord.guidance.context import GuideContext, looks_across, recipe_guides
from concord.guidance.objectives import Objective
from concord.methods.base import GeneratedImage
from concord.metrics.flops import Counter
from concord.models.cache import ModelCache
from concord.models.classifier import Classifier, label_ids
from concord.pipelines.base import Family, FrozenPipeline
from concord.pipelines.load import load_family
from concord.pipelines.planned import Planned
from concord.plan import Sample
from concord.recipe import Recipe
from concord.registry import METHODS
from concord.storage import images

_log = logging.getLogger("concord")
T = TypeVar("T")


@dataclass(frozen=True)
class HalfMade:
    """A sample after half of its steps.

    sampling: of the one image. pixels: its clean estimate, (3, H, W) in [-1, 1], decoded as for informing.
    uninformed_steps: how many of the steps were left alone for a gradient that was not finite.
    """

    sampling: Sampling
    pixels: Tensor
    uninformed_steps: int


class BatchSampler:
    """The diffusion model of a recipe, loaded at first need, and what makes images with it.

    load: what loads it, with the arguments of `load_family`.
    """

    def __init__(
        self, recipe: Recipe, data: ImageSet, models: ModelCache, load: Callable[..., Any] = load_family
    ) -> None:
        self._recipe, self._data, self._models, self._load_family = recipe, data, models, load
        self._names = [entry.class_name for entry in data.classes]
        self._at_once = recipe.memory.batch
        self._loaded: tuple[str, FrozenPipeline] | None = None

    @property
    def at_once(self) -> int | None:
        """Images at once that the memory was found to hold; None where none was short, and all are."""
        return self._at_once

    @cached_property
    def _judge(self) -> Classifier | None:
        """The classifier of the classifier objective."""
        settings = self._recipe.informing
        if not settings.objective.classifier or settings.classifier is None:
            return None
        return self._models.classifier(settings.classifier, "informing.classifier", self._models.dtype)

    def model(self, checkpoint: str = "") -> FrozenPipeline:
        """The diffusion model; one checkpoint is held at a time, and the plan goes checkpoint by checkpoint."""
        if self._loaded is None or self._loaded[0] != checkpoint:
            self._loaded = None  # before the next one is read, not after
            self._loaded = (checkpoint, self._load(checkpoint))
        return self._loaded[1]

    def _load(self, checkpoint: str) -> FrozenPipeline:
        recipe, settings, informing = self._recipe, self._recipe.pipeline, self._recipe.informing
        wants_tiny = informing.enabled and informing.decoder == "tiny"
        options: dict[str, Any] = {"dtype": self._models.dtype, "device": self._models.device}
        options |= {} if settings.size is None else {"size": settings.size}
        if settings.start is None and settings.image_strength is not None:  # the pipeline's own image to image
            options["image_strength"] = settings.image_strength
        if settings.ip_adapter is not None:
            options["ip_adapter"] = settings.ip_adapter
        loaded: FrozenPipeline = self._load_family(
            settings.model or "",
            tiny_decoder=settings.tiny_decoder if wants_tiny else None,
            checkpoint=checkpoint or None,
            among=METHODS.get(recipe.method).families,
            **options,
        )
        exact = informing.enabled and informing.mode != "fast"
        loaded.save_memory(recipe.memory.vae, recipe.memory.checkpointing and exact)
        pipeline = loaded.pipeline
        denoiser = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
        # A decoder's own forward is not what `decode` calls: its inner network is.
        self._models.hasten([denoiser, pipeline.vae.decoder, getattr(loaded.tiny_decoder, "decoder", None)])
        return loaded

    def make(self, batch: Sequence[Sample], guided: bool, steps: int | None = None) -> list[GeneratedImage]:
        """Make a batch, in its order; `steps` other than the recipe's serve to estimate the cost."""
        taken = steps or self._recipe.pipeline.steps
        return self._in_parts(len(batch), guided, lambda start, end: self._make(batch[start:end], guided, taken))

    def halfway(self, batch: Sequence[Sample], guided: bool) -> list[HalfMade]:
        """Take the first half of the steps of a batch, in its order; not of a pipeline that is called as it is."""

        def begun(start: int, end: int) -> list[HalfMade]:
            some = batch[start:end]
            model, concept_guide, guides = self._with_guides(some, guided)
            assert isinstance(model, Family)  # or `check_sampling` refuses the recipe
            sampling = model.halfway(self._planned(some), steps=self._recipe.pipeline.steps, guides=guides)
            assert sampling.x0 is not None
            with torch.no_grad():
                pixels = self._decoder(model)(sampling.x0).float().clamp(-1, 1)
            left = [int(score.get("uninformed_steps", 0)) for score in self._scores(concept_guide, len(some))]
            return [HalfMade(*one) for one in zip(sampling.images(), pixels, left, strict=True)]

        return self._in_parts(len(batch), guided, begun)

    def finish(self, batch: Sequence[Sample], halves: Sequence[HalfMade], guided: bool) -> list[GeneratedImage]:
        """Take the other half of the steps of samples, each from its own half."""

        def finished(start: int, end: int) -> list[GeneratedImage]:
            some, before = batch[start:end], halves[start:end]
            model, concept_guide, guides = self._with_guides(some, guided)
            sampling = together([half.sampling for half in before])
            assert isinstance(model, Family)
            pixels = model.finished(self._planned(some), sampling, guides=guides)
            scores = self._scores(concept_guide, len(some))
            for score, half in zip(scores, before, strict=True):
                if "uninformed_steps" in score:
                    score["uninformed_steps"] += half.uninformed_steps
            return self._images(pixels, scores)

        return self._in_parts(len(batch), guided, finished)

    def _in_parts(self, count: int, guided: bool, make: Callable[[int, int], list[T]]) -> list[T]:
        """What `make` gives of the images from one place to another, as many at once as the memory holds."""
        whole = guided and looks_across(self._recipe)
        at_once = count if whole else self._at_once or count
        made: list[T] = []
        while len(made) < count:
            try:
                made += make(len(made), min(count, len(made) + at_once))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                tried = min(at_once, count - len(made))
                if tried == 1 or whole:
                    raise ConcordError(self._too_large(tried)) from error
            else:
                continue
            # Out of the handler, the error and with it the failed batch's tensors are free.
            self._at_once = at_once = (tried + 1) // 2
            _log.warning("out of memory with %d images at once: going on with %d (memory.batch)", tried, at_once)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return made

    def operations(self, make: Callable[[], object]) -> int | None:
        """Floating-point operations of making images, from noise to pixels, counted by making them again.

        None where the diffusion model is compiled, so that it cannot be seen.
        """
        if self._recipe.memory.compile:
            return None
        with Counter() as counter:
            make()
        return counter.get_total_flops()

    def _too_large(self, images: int) -> str:
        recipe, ways = self._recipe, [] if images == 1 else ["batch_size to fewer (guides compare the images of one)"]
        if recipe.informing.enabled and recipe.informing.mode != "fast":
            ways += [] if recipe.memory.checkpointing else ["memory.checkpointing=true"]
            ways += ["informing.mode=fast"]
        if recipe.informing.enabled and recipe.informing.decoder == "full":
            ways += ["informing.decoder=tiny with pipeline.tiny_decoder"]
        ways += [] if recipe.memory.vae == "tiled" else ["memory.vae=tiled"]
        ways += [] if recipe.dtype == "bfloat16" else ["dtype=bfloat16"]
        count = "one image" if images == 1 else f"a batch of {images} images"
        return f"the memory of {self._models.device} does not suffice for {count} at a time; set " + ", or ".join(ways)

    def _make(self, batch: Sequence[Sample], guided: bool, steps: int) -> list[GeneratedImage]:
        model, concept_guide, guides = self._with_guides(batch, guided)
        pixels = model.make(self._planned(batch), steps=steps, guides=guides)
        if concept_guide and not concept_guide.gradient_calls and steps == self._recipe.pipeline.steps:
            raise ConcordError(f"no step of informing.window {list(concept_guide.window)} could be informed: widen it")
        return self._images(pixels, self._scores(concept_guide, len(batch)))

    def _with_guides(
        self, batch: Sequence[Sample], guided: bool
    ) -> tuple[FrozenPipeline, ConceptGuide | None, list[Guide]]:
        model = self.model(batch[0].checkpoint)
        concept_guide = self._concept_guide(batch, model) if guided and self._recipe.informing.enabled else None
        guides: list[Guide] = [concept_guide] if concept_guide else []
        if guided:
            guides += recipe_guides(GuideContext(batch, self._data, model, self._models, self._recipe))
        return model, concept_guide, guides

    def _planned(self, batch: Sequence[Sample]) -> Planned:
        recipe = self._recipe
        drawing = generators([s.seed for s in batch])  # shared: a stochastic scheduler goes on where x_T ended
        return Planned(batch, self._data, recipe.pipeline, drawing, recipe.seed, recipe.unreadable == "skip")

    def _images(self, pixels: Tensor, scores: Sequence[dict[str, float | int]]) -> list[GeneratedImage]:
        pictures, side = images.to_pil(pixels), self._recipe.size
        if side:
            pictures = [image.resize((side, side), Image.Resampling.BICUBIC) for image in pictures]
        return [GeneratedImage(image, of_image) for image, of_image in zip(pictures, scores, strict=True)]

    def _decoder(self, model: FrozenPipeline) -> Callable[..., Tensor]:
        """What decodes clean estimates on the way."""
        informing = self._recipe.informing
        tiny = model.tiny_decode if informing.enabled and informing.decoder == "tiny" else model.decode
        return functools.partial(tiny, side=self._decode_side())

    def _scores(self, concept_guide: ConceptGuide | None, count: int) -> list[dict[str, float | int]]:
        """What informing came to for each image; with `stop`, also the share of its gradients that were taken."""
        if concept_guide is None:
            return [{} for _ in range(count)]
        scores: list[dict[str, float | int]] = [{"uninformed_steps": int(n)} for n in concept_guide.uninformed_steps]
        for score, loss in zip(scores, concept_guide.objective.tolist(), strict=True):
            if concept_guide.gradient_calls and math.isfinite(loss):
                score["objective"] = round(loss, 4)
        if concept_guide.thresholds is not None:
            for score, taken in zip(scores, concept_guide.gradient_steps.tolist(), strict=True):
                score["active_share"] = round(taken / max(1, concept_guide.gradient_calls), 4)
        return scores

    def objectives(self, batch: Sequence[Sample]) -> list[Objective]:
        """What informs a batch, as the recipe weighs it."""
        settings, weights = self._recipe.informing, self._recipe.informing.objective
        names = [self._names[s.class_index] for s in batch]
        objectives: list[Objective] = []
        encoders = self._models.encoders if self.embeds else []
        for encoder in encoders:  # the mean of their losses, each of its own texts
            of_one: list[Objective] = []
            if weights.contrastive or weights.cosine:
                positives = [encoder.texts(s.positives) for s in batch]
                if weights.contrastive:
                    negatives = [encoder.texts(s.negatives) for s in batch]
                    temperature = settings.temperature or encoder.temperature
                    of_one.append(Objective.contrastive(positives, negatives, temperature, weights.contrastive))
                if weights.cosine:
                    of_one.append(Objective.cosine(positives, weights.cosine))
            if weights.class_name:
                of_one.append(Objective.class_name(encoder.texts(names), weights.class_name))
            objectives += [replace(one, weight=one.weight / len(encoders), encoder=encoder) for one in of_one]
        if self._judge is not None:
            ids = label_ids(self._judge, names, "informing.classifier")
            objectives.append(Objective.classifier(self._judge.logits, ids, weights.classifier))
        return objectives

    def _concept_guide(self, batch: Sequence[Sample], model: FrozenPipeline) -> ConceptGuide:
        settings, objectives = self._recipe.informing, self.objectives(batch)
        return ConceptGuide(
            objectives,
            self._decoder(model),
            self._models.encoder if self.embeds else None,
            mode=settings.mode,
            weight=settings.weight,
            strength=settings.strength,
            push=settings.push,
            window=settings.window,
            every=settings.every,
            inner=settings.inner,
            views=settings.views,
            seeds=[s.seed for s in batch],
            between=settings.between,
            thresholds=None if settings.stop is None else self._thresholds(batch, objectives, settings.stop),
            batch=len(batch),
        )

    @property
    def embeds(self) -> bool:
        """Whether an objective reads embeddings."""
        return any(self._recipe.informing.objective.model_dump(exclude={"classifier"}).values())

    def _decode_side(self) -> int | None:
        """Pixels of the shorter side that is decoded for a gradient; None for the whole image."""
        size = self._recipe.informing.decode_size
        if size != "auto":
            return size
        sides = [encoder.preprocess.side for encoder in self._models.encoders] if self.embeds else []
        sides += [self._judge.preprocess.side] if self._judge is not None else []
        return None if None in sides else max(side for side in sides if side is not None)

    @functools.cache  # noqa: B019 - a maker lives as long as its process
    def _real(self, class_index: int) -> Tensor:
        """Unit embeddings (N, D) of real images of a class."""
        most, skip = self._recipe.concepts.images, self._recipe.unreadable == "skip"
        return embed_images(self._models.encoder, self._data, class_index, most, skip).to(self._models.device)

    def _thresholds(self, batch: Sequence[Sample], objectives: Sequence[Objective], share: float) -> Tensor:
        """Each image's loss that is good enough, (B,): the quantile `share` of its class's real images.

        They are rated by the image's own objective, with its own negatives.
        """
        real = [self._real(s.class_index) for s in batch]
        count = min(map(len, real))
        none = torch.empty(len(batch), 0, device=self._models.device)
        losses = []
        for n in range(count):  # the n-th real image of every class at once: the objectives are bound to the batch
            image = torch.stack([rows[n] for rows in real])
            losses.append(torch.stack([o.weight * o.loss(image, none) for o in objectives]).sum(dim=0))
        return torch.stack(losses).quantile(share, dim=0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device has no memory left: only CUDA has a class for it."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(
        sign in text for sign in ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
    )
