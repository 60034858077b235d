"""Who makes the batches of a plan: this process, or several. A batch is the unit of bytes, so a set does not tell.

An executor makes every job whole and hands out what is kept of it, in any order. The caller alone stores it.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from concord.data import ImageSet, open_data, restrict
from concord.data.index import open_indexed
from concord.errors import ConcordError
from concord.methods import build, needs_torch
from concord.methods.base import Informed, Method
from concord.models.hub import find_model, size_of
from concord.plan import Batch, Sample
from concord.recipe import Format, Recipe, models
from concord.runs import begin
from concord.storage.cluster import RESOURCES, Cluster
from concord.storage.crew import Spread, unheard
from concord.storage.images import encode
from concord.storage.processes import spread
from concord.system import cores, memory, resolve_dtype, version
from concord.text import counted

if TYPE_CHECKING:  # they bring torch
    from concord.concepts.selection import Concept
    from concord.metrics.class_images import ClassJob
    from concord.metrics.measure_run import Engine, Measuring


@dataclass(frozen=True)
class Job:
    """A batch to make whole for one variant, and those of its samples that shall be kept."""

    variant: str
    batch: Batch
    keep: tuple[Sample, ...]

    def __str__(self) -> str:
        return f"batch {self.batch.number} of {' '.join((self.variant, self.batch.checkpoint)).rstrip()}"


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


Selector = Callable[[Iterable[int]], "Iterator[tuple[int, list[Concept]]]"]
"""Selects the concepts of classes somewhere, and yields them by label as they come."""


def here(method: Method) -> Executor:
    return lambda jobs: (_make(method, job) for job in jobs)


def spread_by(
    engine: Spread, recipe: Recipe, device: str, workers: int, told: Callable[[str], None] = unheard, *facts: Any
) -> Executor:
    """Jobs are made by workers of an engine, each with a method of its own; GPUs of one machine are dealt out in turn.

    facts: what a worker on another machine must find as it is here, see `facts_of`; and an index of the data, `_start`.
    """
    return lambda jobs: engine(_work, jobs, workers, _start, (recipe, device, *facts), told)


processes = partial(spread_by, spread)
"""Jobs are made in spawned processes of this machine."""


def select_by(
    engine: Spread, recipe: Recipe, device: str, workers: int, told: Callable[[str], None] = unheard, *facts: Any
) -> Selector:
    """The concepts of classes are selected by workers of an engine, as `spread_by` has jobs made."""
    return lambda labels: engine(_select, labels, workers, _start, (recipe, device, *facts), told)


def measure_by(
    engine: Spread, recipe: Recipe, device: str, workers: int, told: Callable[[str], None] = unheard, *facts: Any
) -> "Engine":
    """Classes of a run are measured by workers of an engine, as `spread_by` has jobs made, which find the images."""

    def measured(run: "Measuring", names: Sequence[str], jobs: "Iterable[ClassJob]") -> Iterator[tuple[int, Any]]:
        kept = None if run.concepts is None else (run.concepts.used, run.concepts.kept if run.concepts.used else [])
        return engine(_measure, jobs, workers, _start_measuring, (tuple(names), kept, recipe, device, *facts), told)

    return measured


def facts_of(recipe: Recipe, data: ImageSet) -> dict[str, Any]:
    """What decides bytes beside the recipe, and must be the same on each machine: versions, and the real images."""
    return {"concord": version(), **begin.versions(), recipe.data: data.fingerprint}


def require_facts(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Refuse a machine on which bytes would differ. Raises ConcordError: it names what."""
    pairs = [(key, found.get(key), value) for key, value in expected.items()]
    if wrong := [f"{key} is {here}, expected {there}" for key, here, there in pairs if here != there]:
        raise ConcordError(f"{'; '.join(wrong)}: bytes would differ; every node needs the same packages and images")


