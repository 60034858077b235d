"""Execution: make what the plan asks for and the store lacks, in this process or in several.

The parent plans and is the only writer; a worker builds the method from the recipe once and turns samples into file
bytes. Which worker makes a batch, and when, changes nothing in the result. Files are written while the next batch is
made.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from concord.data import ClassTable, ImageSet, open_data, restrict
from concord.events import Progress, Silent
from concord.methods import build, needs_torch
from concord.methods.base import Method
from concord.models.hub import find_model, size_of
from concord.plan import Batch, Sample, batches
from concord.recipe import CHOSEN, Format, Recipe, models
from concord.runs import workspace
from concord.runs.store import Store, encode
from concord.storage.atomic import disk_errors, lock, write_json
from concord.storage.processes import CONTEXT, spread
from concord.storage.threads import Writer
from concord.system import cores, memory, resolve_device, resolve_dtype
from concord.workflows.requirements import require_models


@dataclass(frozen=True)
class Job:
    """A batch to make whole for one variant, and those of its samples that shall be kept."""

    variant: str
    batch: Batch
    keep: tuple[Sample, ...]


@dataclass(frozen=True)
class Finished:
    """A sample's image, with its scores."""

    variant: str
    sample: Sample
    made: Image.Image
    scores: dict[str, float | int]

    def encoded(self, form: Format) -> Encoded:
        return Encoded(self.variant, self.sample, encode(self.made, form), self.scores)


@dataclass(frozen=True)
class Encoded:
    """A sample as file bytes, with its scores."""

    variant: str
    sample: Sample
    data: bytes
    scores: dict[str, float | int]

    def encoded(self, form: Format) -> Encoded:
        return self


def open_recipe_data(recipe: Recipe) -> ImageSet:
    """Open the data set that a recipe names, with the classes and class names that it asks for."""
    return restrict(open_data(recipe.data, recipe.unreadable), recipe.classes, recipe.class_names)


def resolved(recipe: Recipe) -> tuple[Recipe, str]:
    """Return the recipe with `dtype` decided, and the device to compute on."""
    if not needs_torch(recipe):
        return recipe, "cpu"
    device = resolve_device(recipe.device)
    return recipe.model_copy(update={"dtype": resolve_dtype(recipe.dtype, device)}), device


