"""A rehearsal: what a recipe's models take on this device, by random weights, before any of them is downloaded.

Everything is what a run does: planning, informing, sampling, decoding, rating; only the weights are random, the real
images are drawn, and the steps are few. `whole_run` carries over what is measured of them.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from concord.concepts.selection import embed_images
from concord.data import ClassSpec, class_table
from concord.errors import ConcordError
from concord.events import Progress, Silent
from concord.methods.batch_sampler import is_out_of_memory
from concord.methods.diffusion import Generate
from concord.metrics.scorers import Detector, Scorer, percentile_by
from concord.models import untrained
from concord.models.cache import ModelCache
from concord.models.configurations import Configuration, configuration, published, published_models
from concord.models.encoder import Encoder
from concord.models.hub import find_model
from concord.pipelines.base import FrozenPipeline
from concord.pipelines.load import family_from, pipeline_labels
from concord.plan import Sample
from concord.recipe import Recipe, models
from concord.recipe.sections import Guidance
from concord.registry import SCORERS
from concord.storage.images import to_pixels
from concord.system import begin_peak, free_memory, peak_memory
from concord.text import listed, size
from concord.workflows.distill import resolved, threads_of
from concord.workflows.whole_run import Rehearsal, Timed, carried_over

IMAGES, STEPS = 2, 2
_CLASSES = {"tench": 0, "goldfish": 1}
"""Names and class ids, of a model that names no classes of its own."""
_PHRASES = ("a long tail", "two broad fins", "pale round spots", "a dark back", "small bright eyes", "a wide mouth")
_ENCODERS = ("encoder", "scorer.encoder", "scorer.model")


class DrawnImages:
    """Two classes of random images, of the size of ImageNet's: an `ImageSet` that needs no data.

    model: a diffusion model, which knows the classes if it knows any.
    """

    known_details: Mapping[str, Any] | None = None
    fingerprint, notes = "rehearsal", ()

    def __init__(self, model: str) -> None:
        known = sorted((pipeline_labels(model) or _CLASSES).items())[:2]
        self.classes = class_table([ClassSpec(name.replace("/", " "), name, model_id=number) for name, number in known])

    def items(self, class_index: int) -> list[str]:
        return [f"{class_index}/{n}" for n in range(12)]

    def read(self, item: str) -> Image.Image:
        rng = np.random.default_rng([int(part) for part in item.split("/")])
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        return coarse.resize(self.size(item), Image.Resampling.BICUBIC)

    def size(self, item: str) -> tuple[int, int]:
        return 500, 375


class UntrainedModels(ModelCache):
    """The encoders of a recipe with random weights; a classifier is what lies on this machine."""

    def load_encoder(self, model: str, key: str, dtype: torch.dtype | None = None) -> Encoder:
        dtype = dtype or torch.float32
        with untrained.random_weights(dtype, self.device):
            encoder = untrained.encoder(_known(model, key), model, key)
        encoder.model.to(self.device, dtype)
        return encoder


def untrained_family(
    model: str,
    *,
    dtype: torch.dtype,
    device: torch.device,
    tiny_decoder: str | None = None,
    checkpoint: str | None = None,
    **options: Any,
) -> FrozenPipeline:
    """As `load_family`, with random weights; a checkpoint has the shape of the pipeline's own transformer."""
    with untrained.random_weights(dtype, device):
        pipeline = untrained.pipeline(_known(model, "pipeline.model"), model)
        tiny = untrained.network(_known(tiny_decoder, "pipeline.tiny_decoder")) if tiny_decoder else None
    tiny = None if tiny is None else tiny.to(device, dtype).eval().requires_grad_(False)
    family: FrozenPipeline = family_from(pipeline.to(device, dtype), tiny, name=model, **options)
    return family


