"""From a few images in a few steps to the whole run: what a rehearsal measured, carried over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from concord.concepts.bank import load_bank
from concord.data.class_lists import class_list, class_lists
from concord.errors import ConcordError
from concord.pipelines.base import FrozenPipeline
from concord.pipelines.schedulers import named_scheduler
from concord.recipe import Recipe
from concord.recipe.window import gradient_steps
from concord.system import cores
from concord.workflows.executors import open_recipe_data


@dataclass(frozen=True)
class Timed:
    """Seconds of a batch of `images`: what is done before its first step, its last step, its decoding; and the peak of
    memory in bytes."""

    images: int
    conditions: float
    step: float
    decoding: float
    memory: int


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal found; bytes and seconds, an estimate where the whole run is meant.

    weights: memory with every model loaded. timed: by variant, ``uninformed`` and, where the recipe is guided,
    ``informed``. text, real_image, rating: of one text and one real image for the encoder, and of rating one image
    (None: nothing rates). memory: of the recipe's batch, of one worker. at_once: images at once that the memory held,
    of those that were `asked` of it. evaluations, gradients: of a whole sampling's denoiser, and those that are
    informed. selection: of choosing concepts. seconds: of the whole run; None where the number of classes is not known.
    """

    recipe: Recipe
    device: str
    free: int
    models: tuple[dict[str, Any], ...]
    weights: int
    timed: Mapping[str, Timed]
    text: float | None
    real_image: float | None
    rating: float | None
    at_once: int
    asked: int
    memory: int
    evaluations: int
    gradients: int
    classes: int | None
    workers: int
    selection: float | None
    seconds_per_image: float
    seconds: float | None

    @property
    def fits(self) -> bool:
        """Whether the recipe's batch fits at once; if not, it is made in parts."""
        return self.memory <= self.free and self.at_once == self.asked

    @property
    def largest_batch(self) -> int:
        """How many images the memory will hold at once."""
        return max(1, int((self.free - self.weights) / _memory_of_an_image(self.timed, self.weights)))

    @property
    def images(self) -> int | None:
        """All images of the run, those without informing included."""
        return None if self.classes is None else self.classes * self.recipe.ipc * _variants(self.recipe)


def carried_over(
    recipe: Recipe,
    device: str,
    free: int,
    found: Mapping[str, dict[str, Any]],
    weights: int,
    timed: Mapping[str, Timed],
    text: float | None,
    real_image: float | None,
    rating: float | None,
    asked: int,
    model: FrozenPipeline,
) -> Rehearsal:
    """From a few steps to the whole run: each evaluation costs a plain step, each gradient what it adds to one."""
    plain, evaluations, gradients = timed["uninformed"], *_schedule(recipe, model)
    each = plain.conditions + evaluations * plain.step + plain.decoding
    seconds = each / plain.images
    if (informed := timed.get("informed")) is not None:
        extra = max(0.0, informed.step - plain.step * informed.images / plain.images) / informed.images
        seconds = seconds + gradients * extra + (seconds if _variants(recipe) == 2 else 0)
    seconds += (rating or 0.0) * _variants(recipe)
    classes, real = _classes(recipe)
    selection = None
    if recipe.uses_concepts and classes is not None and text is not None and real_image is not None:
        looked_at = real if recipe.concepts.images is None else classes * recipe.concepts.images
        selection = None if looked_at is None else looked_at * real_image + _texts(recipe, classes) * text
    whole_batch = min(recipe.batch_size, recipe.memory.batch or recipe.batch_size)
    memory = int(weights + _memory_of_an_image(timed, weights) * whole_batch)
    workers = _workers(recipe, device, free, memory, classes)
    whole = None if classes is None else (selection or 0.0) + seconds * classes * recipe.ipc / workers
    return Rehearsal(
        recipe=recipe,
        device=device,
        free=free,
        models=tuple({"key": key, **facts} for key, facts in found.items()),
        weights=weights,
        timed=timed,
        text=text,
        real_image=real_image,
        rating=rating,
        at_once=min(one.images for one in timed.values()),
        asked=asked,
        memory=memory,
        evaluations=evaluations,
        gradients=gradients if informed is not None else 0,
        classes=classes,
        workers=workers,
        selection=selection,
        seconds_per_image=seconds,
        seconds=whole,
    )