@dataclass(frozen=True)
class Team:
    """The workers of a cluster for one recipe: how many, on which device, in which precision.

    index: where a look at the data is kept (`concord.data.index`); the nodes are given what it holds.
    """

    cluster: Cluster
    recipe: Recipe
    device: str
    index: Path | None = None

    def executor(self, data: ImageSet, jobs: int, told: Callable[[str], None]) -> Executor:
        """Jobs are made on the nodes, by as many workers as the recipe says or as there is room for."""
        return spread_by(*self._given(data, jobs, told))

    def selector(self, data: ImageSet, labels: int, told: Callable[[str], None]) -> Selector:
        """Concepts are selected on the nodes, by as many workers."""
        return select_by(*self._given(data, labels, told))

    def engine(self, data: ImageSet, told: Callable[[str], None]) -> "Engine":
        """Classes are measured on the nodes, by as many workers; made images are sent there."""

        def measured(run: "Measuring", names: Sequence[str], jobs: "Iterable[ClassJob]") -> Iterator[tuple[int, Any]]:
            by_nodes = measure_by(*self._given(data, len(data.classes), told))
            return by_nodes(run, names, (job.packed() for job in jobs))

        return measured

    def _given(self, data: ImageSet, jobs: int, told: Callable[[str], None]) -> tuple[Any, ...]:
        asked, has = self.recipe.workers, self.cluster.resources()
        workers = max(1, min(self.most if asked == "auto" else asked, jobs))
        told(
            f"{counted(workers, 'worker')} on {counted(int(has['nodes']), 'node')} of the cluster, device {self.device}"
        )
        look = self.index.read_bytes() if self.index is not None and self.index.is_file() else None
        return self.cluster.spread, self.recipe, self.device, workers, told, facts_of(self.recipe, data), look

    @property
    def most(self) -> int:
        """Workers that the cluster has room for now."""
        has = self.cluster.resources()
        return max(1, min(int(has.get(RESOURCES[key], 0) // need) for key, need in self.cluster.each.items() if need))


def team(cluster: Cluster, recipe: Recipe, share_gpus: bool = False, index: Path | None = None) -> Team:
    """Decide by what a cluster has: a worker a GPU where there are some, else one for each `threads` of its cores.

    index: see `Team`.
    Raises:
        ConcordError: the recipe asks for a device that it has not.
    """
    if not needs_torch(recipe):
        return Team(cluster, recipe, "cpu", index)
    gpus = cluster.resources().get("GPU", 0.0)
    if recipe.device not in ("auto", "cuda", "cpu"):
        raise ConcordError(
            f"device={recipe.device} names a device of this machine; with --cluster give cuda, cpu or auto"
        )
    if recipe.device == "cuda" and not gpus:
        raise ConcordError(f"device=cuda, and the cluster at {cluster.address} has no GPU; give device=auto")
    if gpus and recipe.device != "cpu":
        # A worker waits for a GPU of its own, which an autoscaler may bring; nothing doubles up unasked.
        share = 1.0
        if share_gpus and isinstance(recipe.workers, int):
            share = min(1.0, gpus / recipe.workers)
        each, device = {"num_cpus": 1.0, "num_gpus": share}, "cuda"
    else:
        each, device = {"num_cpus": float(recipe.threads), "memory": float(_memory_of(recipe))}, "cpu"
    cluster = replace(cluster, each=each)
    # This process plans and measures, on what it has; which may be no GPU, on the head of a cluster.
    settled = {
        "dtype": cluster.call(resolve_dtype, recipe.dtype, device),
        "device": "cpu" if device == "cpu" else "auto",
    }
    return Team(cluster, recipe.model_copy(update=settled), device, index)


def require_gpus(recipe: Recipe, device: str, share_gpus: bool) -> None:
    """Refuse more workers than GPUs of this machine, unless they shall share them.

    Raises:
        ConcordError: it says so.
    """
    if share_gpus or not (device.startswith("cuda") and isinstance(recipe.workers, int) and needs_torch(recipe)):
        return
    import torch

    gpus = torch.cuda.device_count() if device == "cuda" else 1
    if recipe.workers > gpus:
        raise ConcordError(
            f"workers={recipe.workers}, and this machine has {counted(gpus, 'GPU')} to work on: several would share"
            f" one, each with its own models; give workers={gpus}, or --share-gpus where the memory is enough"
        )


def open_recipe_data(recipe: Recipe, index: Path | None = None) -> ImageSet:
    """Open the data set that a recipe names, with the classes and class names that it asks for.

    index: where `concord.data.index` keeps a look at the folder.
    """
    opened = open_data if index is None else partial(open_indexed, index)
    data = opened(recipe.data, recipe.unreadable, grey_range=recipe.grey_range, max_pixels=recipe.max_pixels)
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
    return max(1, min(cores() // recipe.threads, jobs // 2, int(0.7 * memory() / _memory_of(recipe))))


def _memory_of(recipe: Recipe) -> int:
    """Bytes that a worker on a CPU takes, about."""
    paths = [find_model(model) for model in models(recipe).values()]
    # Weights are stored in half precision as a rule and computed with in single; a gigabyte for the libraries.
    return 2**30 + 2 * sum(size_of(path) for path in paths if path is not None)


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
    """What a worker knows; the method is built with the first job."""

    recipe: Recipe
    data: ImageSet | None = None
    method: Method | None = None
    index: Path | None = None
    measuring: "tuple[Measuring, tuple[str, ...]] | None" = None


_worker: _Worker | None = None


def _start(
    rank: int, recipe: Recipe, device: str, facts: dict[str, Any] | None = None, index: Path | bytes | None = None
) -> None:
    """Begin a worker.

    facts: what its machine must have, too; None on the machine that asks. index: where a look at the data is kept, or
    what is kept there, see `open_recipe_data`.
    """
    global _worker
    if needs_torch(recipe):
        import torch

        torch.set_num_threads(recipe.threads)
        if device == "cuda":
            device = f"cuda:{rank % torch.cuda.device_count()}"
    _worker = _Worker(recipe.model_copy(update={"device": device}))
    if isinstance(index, Path):
        _worker.index = index
    if facts is not None:
        with _at_hand(index) as look:
            _worker.data = open_recipe_data(recipe, look)
        require_facts(facts_of(recipe, _worker.data), facts)


@contextlib.contextmanager
def _at_hand(index: Path | bytes | None) -> Iterator[Path | None]:
    """A kept look at the data as a file of this machine, for as long as the data are opened."""
    if not isinstance(index, bytes):
        yield index
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index.json")
        path.write_bytes(index)
        yield path


def _begun() -> tuple[Recipe, Method]:
    """The recipe and the method of this worker."""
    if _worker is None:
        raise RuntimeError("the worker was not started by _start")
    if _worker.method is None:
        _worker.method = build(_worker.recipe, _worker.data or open_recipe_data(_worker.recipe, _worker.index))
    return _worker.recipe, _worker.method


def _work(job: Job) -> list[Finished]:
    recipe, method = _begun()
    # The parent gets bytes: an image is many times as large, and encoding by one process would hold the others up.
    return [one.encoded(recipe.format) for one in _make(method, job)]


def _select(label: int) -> "tuple[int, list[Concept]]":
    _, method = _begun()
    if not isinstance(method, Informed):
        raise RuntimeError("only a method that is informed selects concepts")
    return label, method.concepts.select(label)


def _start_measuring(
    rank: int, names: tuple[str, ...], kept: tuple[bool, Sequence[Sequence[str]]] | None, recipe: Recipe, *given: Any
) -> None:
    """Begin a worker that measures classes by metrics of these names; it loads no model that only makes images."""
    from concord.metrics.measure_run import Kept, Measuring  # imported here: real images need no torch
    from concord.models.cache import ModelCache

    _start(rank, recipe, *given)
    assert _worker is not None
    recipe, data = _worker.recipe, _worker.data or open_recipe_data(_worker.recipe, _worker.index)
    concepts = None if kept is None else Kept(*kept)
    _worker.measuring = Measuring(recipe, data, Path(), (), ModelCache(recipe), concepts), names


def _measure(job: "ClassJob") -> tuple[int, dict[str, Any]]:
    from concord.metrics.measure_run import measure_class

    if _worker is None or _worker.measuring is None:
        raise RuntimeError("the worker was not started by _start_measuring")
    return measure_class(*_worker.measuring, job)