class Clock:
    """When a batch's denoiser and decoder were called; the device is waited for.

    Seconds between two calls are those of the clock; on a busy CPU no more than the processor time of this process.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.steps: list[tuple[float, float]] = []
        self.decoding = self.end = self.start = self.now()

    def now(self) -> tuple[float, float]:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()

    def between(self, first: tuple[float, float], last: tuple[float, float]) -> float:
        clock, own = (after - before for before, after in zip(first, last, strict=True))
        return min(clock, own) if self.device == "cpu" else clock

    @contextmanager
    def on(self, model: FrozenPipeline) -> Iterator[None]:
        """Watch one batch."""
        pipeline = model.pipeline
        denoiser = getattr(pipeline, "unet", None) or pipeline.transformer

        def at_step(*_: Any) -> None:
            self.steps.append(self.now())

        def at_decoding(*_: Any) -> None:
            self.decoding = self.now()  # the last one is the finished image's; those before served gradients

        watched = (denoiser, at_step), (pipeline.vae.decoder, at_decoding)
        hooks = [network.register_forward_pre_hook(hook) for network, hook in watched]
        self.start = self.now()
        try:
            yield
        finally:
            self.end = self.now()
            for hook in hooks:
                hook.remove()


def rehearse(recipe: Recipe, images: int = IMAGES, steps: int = STEPS, progress: Progress | None = None) -> Rehearsal:
    """Make a few images in a few steps with random weights, and say what the whole run would take here.

    images: at least one; no more than a batch's are made at once. steps: of the schedule, the last of which is timed.
    Raises ConcordError: a recipe that samples nothing, a model whose configuration is not known, too little memory.
    """
    progress = progress or Silent()
    found = check(recipe)
    recipe, device = resolved(recipe)
    data = DrawnImages(recipe.pipeline.model or "")
    played = _played(recipe, steps, [entry.key for entry in data.classes])
    free = free_memory(device)
    with threads_of(recipe):
        try:
            progress.stage("building the models")
            begin_peak(device)
            method = Generate(played, data, UntrainedModels(played), untrained_family)
            model = method.sampler.model()
            encoder = method.models.encoder if "encoder" in found else None
            scorer = _scorer(played, method, data)
            weights = peak_memory(device)
            text, real_image = (None, None) if encoder is None else _encoding(encoder, data, device)
            timed, at_once = {}, min(images, recipe.batch_size, recipe.memory.batch or recipe.batch_size)
            for variant in reversed(method.variants):
                name = "informed" if variant == "images" and recipe.is_guided else "uninformed"
                progress.stage(f"sampling, {name}")
                for first in range(0, images, at_once):
                    batch = [method.sample(n % 2, n // 2) for n in range(first, first + at_once)]
                    timed[name] = _batch(method, model, batch, variant, device)
            rating = None
            if scorer is not None:
                progress.stage("measuring")
                rating = _rating(scorer, method.sample(0, 0), data, device)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise ConcordError(
                f"the memory of {device} ({size(free)} free) does not hold the models of {recipe.name}; set"
                " dtype=bfloat16, or device to another"
            ) from None
    return carried_over(recipe, device, free, found, weights, timed, text, real_image, rating, at_once, model)


def check(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The models that a rehearsal builds, by the recipe's key; a ConcordError where it cannot rehearse the recipe."""
    if not recipe.spec.families and recipe.method != "generate":
        raise ConcordError(
            f"method {recipe.method} samples no diffusion model, so that there is nothing to rehearse; `concord distill"
            f" {recipe.name} --dry-run` says what it takes"
        )
    if recipe.pipeline.ip_adapter is not None:
        raise ConcordError(
            "an IP-Adapter cannot be rehearsed, its shapes lie in its weights; pipeline.ip_adapter=null rehearses the"
            " model without it"
        )
    found = {}
    for key, model in models(recipe).items():
        if key.startswith("pipeline.checkpoints"):
            continue  # of the pipeline's own shape
        if key in ("pipeline.model", "pipeline.tiny_decoder") or _is_encoder(recipe, key):
            files = _known(model, key)
            here = find_model(model) is not None
            source = "its directory" if here else str((published(model) or {})["source"])
            found[key] = {"model": model, "here": here, "source": source, "parameters": _parameters(files, model, key)}
        elif find_model(model) is None and key == "informing.classifier":
            raise ConcordError(
                f"the classifier {model} that informs is not on this machine, and its shape is not known without its"
                " file; give a directory (informing.classifier=DIR)"
            )
    return found


def _is_encoder(recipe: Recipe, key: str) -> bool:
    return key in _ENCODERS[:2] or (key == "scorer.model" and recipe.scorer.kind == "percentile") or "encoders" in key


def _known(model: str, key: str) -> Configuration:
    files = configuration(model)
    if not files:
        raise ConcordError(
            f"the configuration of {model} (`{key}`) is not on this machine; rehearsed are models that lie here, and"
            f" {listed(published_models(), 10)}"
        )
    return files


