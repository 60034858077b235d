"""A run, from recipe to page: plan, make, store, measure, draw.

The parent plans and is the only writer; an executor turns samples into images. Which worker makes a batch, and when,
changes nothing in the result. Files are written while the next batch is made.
"""

import contextlib
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concord.choices import TENSORS
from concord.data import ClassTable, ImageSet
from concord.data.index import INDEX, keep
from concord.errors import ConcordError
from concord.events import Progress, Silent
from concord.methods import build, needs_torch
from concord.methods.base import Fits, Informed, InTensors, Method, Pools, Resumes, Tells
from concord.models.hub import find_model, trace_of
from concord.plan import Sample, batches, cuts
from concord.recipe import Recipe, models
from concord.registry import SCORERS
from concord.report.page import write_report
from concord.runs import begin, shards
from concord.runs.directory import Run
from concord.runs.store import Row, Store
from concord.runs.verify import damage, seal
from concord.storage.atomic import disk_errors, lock, write_json
from concord.storage.checksums import CHECKSUMS, read_checksums, sum_of_file
from concord.storage.cluster import Cluster
from concord.storage.processes import spread
from concord.storage.threads import Writer
from concord.system import cores, resolve_device, resolve_dtype, slow_dtype, version
from concord.text import counted
from concord.workflows.executors import (
    Executor,
    Finished,
    Job,
    Team,
    here,
    measure_by,
    open_recipe_data,
    processes,
    require_gpus,
    select_by,
    team,
    worker_count,
)
from concord.workflows.requirements import require_models, with_model

if TYPE_CHECKING:
    from concord.concepts.plan import ConceptPlan
    from concord.metrics.measure_run import Engine, Measuring

SELECTION = "selection.jsonl"
"""Where each class's concepts are kept until all are selected."""
SHARED = 40
"""Classes of which concepts are selected, and images measured, by several workers of this machine; those of fewer are
done before a worker has loaded its models."""
POOL = "pool"
"""Where the larger set lies that a set is chosen from, in the directory of the set."""
FITTED = "fit"
"""Where a method that fits all images together keeps its state, in the run's directory, until the set is finished."""


def as_computed(recipe: Recipe) -> Recipe:
    """Return the recipe with `dtype` decided; torch is only asked where the recipe leaves it open."""
    return resolved(recipe)[0] if recipe.dtype == "auto" else recipe


def resolved(recipe: Recipe) -> tuple[Recipe, str]:
    """Return the recipe with `dtype` decided, and the device to compute on."""
    if not needs_torch(recipe):
        return recipe, "cpu"
    device = resolve_device(recipe.device)
    return recipe.model_copy(update={"dtype": resolve_dtype(recipe.dtype, device)}), device