def _memory_of_an_image(timed: Mapping[str, Timed], weights: int) -> float:
    """What an image takes beside the weights, of the variant that takes most."""
    return max(1.0, *((one.memory - weights) / one.images for one in timed.values()))


def _variants(recipe: Recipe) -> int:
    return 2 if recipe.uninformed and recipe.is_guided else 1


def _schedule(recipe: Recipe, model: FrozenPipeline) -> tuple[int, int]:
    """How often a whole sampling evaluates the denoiser, and at how many of these it takes a gradient."""
    settings, informing = recipe.pipeline, recipe.informing
    scheduler = named_scheduler(
        model.pipeline, settings.scheduler, getattr(model, "learned_variance", False), settings.scheduler_options
    )
    shifted = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting", False) else {}
    scheduler.set_timesteps(settings.steps, **shifted)
    count, begun = len(scheduler.timesteps), settings.skipped(settings.steps) * int(getattr(scheduler, "order", 1))
    taken = len(gradient_steps(informing.window, informing.every, count, begun)) if informing.enabled else 0
    return count - begun, taken


def _classes(recipe: Recipe) -> tuple[int | None, int | None]:
    """The classes of the run, and their real images: of the data where they are here, else of the recipe's lists."""
    try:
        data = open_recipe_data(recipe)
    except ConcordError:
        words = recipe.classes or []
        known = [len(class_list(word)) if word in class_lists() else 1 for word in words]
        return (sum(known) or None), None
    return len(data.classes), sum(len(data.items(entry.label)) for entry in data.classes)


def _texts(recipe: Recipe, classes: int) -> float:
    """Phrases that the selection rates: the bank's, in the mean of a class."""
    if recipe.concepts.bank is None:
        return float(sum(map(len, recipe.concepts.pinned.values())))
    every = list(load_bank(recipe.concepts.bank).classes.values())
    return classes * sum(len(entry.phrases) for entry in every) / max(1, len(every))


def _workers(recipe: Recipe, device: str, free: int, memory: int, classes: int | None) -> int:
    """How many workers share the run: as many as the recipe says, else the GPUs, or what cores and memory hold."""
    batches = max(1, (classes or 1) * recipe.ipc * _variants(recipe) // recipe.batch_size)
    if recipe.workers != "auto":
        return max(1, min(recipe.workers, batches))
    if device.startswith("cuda"):
        return min(torch.cuda.device_count() if device == "cuda" else 1, batches)
    return 1 if device != "cpu" else max(1, min(cores() // recipe.threads, batches // 2, free // max(1, memory)))


def record(found: Rehearsal) -> dict[str, Any]:
    """A rehearsal as ``--json`` prints it: bytes and seconds, null where they are not known."""
    recipe = found.recipe
    return {
        "recipe": recipe.name,
        "method": recipe.method,
        "device": found.device,
        "dtype": recipe.dtype,
        "threads": recipe.threads,
        "models": list(found.models),
        "memory_free_bytes": found.free,
        "memory_weights_bytes": found.weights,
        "memory_bytes": found.memory,
        "batch_size": recipe.batch_size,
        "fits": found.fits,
        "at_once": found.at_once,
        "largest_batch": found.largest_batch,
        "variants": {
            name: {
                "images_at_once": one.images,
                "memory_bytes": one.memory,
                "conditions_seconds": round(one.conditions, 4),
                "step_seconds": round(one.step, 4),
                "decoding_seconds": round(one.decoding, 4),
            }
            for name, one in found.timed.items()
        },
        "text_seconds": _rounded(found.text),
        "real_image_seconds": _rounded(found.real_image),
        "rating_seconds": _rounded(found.rating),
        "evaluations": found.evaluations,
        "gradients": found.gradients,
        "classes": found.classes,
        "images": found.images,
        "workers": found.workers,
        "seconds_per_image": _rounded(found.seconds_per_image),
        "selection_seconds": _rounded(found.selection),
        "seconds": _rounded(found.seconds),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
