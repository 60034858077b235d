"""One evaluation from directory to evaluation.json: data, teacher, checks, cells, and what is not trained yet."""

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from concord.data import ImageSet
from concord.data.checks import shared_images
from concord.errors import ConcordError
from concord.evaluation import record as records
from concord.evaluation.beyond import coverage, ranking
from concord.evaluation.cells import Cell, as_trained, compute_of, held_at, open_sets, plan, require_students
from concord.evaluation.check_teacher import sound_teacher
from concord.evaluation.metrics import measured
from concord.evaluation.record import Trial, find, has_seed, read_record, record_path, write_record
from concord.evaluation.settings import ProtocolConfig, Settings
from concord.evaluation.soft_labels import open_labels, store_facts
from concord.evaluation.training import Batches, Compute, Labeller, train
from concord.events import Progress, Silent
from concord.models.teachers import Teacher
from concord.storage.atomic import lock
from concord.storage.cluster import Cluster
from concord.storage.processes import CONTEXT, NO_ROOM, spread
from concord.storage.threads import in_threads
from concord.system import cores, package_version, resolve_device, slow_dtype, version


def evaluate(
    directory: Path,
    test: str,
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    out: Path | None = None,
    progress: Progress | None = None,
    random: Path | None = None,
    full: Path | None = None,
    *,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Train students on a small set and return what evaluation.json holds; cells that it has are not trained again.

    settings, ways: see `read_settings`; the other arguments are those of `concord.evaluate`. cluster: whose nodes
    train.
    """
    progress = progress or Silent()
    path = record_path(directory, out)
    with alone(path, out):
        ready, record = trained(directory, test, settings, ways, out, progress, random, full, cluster=cluster)
        cells, teacher = ready.cells, ready.teacher
        progress.stage("comparing with real images")
        largest = max(cells, key=lambda cell: len(cell.train))
        space = [largest.train.digest, largest.test.digest, teacher.fingerprint if teacher else None]
        if record.get("coverage", {}).get("of") != space:
            found = coverage(largest.train, largest.test, teacher, compute_of(settings).device)
            record["coverage"] = {**found, "of": space}
        if settings.soft_labels is not None and any(way.protocol.labels == "soft" for way in ways):
            record["soft_labels"] = store_facts(Path(settings.soft_labels))
        if any(ready.others):
            rank(record, ranking(record["cells"], *ready.others))
        write_record(path, record)
    return record


def trained(
    directory: Path,
    test: str,
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    out: Path | None,
    progress: Progress,
    *others: Path | None,
    cluster: Cluster | None = None,
) -> tuple["Ready", dict[str, Any]]:
    """Train all cells that a record lacks, as its only writer (`alone`); return what was trained, and the record."""
    path = record_path(directory, out)
    ready = prepared(directory, test, settings, ways, out, progress, *others)
    cells, record, teacher = ready.cells, ready.record, ready.teacher
    _set_aside(path, record["of"], progress)
    lacking = len(waiting(cells, settings, record, teacher))
    progress.begin(len(cells) * len(settings.seeds), len(cells) * len(settings.seeds) - lacking)
    return ready, run(cells, settings, record, lambda new: write_record(path, new), teacher, progress, cluster)


def rank(record: dict[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Put DD-Ranking's scores into a record, in place of those found in the same way."""
    ways = {row.get("way") for row in rows}
    record["ranking"] = [*rows, *(row for row in record.get("ranking", []) if row.get("way") not in ways)]


def add(directory: Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change a set's record in place, as its only writer; return it."""
    path = record_path(directory)
    with alone(path, None):
        record = read_record(path)
        change(record)
        write_record(path, record)
    return {key: value for key, value in record.items() if key != "schema"}


@dataclass(frozen=True)
class Ready:
    """An evaluation before anything is trained. record: what evaluation.json has. others: cells of other sets."""

    cells: Sequence[Cell]
    record: dict[str, Any]
    teacher: Teacher | None
    others: Sequence[list[dict[str, Any]]]


def prepared(
    directory: Path,
    test: str,
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    out: Path | None = None,
    progress: Progress | None = None,
    random: Path | None = None,
    full: Path | None = None,
) -> Ready:
    """Read all that an evaluation needs, and refuse what it cannot take; the arguments are those of `evaluate`.

    Students are built before a teacher is loaded.
    """
    progress = progress or Silent()
    path = record_path(directory, out)
    progress.stage(f"reading {directory} and {test}")
    data, held = open_sets(directory, test, settings)
    for note in [*data.notes, *held.notes]:
        progress.note(note)
    slow = slow_dtype(settings.dtype, resolve_device(settings.device))
    for note in [*(warnings := shared_images(data, held)), *slow]:
        progress.note(note)
    of = identity(data, held)
    others = [cells_of(place, of) for place in (random, full)]
    measured(settings.metrics, torch.eye(len(data.classes)), torch.arange(len(data.classes)))  # refused before training
    require_students(data, settings, ways)
    if (record := read_record(path)).get("of") not in (None, of):
        record = read_record(path.with_stem(f"{path.stem}-{of}"))  # set aside from there, as of other images
    soft = any(way.protocol.labels == "soft" for way in ways)
    asked = {"fixed"} if settings.soft_labels is not None else {"soft", "fixed"}
    online = any(way.protocol.labels in asked for way in ways)
    if settings.teacher is not None and not online:
        why = "labels are stored" if soft else "no protocol here has soft labels"
        progress.note(f"teacher= is not used: {why}")
    tested_on = held_at(held)
    teacher = facts = None
    if online:
        progress.stage("checking the teacher")
        teacher, facts = sound_teacher(directory, data, tested_on, settings, record.get("teacher"), of)
        progress.note(f"teacher {teacher.name}: {facts['accuracy']:.1f} % on the test images")
        if teacher.remapped:
            progress.note("its classes were put in order by its confusions on these test images")
    progress.stage("reading images")
    cells = plan(data, held, settings, ways, teacher.fingerprint if teacher else None, tested_on)
    for cell in cells:
        if (labels := cell.way.protocol.labels) != "hard":
            cell.record.update(_labels(facts if labels in asked else None, settings))
    if any(others):
        ranking([*record.get("cells", []), *map(as_trained, cells)], *others)  # refuses before anything is trained
    record = {
        "of": of,
        "test": test,
        "classes": [entry.class_name for entry in data.classes],
        "teacher": facts or record.get("teacher"),
        "notes": warnings,
        "environment": _environment(settings),
        "cells": record.get("cells", []),
        **{key: record[key] for key in ("coverage", "ranking", "soft_labels", "sides") if key in record},
    }
    return Ready(cells, record, teacher, others)


@contextlib.contextmanager
def alone(path: Path, out: Path | None) -> Iterator[None]:
    """Hold the set's directory as its only writer, or only the file that is written elsewhere."""
    name = f".{path.name}.lock"
    with lock(path.parent) if out is None else lock(path.parent, name):
        try:
            yield
        finally:
            if out is not None:
                (path.parent / name).unlink(missing_ok=True)


def identity(data: ImageSet, test: ImageSet) -> str:
    """A text that tells two sets from others, ``SET-TEST``: the first image of each class, the test images' names.

    A set that grows keeps it; images that change behind the first are seen cell by cell.
    """
    digests = hashlib.sha256(), hashlib.sha256(test.fingerprint.encode())
    for images, digest in zip((data, test), digests, strict=True):
        firsts = [images.items(entry.label)[0] for entry in images.classes]
        for entry, image in zip(images.classes, in_threads(images.read, firsts), strict=True):
            digest.update(f"{entry.key} {image.size}".encode() + image.tobytes())
    return "-".join(digest.hexdigest()[:12] for digest in digests)


def _set_aside(path: Path, of: str, progress: Progress) -> None:
    """Put the record of other sets, which lies in its place, beside it."""
    if (there := read_record(path).get("of")) not in (None, of):
        aside = path.with_stem(f"{path.stem}-{there}")
        os.replace(path, aside)
        progress.note(f"what {path.name} had is of other images or classes, and lies in {aside.name} now")


def cells_of(place: Path | None, of: str) -> list[dict[str, Any]]:
    """The cells of a set that was evaluated before on the same test images, for DD-Ranking's scores."""
    if place is None:
        return []
    record = read_record(record_path(place))
    if not record.get("cells"):
        raise ConcordError(f"{place} was not evaluated: no accuracies in {record_path(place)}; evaluate it first")
    if not records.same_test(record, {"of": of}):
        raise ConcordError(f"{place} was evaluated on other test images ({record.get('test')}); evaluate it on these")
    return list(record["cells"])


def _environment(settings: Settings) -> dict[str, Any]:
    compute = compute_of(settings)
    return {
        "concord": version(),
        "torch": package_version("torch"),
        "platform": platform.platform(),
        "device": compute.device,
        "dtype": str(compute.dtype).removeprefix("torch."),
    }


def _labels(teacher: Mapping[str, Any] | None, settings: Settings) -> dict[str, Any]:
    """Whose soft labels a cell has: what it is told from others by, beside its settings."""
    if teacher is not None:
        return {"teacher": teacher["name"]}
    store = store_facts(Path(settings.soft_labels or ""))
    return {"teacher": store["teacher_name"], "soft_labels": {key: store[key] for key in ("top_k", "bits")}}


@dataclass(frozen=True)
class Unit:
    """One training: a cell and a seed."""

    cell: Cell
    seed: int
    compute: Compute
    teacher: Teacher | None = field(repr=False)
    stored: str | None = None
    metrics: Sequence[str] = ()

    def __str__(self) -> str:
        record = self.cell.record
        return f"training {record['student']} by {record['protocol']}, IPC {record['ipc']}, seed {self.seed}"

    @property
    def labeller(self) -> Labeller | None:
        """The teacher, where the protocol asks one."""
        return self.teacher.logits if self.teacher is not None and self.cell.way.protocol.labels != "hard" else None


def waiting(
    cells: Sequence[Cell], settings: Settings, record: Mapping[str, Any], teacher: Teacher | None = None
) -> list[Unit]:
    """The trainings that `record` does not have yet."""
    compute = compute_of(settings)
    found = {cell.record["settings"]: find(record, cell.record) or {} for cell in cells}
    return [
        Unit(cell, seed, compute, teacher, settings.soft_labels, settings.metrics)
        for cell in cells
        for seed in settings.seeds
        if not has_seed(found[cell.record["settings"]], seed, settings.metrics)
    ]


def run(
    cells: Sequence[Cell],
    settings: Settings,
    record: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
    teacher: Teacher | None = None,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Train every seed of every cell that `record` does not have yet; return the whole record, `save`d after each.

    `progress` watches the images that are seen in all, each once an epoch, and hears of each training's `cell` and
    `seed`.
    """
    progress = progress or Silent()
    found = {cell.record["settings"]: find(record, cell.record) or cell.record for cell in cells}
    units = waiting(cells, settings, record, teacher)
    counter = CONTEXT.Value("q", 0)
    if cluster is None:
        progress.watch(sum(unit.cell.epochs * len(unit.cell.train) for unit in units), lambda: int(counter.value))
    # By all trainings, not those that wait: a float sum depends on the threads, and a killed run shall end alike.
    workers = worker_count(settings, len(cells) * len(settings.seeds), compute_of(settings))
    if cluster is None and workers > 1 and not _share(units):
        progress.note(f"one training at a time: {NO_ROOM}")
        workers = 1
    trials: Iterator[tuple[str, Trial]]
    if cluster is not None:
        threads = torch.get_num_threads() if workers < 2 else max(1, cores() // workers)
        trials = _on_nodes(cluster, units, settings, threads, progress)
    elif workers < 2:
        _begin(0, counter)
        trials = map(train_cell, units)
    else:
        given = counter, max(1, cores() // workers)
        trials = spread(train_cell, units, max(1, min(workers, len(units))), _begin, given, progress.note)
    for key, trial in trials:
        found[key] = records.with_trial(found[key], trial)
        record = {**record, "cells": records.placed(record.get("cells", []), found[key])}
        save(record)
        progress.advance(1, [{"cell": found[key], "seed": trial.seed}])
    _begin(0, None)  # a counter that is held when its process is terminated is left behind as a semaphore
    return record


_units: Sequence[Unit] = ()
"""Of a worker on a node: all trainings, with the images that they share."""


def _on_nodes(
    cluster: Cluster, units: Sequence[Unit], settings: Settings, threads: int, progress: Progress
) -> Iterator[tuple[str, Trial]]:
    """Train on the nodes of a cluster: images and teacher reach each node once, and a job is a number.

    Threads are those that a training has on this machine: a float sum depends on them.
    """
    if not units:
        return iter(())
    gpu = units[0].compute.device.startswith("cuda")
    asked = None if settings.workers == "auto" else settings.workers
    near, workers = cluster.sized(len(units), threads, gpu, progress.note, asked)
    given = units, threads, _versions()
    named = [_Numbered(number, str(unit)) for number, unit in enumerate(units)]
    return near.spread(_train_numbered, named, workers, _begin_on_node, given, progress.note)


@dataclass(frozen=True)
class _Numbered:
    """One of the trainings that a worker has."""

    number: int
    name: str

    def __str__(self) -> str:
        return self.name


def _versions() -> dict[str, str | None]:
    return {"concord": version(), "torch": package_version("torch")}


def _begin_on_node(rank: int, units: Sequence[Unit], threads: int, versions: Mapping[str, str | None]) -> None:
    global _units
    here = _versions()
    if wrong := [f"{name} is {here[name]}, expected {versions[name]}" for name in here if here[name] != versions[name]]:
        raise ConcordError(f"{'; '.join(wrong)}: figures would differ; every node needs the same packages")
    torch.set_num_threads(threads)
    _units = units


def _train_numbered(job: _Numbered) -> tuple[str, Trial]:
    return train_cell(_units[job.number])


def _share(units: Sequence[Unit]) -> bool:
    """Let other processes see the images of some trainings; whether there is room for that."""
    try:
        for unit in units:
            unit.cell.train.share()
            unit.cell.test.share()
    except RuntimeError:
        return False
    return True


def worker_count(settings: Settings, units: int, compute: Compute) -> int:
    auto = cores() if compute.device == "cpu" else 1
    return max(1, min(auto if settings.workers == "auto" else settings.workers, units))


_counter: Any = None
"""Images that were seen by all trainings of this call, across processes."""


def _begin(rank: int, counter: Any, threads: int | None = None) -> None:
    global _counter
    _counter = counter
    if threads is not None:
        torch.set_num_threads(threads)


def _count(images: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += images


def train_cell(unit: Unit) -> tuple[str, Trial]:
    """Train one student; a function of the unit alone, but for rounding by device and number of threads."""
    begun = time.perf_counter()
    cell, protocol = unit.cell, unit.cell.way.protocol
    net = cell.look.build(cell.classes, protocol, unit.seed)
    course = train(
        net,
        cell.train,
        batches_of(unit),
        protocol,
        cell.epochs,
        cell.look.size,
        test=cell.test,
        seed=unit.seed,
        labeller=unit.labeller,
        compute=unit.compute,
        keep_logits=bool(unit.metrics),
        after=lambda *_: _count(len(cell.train)),
    )
    if course.predictions is None:
        raise RuntimeError("a training ends with an accuracy")
    confusion = np.zeros((cell.classes, cell.classes), dtype=np.int64)
    np.add.at(confusion, (cell.test.labels.numpy(), course.predictions.cpu().numpy()), 1)
    read = {which: measured(unit.metrics, logits, cell.test.labels) for which, logits in course.logits.items()}
    metrics = {name: {which: read[which][name] for which in ("last", "best")} for name in unit.metrics}
    seconds = time.perf_counter() - begun
    return cell.record["settings"], Trial(unit.seed, course.last, course.best, seconds, confusion, metrics)


def batches_of(unit: Unit) -> Batches:
    """The batches of a unit: drawn from its seed, or those of the stored labels."""
    cell = unit.cell
    if unit.stored is not None and cell.way.protocol.labels == "soft":
        return open_labels(Path(unit.stored), cell.record, cell.way.protocol, cell.train)
    return cell.drawn(unit.seed)