def distill(
    recipe: Recipe,
    out: Path,
    progress: Progress | None = None,
    *,
    data: ImageSet | None = None,
    method: Callable[[Recipe, ImageSet], Method] | None = None,
    cluster: Cluster | None = None,
    share_gpus: bool = False,
    measured: bool = True,
) -> dict[str, Any]:
    """Make the recipe's set in `out`, or what is missing of it; return what results.json holds.

    With more than one worker, processes are spawned: a script that calls this needs the usual ``if __name__ ==
    "__main__":``. data, method: an image set, and what builds a method, instead of the recipe's; with either, one
    process makes all. cluster: whose nodes make the images (`concord.storage.cluster.connected`). share_gpus: there may
    be more workers than GPUs. measured: False makes the images alone, for who wants many sets: nothing is measured and
    no page drawn, until a call without it. A ConcordError: anything the user can put right; the same call goes on from
    there.
    """
    progress = progress or Silent()
    start, recipe = time.perf_counter(), with_model(recipe, out)
    own = data is not None or method is not None
    many = None if cluster is None else _team(cluster, recipe, own, share_gpus, out / INDEX)
    if many is not None:
        recipe = many.recipe
    sealed = {} if own else read_checksums(out)
    if not sealed and needs_torch(recipe) and method is None:
        require_models(recipe)
    progress.stage(f"reading {recipe.data}")
    data = open_recipe_data(recipe, out / INDEX) if data is None else data
    for note in data.notes:
        progress.note(note)
    # Which images can be read is only known by reading them.
    of = "" if own or not measured or recipe.unreadable == "skip" else measured_from(recipe, data)
    if of and sealed.get("of") == of and (found := _finished(out, start)):
        return found
    if sealed and needs_torch(recipe):
        require_models(recipe)
    recipe, device = resolved(recipe)
    if many is None and not own:
        require_gpus(recipe, device, share_gpus)
    slow = slow_dtype(recipe.dtype, device) if many is None and needs_torch(recipe) else []
    for note in [*slow, *begin.check(out, recipe, data)]:
        progress.note(note)
    maker = (method or build)(recipe, data)
    if many is not None and isinstance(maker, Fits):
        raise ConcordError(f"method {recipe.method} fits all images together, in one process: leave the cluster out")
    counts = [maker.count(entry.label, recipe.ipc) for entry in data.classes]
    # Up to here nothing is written: a recipe that cannot work leaves no trace.
    if isinstance(maker, Pools):
        pool = out / POOL
        distill(maker.pool(recipe.ipc), pool, progress, cluster=cluster, share_gpus=share_gpus, measured=False)
        maker.choose_from(pool)
    with lock(out), threads_of(recipe):
        begin.check(out, recipe, data)  # again: another run may just have begun here
        begin.begin(out, recipe, data, many.device if many else device)
        keep(data, out / INDEX)
        if taken := shards.shards(out):
            progress.note(f"what {counted(len(taken), 'shard')} made is taken over")
        stores = {
            variant: Store(out / variant, recipe.format, parts=shards.manifests(out, variant))
            for variant in maker.variants
        }
        shutil.rmtree(out / shards.FOLDER, ignore_errors=True)
        for store in stores.values():
            store.trim(counts)
        progress.stage("planning")
        if isinstance(maker, Resumes):
            with contextlib.suppress(ConcordError):  # damaged concepts are worked out again
                maker.resume(Run(out).concepts)
        if isinstance(maker, Informed):
            select_concepts(maker.concepts, out, recipe, data, device, progress, many, own)
        jobs = pending(maker, counts, data.classes, stores)
        if jobs:
            unfinish(out)
            for variant, store in stores.items():
                store.drop(jobs.otherwise[variant])
        concepts = maker.record() if isinstance(maker, Resumes) else None
        if concepts is not None:
            write_json(out / "concepts.json", concepts)
        if isinstance(maker, Informed):
            (out / SELECTION).unlink(missing_ok=True)
        if isinstance(maker, Fits) and jobs:
            progress.stage("fitting")
            maker.fit(out / FITTED, progress)
        if isinstance(maker, InTensors) and jobs:
            keep_form_of(out, maker)
        if isinstance(maker, Pools):
            executor = here(maker)
        elif many is not None:
            executor = many.executor(data, len(jobs), progress.note)
        else:
            workers = 1 if own or isinstance(maker, Fits) else worker_count(recipe, len(jobs), device)
            executor = (
                processes(recipe, device, workers, progress.note, None, out / INDEX) if workers > 1 else here(maker)
            )
        making = time.perf_counter()
        made = make(executor, jobs, jobs.images, recipe, data.classes, stores, progress)
        making = time.perf_counter() - making
        for store in stores.values():
            store.finish()
        main = stores[maker.variants[0]]
        if isinstance(maker, InTensors):
            _gather(out, main, data, maker)
        if measured:
            progress.stage("measuring")
        results: dict[str, Any] = {
            "recipe": recipe.name,
            "method": recipe.method,
            "ipc": None if recipe.spec.ipc == "all" else recipe.ipc,
            "classes": len(data.classes),
            "images": len(main.rows),
            "uninformed_steps": sum(int(row["scores"].get("uninformed_steps", 0)) for row in main.rows.values()),
        }
        further = maker.facts() if isinstance(maker, Tells) else {}
        measuring = None
        if measured:
            engine = None if own else _engine(recipe, data, device, out, progress, many)
            measuring = _measuring(recipe, data, maker, out, engine)
        if measuring:
            figures = measuring.results()  # before what a scorer tells of its work
            further |= measuring.roles() | measuring.active_share()
            if isinstance(maker, Informed):
                further |= _operations(maker, list(main.rows.values()))
            further |= figures
        now = made[maker.variants[0]]
        times = {
            "seconds": round(time.perf_counter() - start, 3),
            "seconds_per_image": _rounded(making / now) if now else None,
            "images_per_second": _rounded(sum(made.values()) / making) if now else None,
        }
        call = {"made": now, "kept": len(main.rows) - now}
        results |= times | further | {"last_call": call | {"times": list(times)}}
        write_json(out / "results.json", results)
        with disk_errors(out):
            if measured:
                progress.stage("drawing")
                if measuring and isinstance(maker, Informed):
                    _draw(measuring, maker.concepts)
                write_report(out)
            shutil.rmtree(out / FITTED, ignore_errors=True)
        seal(out, of)
    return {"schema": 1, **results, **call}