def distill(recipe: Recipe, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Make the recipe's set in `out`, or what is missing of it; return what results.json holds.

    With more than one worker, processes are spawned: a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    Raises:
        ConcordError: anything the user can put right; what was finished stays, and the same call goes on from there.
    """
    progress = progress or Silent()
    start = time.perf_counter()
    if needs_torch(recipe):
        require_models(recipe)
    recipe, device = resolved(recipe)
    progress.stage(f"reading {recipe.data}")
    data = open_recipe_data(recipe)
    for note in data.notes:
        progress.note(note)
    for note in workspace.check(out, recipe, data):
        progress.note(note)
    method = build(recipe, data)
    counts = [method.count(entry.label, recipe.ipc) for entry in data.classes]
    # Up to here nothing is written: a recipe that cannot work leaves no trace.
    with lock(out), _threads(recipe):
        workspace.check(out, recipe, data)  # again: another run may just have begun here
        workspace.begin(out, recipe, data, device)
        stores = {variant: Store(out / variant, recipe.format) for variant in method.variants}
        for store in stores.values():
            store.trim(counts)
        progress.stage("planning")
        method.recall(_known_concepts(out))
        jobs = pending(method, counts, data.classes, stores)
        total, missing = sum(counts) * len(stores), sum(len(job.keep) for job in jobs)
        if jobs:
            (out / "results.json").unlink(missing_ok=True)  # it would speak of the smaller set
        concepts = method.concepts()
        if concepts is not None:
            write_json(out / "concepts.json", concepts)
        made = dict.fromkeys(stores, 0)
        making = time.perf_counter()
        progress.begin(total, total - missing)

        def add(batch: Sequence[Encoded]) -> None:
            for one in batch:
                entry = data.classes[one.sample.class_index]
                stores[one.variant].add(one.sample, entry, one.data, one.scores)
                made[one.variant] += 1
            progress.advance(len(batch), [one.scores for one in batch])

        def to_bytes(one: Finished | Encoded) -> Encoded:
            return one.encoded(recipe.format)

        with Writer(to_bytes, add, threads=min(4, cores())) as writer:
            for finished in _execute(recipe, method, jobs, device):
                writer.put(finished)
        making = time.perf_counter() - making
        for store in stores.values():
            store.finish()
        main = stores[method.variants[0]]
        progress.stage("measuring")
        results: dict[str, Any] = {
            "recipe": recipe.name,
            "method": recipe.method,
            "ipc": recipe.ipc if recipe.method != "full" else None,
            "classes": len(data.classes),
            "images": len(main.rows),
            "made": made[method.variants[0]],
            "kept": len(main.rows) - made[method.variants[0]],
            "uninformed_steps": sum(int(row["scores"].get("uninformed_steps", 0)) for row in main.rows.values()),
        }
        further = method.results(out)
        per_image = making / results["made"] if results["made"] else None
        results |= {
            "seconds": round(time.perf_counter() - start, 3),
            "seconds_per_image": _rounded(per_image),
            "images_per_second": _rounded(sum(made.values()) / making) if results["made"] else None,
        } | further
        write_json(out / "results.json", results)
        progress.stage("drawing")
        with disk_errors(out):
            method.finish(out)
    return {"schema": 1, **results}


def _known_concepts(out: Path) -> dict[str, Any]:
    """Return concepts.json of an earlier call, or nothing; `workspace.check` saw to it that the recipe is the same."""
    try:
        values = json.loads((out / "concepts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def pending(method: Method, counts: list[int], classes: ClassTable, stores: dict[str, Store]) -> list[Job]:
    """Return the batches that a store lacks something of, in the plan's order; a pair of variants lies together."""
    jobs = []
    for batch in batches(method.sample, counts, method.batch_size):
        wanted = [s for s in batch.samples if s.index < counts[s.class_index]]
        for variant, store in stores.items():
            keep = tuple(s for s in wanted if not store.has(s, classes[s.class_index]))
            if keep:
                jobs.append(Job(variant, batch, keep))
    return jobs


def worker_count(recipe: Recipe, jobs: int, device: str) -> int:
    """Return how many processes shall work: what the recipe says, or what cores, memory and jobs are good for."""
    if recipe.workers != "auto":
        return max(1, min(recipe.workers, jobs))
    if recipe.method in CHOSEN or not needs_torch(recipe):
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


def _execute(recipe: Recipe, method: Method, jobs: list[Job], device: str) -> Iterator[Sequence[Finished | Encoded]]:
    workers = worker_count(recipe, len(jobs), device)
    if workers > 1:
        yield from _parallel(recipe, jobs, workers, device)
    else:
        for job in jobs:
            yield _make(method, job)


def _make(method: Method, job: Job) -> list[Finished]:
    """Make a job's batch whole, and return what of it is kept."""
    made = method.make(job.batch.samples, job.variant)
    kept = {sample.place for sample in job.keep}
    return [
        Finished(job.variant, sample, one.image, dict(one.scores))
        for sample, one in zip(job.batch.samples, made, strict=True)
        if sample.place in kept
    ]


def _parallel(recipe: Recipe, jobs: Iterable[Job], workers: int, device: str) -> Iterator[list[Encoded]]:
    """Yield finished jobs as they come."""
    yield from spread(_work, jobs, workers, _start, (recipe, device, CONTEXT.Value("i", 0)))


@dataclass
class _Worker:
    """What a worker process knows; the method is built with the first job, so that its errors reach the parent."""

    recipe: Recipe
    method: Method | None = None


_worker: _Worker | None = None


def _start(recipe: Recipe, device: str, rank: Any) -> None:
    """Prepare a worker process: its device and its threads."""
    global _worker
    if needs_torch(recipe):
        import torch

        torch.set_num_threads(recipe.threads)
        if device == "cuda":
            with rank.get_lock():
                device = f"cuda:{rank.value % torch.cuda.device_count()}"
                rank.value += 1
    _worker = _Worker(recipe.model_copy(update={"device": device}))


def _work(job: Job) -> list[Encoded]:
    if _worker is None:
        raise RuntimeError("the worker process was not started by _start")
    if _worker.method is None:
        _worker.method = build(_worker.recipe, open_recipe_data(_worker.recipe))
    # The parent gets bytes: an image is many times as large, and encoding by one process would hold the others up.
    return [one.encoded(_worker.recipe.format) for one in _make(_worker.method, job)]


@contextlib.contextmanager
def _threads(recipe: Recipe) -> Iterator[None]:
    """Compute with the recipe's number of threads, as every worker does: sums depend on it in their last bits."""
    if not needs_torch(recipe):
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