def _parameters(files: Configuration, model: str, key: str) -> int:
    """How many numbers a model's networks hold; nothing of them is made."""
    with untrained.random_weights(device="meta"):
        if "model_index.json" in files:
            networks = list(untrained.pipeline(files, model).components.values())
        elif key == "pipeline.tiny_decoder":
            networks = [untrained.network(files)]
        else:
            networks = [untrained.encoder(files, model, key).model]
    whole = [network for network in networks if isinstance(network, torch.nn.Module)]
    return sum(parameter.numel() for network in whole for parameter in network.parameters())


def _played(recipe: Recipe, steps: int, classes: Sequence[str]) -> Recipe:
    """The recipe on drawn images: so few steps, each guided and with a gradient; its own concepts are pinned."""
    settings, informing, concepts = recipe.pipeline, recipe.informing, recipe.concepts
    phrases = [f"{_PHRASES[n % len(_PHRASES)]} of kind {n}" for n in range(2 * concepts.keep)]
    pinned = {key: phrases[n :: len(classes)] for n, key in enumerate(classes)}
    short: dict[str, Any] = {"steps": steps, "checkpoints": {}, "mirrors": []}
    short |= {"guidance": Guidance(window=(0.0, 1.0))}
    if settings.from_images and settings.start != "prototype":
        short["start"] = "real"
    return recipe.model_copy(
        update={
            "uninformed": True,
            "classes": None,
            "class_names": {},
            "pipeline": settings.model_copy(update=short),
            "informing": informing.model_copy(update={"window": (0.0, 1.0), "every": 1}),
            "concepts": concepts.model_copy(update={"bank": None, "pinned": pinned, "images": 2}),
            "guides": [entry | ({"window": [0.0, 1.0]} if "window" in entry else {}) for entry in recipe.guides],
        }
    )


def _scorer(recipe: Recipe, method: Generate, data: DrawnImages) -> Scorer | None:
    """What rates the images: the recipe's scorer, else percentiles by the encoder that details.json takes."""

    def real(encoder: Encoder, name: str) -> torch.Tensor:
        return embed_images(encoder, data, 0, 2)

    kind, named = recipe.scorer.kind, SCORERS.get(recipe.scorer.kind).models(recipe)
    if all(find_model(model) is not None or kind == "percentile" for model in named.values()):
        with SCORERS.blamed(kind):
            scorer: Scorer | None = SCORERS.build(kind, SCORERS.get(kind).build)(recipe, method.models, real)
            if scorer is not None:
                return scorer
    return percentile_by(recipe.scorer.encoder, "scorer.encoder", method.models, real) if recipe.uses_concepts else None


def _encoding(encoder: Encoder, data: DrawnImages, device: str) -> tuple[float, float]:
    """Seconds of embedding one text and one real image, each the second of its kind."""
    pixels = to_pixels(data.read("0/0"))[None]
    with torch.no_grad():
        encoder.texts(["warm"]), encoder.images(pixels)
        text = _seconds(partial(encoder.texts, ["a text"]), device)
        return text, _seconds(partial(encoder.images, pixels), device)


def _batch(method: Generate, model: FrozenPipeline, batch: list[Sample], variant: str, device: str) -> Timed:
    clock = Clock(device)
    begin_peak(device)
    with clock.on(model):
        method.make(batch, variant)
    made = min(len(batch), method.sampler.at_once or len(batch))
    conditions = clock.between(clock.start, clock.steps[0])
    step = clock.between(clock.steps[-1], clock.decoding)
    return Timed(made, conditions, step, clock.between(clock.decoding, clock.end), peak_memory(device))


def _rating(scorer: Scorer, sample: Sample, data: DrawnImages, device: str) -> float:
    """Seconds of rating one image; its class's real images and texts are embedded before."""
    pixels, name = to_pixels(data.read("0/0"))[None], data.classes[0].class_name
    phrases = scorer.classifier.labels if isinstance(scorer, Detector) else list(_PHRASES)
    concepts = [(name, str(phrase)) for phrase in phrases]
    scorer.rate(pixels, concepts)
    return _seconds(partial(scorer.rate, pixels, concepts), device)


def _seconds(work: Any, device: str) -> float:
    clock = Clock(device)
    work()
    return clock.between(clock.start, clock.now())