def _team(cluster: Cluster, recipe: Recipe, own: bool, share_gpus: bool, index: Path) -> Team:
    if own:
        raise ConcordError("an image set or a method of one's own is made by this process: leave the cluster out")
    return team(cluster, recipe, share_gpus, index)


def measured_from(recipe: Recipe, data: ImageSet) -> str:
    """A digest of all that the figures of a finished set come from, but for its files: nothing is measured twice."""
    settings = as_computed(recipe).model_dump(mode="json", by_alias=True, exclude={"device", "workers", "threads"})
    traces = {model: trace_of(find_model(model)) for model in {recipe.encoder, *models(recipe).values()}}
    bank = Path(recipe.concepts.bank or "")
    values = [
        settings,
        begin.data_facts(data, recipe),
        data.notes,
        traces,
        sum_of_file(bank),
        begin.versions(),
        version(),
    ]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def unfinish(out: Path) -> None:
    """Take away what would speak of a smaller set."""
    for name in ("results.json", TENSORS, CHECKSUMS):
        (out / name).unlink(missing_ok=True)


def _finished(out: Path, start: float) -> dict[str, Any] | None:
    """What a set came to that was finished by an earlier call, if all of it is still there."""
    with lock(out):
        if next(damage(out), None) is not None:
            return None
        run = Run(out)
        if not run.report.is_file():
            write_report(out)
        times = {"seconds": round(time.perf_counter() - start, 3), "seconds_per_image": None, "images_per_second": None}
        return {**run.results, **times, "made": 0, "kept": run.results["images"]}


