"""Who makes the batches of a plan: this process, or several. A batch is the unit of bytes, so a set does not tell.

An executor makes every job whole and hands out what is kept of it, in any order. The caller alone stores it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from concord.data import ImageSet, open_data, restrict
from concord.methods import build, needs_torch
from concord.methods.base import Method
from concord.models.hub import find_model, size_of
from concord.plan import Batch, Sample
from concord.recipe import Format, Recipe, models
from concord.storage.images import encode
from concord.storage.processes import CONTEXT, spread
from concord.system import cores, memory


@dataclass(frozen=True)
class Job:
    """A batch to make whole for one variant, and those of its samples that shall be kept."""

    variant: str
    batch: Batch
    keep: tuple[Sample, ...]


@dataclass(frozen=True)
class Finished:
    """A sample's image, or the bytes of its file; its scores; its pixels unrounded and soft label, where there are."""

    variant: str
    sample: Sample
    image: Image.Image | bytes
    scores: dict[str, float | int]
    tensor: np.ndarray | None = None
    soft: np.ndarray | None = None

    def encoded(self, form: Format) -> "Finished":
        return self if isinstance(self.image, bytes) else replace(self, image=encode(self.image, form))


Executor = Callable[[Iterable[Job]], Iterator[Sequence[Finished]]]
"""Makes jobs somewhere, and yields what is kept of each as it ends; what came before a ConcordError is good."""


def here(method: Method) -> Executor:
    return lambda jobs: (_make(method, job) for job in jobs)


def processes(recipe: Recipe, device: str, workers: int) -> Executor:
    """Jobs are made in spawned processes of this machine, each with a method of its own; GPUs are dealt out in turn."""
    return lambda jobs: spread(_work, jobs, workers, _start, (recipe, device, CONTEXT.Value("i", 0)))


def open_recipe_data(recipe: Recipe) -> ImageSet:
    """Open the data set that a recipe names, with the classes and class names that it asks for."""
    data = open_data(recipe.data, recipe.unreadable, grey_range=recipe.grey_range, max_pixels=recipe.max_pixels)
    return restrict(data, recipe.classes, recipe.class_names)


def worker_count(recipe: Recipe, jobs: int, device: str) -> int:
    """Return how many processes shall work: what the recipe says, or what cores, memory and jobs are good for."""
    if recipe.workers != "auto":
        return max(1, min(recipe.workers, jobs))
    if recipe.is_real or not needs_torch(recipe):
        return max(1, min(cores(), jobs // 200))  # a worker starts as long as it copies some hundred images
    if device.startswith("cuda"):
        import torch

        return max(1, min(torch.cuda.device_count() if device == "cuda" else 1, jobs))
    if device != "cpu":
        return 1
    paths = [find_model(model) for model in models(recipe).values()]
    # Weights are stored in half precision as a rule and computed with in single; a gigabyte for the libraries.
    each = 2**30 + 2 * sum(size_of(path) for path in paths if path is not None)
    return max(1, min(cores() // recipe.threads, jobs // 2, int(0.7 * memory() / each)))


def _make(method: Method, job: Job) -> list[Finished]:
    """Make a job's batch whole, and return what of it is kept."""
    made = method.make(job.batch.samples, job.variant)
    kept = {sample.place for sample in job.keep}
    return [
        Finished(job.variant, sample, one.image, dict(one.scores), one.tensor, one.soft)
        for sample, one in zip(job.batch.samples, made, strict=True)
        if sample.place in kept
    ]


@dataclass
class _Worker:
    """What a worker process knows; the method is built with the first job, so that its errors reach the parent."""

    recipe: Recipe
    method: Method | None = None


_worker: _Worker | None = None


def _start(recipe: Recipe, device: str, rank: Any) -> None:
    global _worker
    if needs_torch(recipe):
        import torch

        torch.set_num_threads(recipe.threads)
        if device == "cuda":
            with rank.get_lock():
                device = f"cuda:{rank.value % torch.cuda.device_count()}"
                rank.value += 1
    _worker = _Worker(recipe.model_copy(update={"device": device}))


def _work(job: Job) -> list[Finished]:
    if _worker is None:
        raise RuntimeError("the worker process was not started by _start")
    if _worker.method is None:
        _worker.method = build(_worker.recipe, open_recipe_data(_worker.recipe))
    # The parent gets bytes: an image is many times as large, and encoding by one process would hold the others up.
    return [one.encoded(_worker.recipe.format) for one in _make(_worker.method, job)]
