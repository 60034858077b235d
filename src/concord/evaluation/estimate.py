"""How long an evaluation would take, a teacher's training or its labels: a few steps of each, timed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from concord.data import ImageSet
from concord.data.tensors import Read, TensorSet, for_testing, for_training, load, training_side
from concord.evaluation.cells import Cell, StudentConfig, compute_of, require_fit
from concord.evaluation.evaluate import Ready, Unit, batches_of, waiting, worker_count
from concord.evaluation.label import Labelling
from concord.evaluation.protocols import Protocol, batch_size, is_eval_epoch, num_epochs
from concord.evaluation.settings import Settings
from concord.evaluation.soft_labels import LabelFormat, head_of, is_stored, tensors_of
from concord.evaluation.train_teacher import TeacherSettings
from concord.evaluation.training import (
    JUDGING,
    Batch,
    Compute,
    Drawn,
    Trainer,
    augmented_batch,
    normalisation,
    predict,
    soft_labels,
)
from concord.models.students import canonical
from concord.system import cores, timed, timed_steps

STEPS = 4
"""Steps that are timed, after one that is not: the first prepares what the others find there."""

Range = tuple[float, float]
"""Seconds: as many as by the fastest of the timed steps, and as by the slowest."""


@dataclass(frozen=True)
class CellEstimate:
    """What a cell would train. lacking: seeds to train. seconds: of one seed, none where none lacks."""

    student: str
    protocol: str
    changed: Mapping[str, Any]
    ipc: int | None
    size: int
    images: int
    epochs: int
    batch: int
    lacking: int
    seconds: Range

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Estimate:
    """What an evaluation would train. workers: trainings at once. seconds: of all that lack."""

    cells: Sequence[CellEstimate]
    workers: int
    seconds: Range

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate(ready: Ready, settings: Settings) -> Estimate:
    """Time a few steps of every training that lacks, on as many threads as it would have."""
    units = waiting(ready.cells, settings, ready.record, ready.teacher)
    workers = 1
    if units:
        workers = min(worker_count(settings, len(ready.cells) * len(settings.seeds), units[0].compute), len(units))
    threads = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(max(1, cores() // workers))
    try:
        rows = [_estimated(cell, [unit for unit in units if unit.cell is cell]) for cell in ready.cells]
    finally:
        torch.set_num_threads(threads)
    low, high = (sum(row.lacking * row.seconds[end] for row in rows) / workers for end in (0, 1))
    return Estimate(rows, workers, (low, high))


def _estimated(cell: Cell, lacking: Sequence[Unit]) -> CellEstimate:
    named = {
        key: cell.record[key] for key in ("student", "protocol", "changed", "ipc", "size", "images", "epochs", "batch")
    }
    return CellEstimate(**named, lacking=len(lacking), seconds=_timed(lacking[0]) if lacking else (0.0, 0.0))


def _timed(unit: Unit) -> Range:
    cell, protocol = unit.cell, unit.cell.way.protocol
    net = cell.look.build(cell.classes, protocol, unit.seed)
    device = unit.compute.device
    trainer = Trainer(net, cell.train.to(device), protocol, cell.look.size, unit.labeller, unit.compute)
    drawn = (batch for number in range(cell.epochs) for batch in batches_of(unit).epoch(number))
    low, high = _of_a_step(trainer, drawn, unit.compute)
    judging = _of_judging(trainer, protocol, cell.epochs, cell.test.part(JUDGING), len(cell.test), unit.compute)
    count = cell.epochs * -(-len(cell.train) // cell.batch)
    return count * low + judging, count * high + judging


def _of_a_step(trainer: Trainer, batches: Iterable[Batch], compute: Compute) -> Range:
    trainer.begin(1.0)

    def step(batch: Batch) -> None:
        float(trainer.step(batch))  # waits for the device

    return timed_steps((partial(step, batch) for batch in islice(batches, STEPS + 1)), compute.device)


def _of_judging(
    trainer: Trainer, protocol: Protocol, epochs: int, some: TensorSet, whole: int, compute: Compute
) -> float:
    """Seconds of reading the accuracy on `whole` test images, whenever a training does."""
    there = some.to(compute.device)
    once = timed(lambda: predict(trainer.net, there, compute).cpu(), compute.device)
    return sum(is_eval_epoch(protocol, epoch, epochs) for epoch in range(epochs)) * once * whole / len(some)


@dataclass(frozen=True)
class StepsEstimate:
    """What a teacher's training or the storing of soft labels comes to. steps, seconds: of what lacks.

    store_bytes: of all labels; None of a teacher.
    """

    student: str
    protocol: str
    images: int
    classes: int
    size: int
    epochs: int
    batch: int
    steps: int
    seconds: Range
    store_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def estimate_teacher(
    data: ImageSet, test: ImageSet | None, settings: TeacherSettings, protocol: Protocol
) -> StepsEstimate:
    """Time the reading of some images, and a few steps on them; the arguments are those of `teach`."""
    compute, student = compute_of(settings), canonical(settings.student)
    side = partial(training_side, data)
    look = StudentConfig.of(settings, student, protocol, side)
    size, classes, count = look.size, len(data.classes), _count(data)
    epochs = num_epochs(protocol, count / classes, classes)
    batch = batch_size(protocol, count / classes, classes, count)
    require_fit(look, classes, protocol, count, batch)
    images, reading = _some(data, for_training(size if protocol.resize_first else side(size)), batch)
    trainer = Trainer(
        look.build(classes, protocol, settings.seed), images.to(compute.device), protocol, size, None, compute
    )
    drawn = Drawn(protocol, batch, images.side, size, batch, settings.seed)
    low, high = _of_a_step(trainer, (one for epoch in range(STEPS + 1) for one in drawn.epoch(epoch)), compute)
    steps, rest = epochs * -(-count // batch), reading * count
    if test is not None:
        held, each = _some(test, for_testing(size, protocol.test_side(size)), min(JUDGING, _count(test)))
        rest += each * _count(test) + _of_judging(trainer, protocol, epochs, held, _count(test), compute)
    seconds = steps * low + rest, steps * high + rest
    return StepsEstimate(student, protocol.name, count, classes, size, epochs, batch, steps, seconds)


def _count(data: ImageSet) -> int:
    return sum(len(data.items(entry.label)) for entry in data.classes)


def _some(data: ImageSet, read: Read, count: int) -> tuple[TensorSet, float]:
    """So many images of all classes alike, again and again where there are fewer, and the seconds of reading one."""
    fewest = min(len(data.items(entry.label)) for entry in data.classes)
    each = max(1, min(math.ceil(count / len(data.classes)), fewest))
    found: list[TensorSet] = []
    seconds = timed(lambda: found.append(load(data, read, each)))
    place = torch.arange(count) % len(found[0])
    return found[0].some(place), seconds / len(found[0])


def estimate_labels(ready: Labelling, out: Path, form: LabelFormat) -> StepsEstimate:
    """Time the labels of a few batches; epochs that `out` has are not counted."""
    cell, facts, compute, protocol = ready.cell, ready.facts, ready.compute, ready.cell.way.protocol
    head_of(out, cell.train, protocol, facts, form)
    data, normalise, stored = cell.train.to(compute.device), normalisation(protocol, compute), list[int]()

    def step(batch: Batch) -> None:
        _, pixels = augmented_batch(data, batch, protocol, cell.look.size, normalise)
        soft = soft_labels(ready.teacher.logits, data.colours(pixels), protocol.temperature, compute).cpu()
        stored.append(sum(tensor.nbytes for tensor in tensors_of([batch], soft, form).values()) // len(soft))

    drawn = (one for epoch in range(cell.epochs) for one in cell.drawn(facts["seed"]).epoch(epoch))
    low, high = timed_steps((partial(step, one) for one in islice(drawn, STEPS + 1)), compute.device)
    lacking = sum(not is_stored(out, epoch) for epoch in range(cell.epochs))
    steps = lacking * -(-len(cell.train) // cell.batch)
    return StepsEstimate(
        cell.look.student,
        protocol.name,
        len(cell.train),
        cell.classes,
        cell.look.size,
        cell.epochs,
        cell.batch,
        steps,
        (steps * low, steps * high),
        cell.epochs * len(cell.train) * max(stored),
    )