@dataclass(frozen=True)
class Pending:
    """The jobs that stores lack, in the plan's order; a pair of variants lies together.

    They are planned batch by batch as they are asked for, so that a long plan takes no memory. `len` is about how many
    there are, and 0 where there are none. otherwise: places of each store whose images are planned otherwise now; their
    rows must be dropped first. images: how many are to be made of all variants.
    """

    method: Method
    counts: Sequence[int]
    stores: Mapping[str, Store]
    otherwise: Mapping[str, Sequence[tuple[int, int]]]
    images: int
    shard: tuple[int, int] = (0, 1)

    def __len__(self) -> int:
        return -(-self.images // self.method.batch_size)

    def __iter__(self) -> Iterator[Job]:
        def lacking(class_index: int, index: int) -> bool:
            return any(store.lacks((class_index, index)) for store in self.stores.values())

        for batch in batches(self.method.sample, list(self.counts), self.method.batch_size, lacking, self.shard):
            wanted = [s for s in batch.samples if s.index < self.counts[s.class_index]]
            for variant, store in self.stores.items():
                if keep := tuple(s for s in wanted if store.lacks(s.place)):
                    yield Job(variant, batch, keep)


def pending(
    method: Method,
    counts: Sequence[int],
    classes: ClassTable,
    stores: Mapping[str, Store],
    shard: tuple[int, int] = (0, 1),
) -> Pending:
    """Return what the stores lack, each trimmed to the counts. Of what they have, each sample is planned once more.

    shard: (i, n) is every n-th batch, from the i-th; the stores are a shard's then.
    """
    there = sorted({place for store in stores.values() for place in store.rows})
    otherwise: dict[str, list[tuple[int, int]]] = {variant: [] for variant in stores}
    for class_index, index in there:
        sample = method.sample(class_index, index)
        for variant, store in stores.items():
            if sample.place in store.rows and not store.has(sample, classes[class_index]):
                otherwise[variant].append(sample.place)
    images = sum(sum(counts) - len(store.rows) + len(otherwise[variant]) for variant, store in stores.items())
    if shard != (0, 1):
        checkpoints = [method.sample(label, 0).checkpoint for label in range(len(counts))]
        mine = cuts(checkpoints, counts, method.batch_size, shard)
        places = [(c, i) for _, _, batch in mine for c, i in batch if i < counts[c]]
        lacking = (store.lacks(p) or p in otherwise[variant] for variant, store in stores.items() for p in places)
        images = sum(lacking)
    return Pending(method, counts, stores, otherwise, images, shard)


def make(
    executor: Executor,
    jobs: Iterable[Job],
    images: int,
    recipe: Recipe,
    classes: ClassTable,
    stores: Mapping[str, Store],
    progress: Progress,
) -> dict[str, int]:
    """Make `images` images, of all variants, by these jobs; return how many were made of each variant."""
    made = dict.fromkeys(stores, 0)
    there = sum(len(store.rows) for store in stores.values())
    progress.begin(there + images, there)

    def add(batch: Sequence[Finished]) -> None:
        for one in batch:
            entry = classes[one.sample.class_index]
            assert isinstance(one.image, bytes)
            stores[one.variant].add(one.sample, entry, one.image, one.scores, one.tensor, one.soft)
            made[one.variant] += 1
        progress.advance(len(batch), [one.scores for one in batch])

    def to_bytes(one: Finished) -> Finished:
        return one.encoded(recipe.format)

    with Writer(to_bytes, add, threads=min(4, cores())) as writer:
        for finished in executor(jobs):
            writer.put(finished)
    return made


def select_concepts(
    concepts: "ConceptPlan",
    out: Path,
    recipe: Recipe,
    data: ImageSet,
    device: str,
    progress: Progress,
    many: Team | None = None,
    own: bool = False,
) -> None:
    """Select the concepts of all classes, where any are needed: those of many by several workers.

    Each class stays selected when it is, whatever happens then.
    """
    from concord.concepts.journal import Journal  # imported here: real images need no torch

    if not concepts.used:
        return
    concepts.keep_in(Journal(out / SELECTION))
    labels = concepts.unselected
    if own or len(labels) < SHARED:
        return  # this process selects them as it plans
    progress.stage(f"selecting the concepts of {counted(len(labels), 'class')}")
    workers = worker_count(recipe, len(labels), device)
    if many is not None:
        selector = many.selector(data, len(labels), progress.note)
    elif workers > 1:
        selector = select_by(spread, recipe, device, workers, progress.note, None, out / INDEX)
    else:
        return
    for label, found in selector(labels):
        concepts.take(label, found)


def keep_form_of(out: Path, method: InTensors) -> None:
    from concord.runs.tensors import keep_form  # imported here, as below: real images need no torch

    keep_form(out, method.form())


def _gather(out: Path, store: Store, data: ImageSet, method: InTensors) -> None:
    from concord.runs.tensors import gather, kept_form

    gather(out, store, data.classes, kept_form(out) or method.form())


def _engine(
    recipe: Recipe, data: ImageSet, device: str, out: Path, progress: Progress, many: Team | None
) -> "Engine | None":
    """Who measures classes: the cluster, several workers of this machine where it pays, or this process.

    What a server is asked is asked by this process, which keeps the answers.
    """
    if SCORERS.get(recipe.scorer.kind).asks:
        return None
    if many is not None:
        return many.engine(data, progress.note)
    workers = worker_count(recipe, len(data.classes), device)
    if workers < 2 or len(data.classes) < SHARED:
        return None
    return measure_by(spread, recipe, device, workers, progress.note, None, out / INDEX)


def _measuring(
    recipe: Recipe, data: ImageSet, method: Method, out: Path, engine: "Engine | None"
) -> "Measuring | None":
    """What is measured of a set by a method that is informed; of any other, what `metrics` names."""
    if not isinstance(method, Informed) and not recipe.metrics:
        return None
    from concord.metrics.measure_run import Measuring  # imported here: real images need no torch
    from concord.models.cache import ModelCache

    if isinstance(method, Informed):
        return Measuring(recipe, data, out, method.variants, method.models, method.concepts, engine)
    return Measuring(recipe, data, out, method.variants, ModelCache(recipe), engine=engine)


def _operations(method: Informed, rows: Sequence[Row]) -> dict[str, Any]:
    """Operations of one image of the first variant."""
    if not rows:
        return {}
    row = rows[-1]  # its checkpoint is the one that was loaded last
    texts = tuple(row["positives"]), tuple(row["negatives"])
    made_of = row["prompt"], row["source"], row["checkpoint"]
    sample = Sample(
        row["label"],
        row["index"],
        row["seed"],
        *texts,
        *made_of,
        **{k: row.get(k, "") for k in ("start", "negative_prompt")},
    )
    counted = method.operations(sample)
    return {} if counted is None else {"tflop_per_image": float(f"{counted / 1e12:.4g}")}


def _draw(run: "Measuring", concepts: "ConceptPlan") -> None:
    from concord.workflows.draw import draw_concepts, draw_samples

    if concepts.used:
        draw_concepts(run.names, concepts, run.out)
    draw_samples(run)


@contextlib.contextmanager
def threads_of(recipe: Recipe) -> Iterator[None]:
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
