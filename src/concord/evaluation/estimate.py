"""How long an evaluation would take: a few steps of each of its trainings, timed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch

from concord.evaluation.cells import Cell
from concord.evaluation.evaluate import Ready, Unit, batches_of, waiting, worker_count
from concord.evaluation.protocols import is_eval_epoch
from concord.evaluation.settings import Settings
from concord.evaluation.training import JUDGING, Trainer, predict
from concord.system import cores

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
    trainer.begin(1.0)
    drawn = (batch for number in range(cell.epochs) for batch in batches_of(unit).epoch(number))
    steps = []
    for batch in islice(drawn, STEPS + 1):
        begun = time.perf_counter()
        float(trainer.step(batch))  # waits for the device
        steps.append(time.perf_counter() - begun)
    some = cell.test.part(JUDGING).to(device)
    begun = time.perf_counter()
    predict(net, some, unit.compute).cpu()
    judged = sum(is_eval_epoch(protocol, epoch, cell.epochs) for epoch in range(cell.epochs))
    judging = judged * (time.perf_counter() - begun) * len(cell.test) / len(some)
    count = cell.epochs * -(-len(cell.train) // cell.batch)
    timed = steps[1:] or steps
    return count * min(timed) + judging, count * max(timed) + judging
