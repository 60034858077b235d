"""The trainings of an evaluation: every seed of every cell that is not recorded yet, in this process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from concord.evaluation.batches import Batches, Drawn
from concord.evaluation.cells import Cell, compute_of
from concord.evaluation.record import Trial, find, placed, with_trial
from concord.evaluation.settings import Settings
from concord.evaluation.soft_labels import open_labels
from concord.evaluation.training import Compute, train
from concord.models.teachers import Teacher
from concord.parallel import CONTEXT, spread
from concord.resources import cores


@dataclass(frozen=True)
class Unit:
    """One training: a cell and a seed."""

    cell: Cell
    seed: int
    compute: Compute
    teacher: Teacher | None = field(repr=False)
    stored: str | None = None


def run(
    cells: Sequence[Cell],
    settings: Settings,
    record: dict[str, Any],
    save: Callable[[dict[str, Any]], None],
    teacher: Teacher | None = None,
    told: Callable[[dict[str, Any], int], None] = lambda cell, seed: None,
    begun: Callable[[int, Callable[[], int]], None] = lambda total, seen: None,
) -> dict[str, Any]:
    """Train every seed of every cell that `record` does not have yet; return the whole record.

    Args:
        record: what evaluation.json holds; cells of the same name but other settings or data are replaced.
        save: called with the record after every seed.
        teacher: of soft labels.
        told: called with a cell's new record and the seed.
        begun: called before the first training with the images that will be seen in all, each once an epoch, and a
            function that says how many were.
    """
    compute = compute_of(settings)
    found = {cell.record["settings"]: find(record, cell.record) or cell.record for cell in cells}
    waiting = [
        Unit(cell, seed, compute, teacher, settings.soft_labels)
        for cell in cells
        for seed in settings.seeds
        if seed not in found[cell.record["settings"]].get("seeds", ())
    ]
    counter = CONTEXT.Value("q", 0)
    begun(sum(unit.cell.epochs * len(unit.cell.train) for unit in waiting), lambda: int(counter.value))
    # By all trainings, not those that wait: a float sum depends on the threads, and a killed run shall end alike.
    workers = worker_count(settings, len(cells) * len(settings.seeds), compute)
    for key, trial in _trained(waiting, workers, counter):
        found[key] = with_trial(found[key], trial)
        record = {**record, "cells": placed(record.get("cells", []), found[key])}
        save(record)
        told(found[key], trial.seed)
    return record


def worker_count(settings: Settings, units: int, compute: Compute) -> int:
    """How many trainings run at once."""
    if settings.workers != "auto":
        return max(1, min(settings.workers, units))
    return max(1, min(cores(), units)) if compute.device == "cpu" else 1


def _trained(units: Sequence[Unit], workers: int, counter: Any) -> Iterator[tuple[str, Trial]]:
    if workers < 2:
        _begin(counter)
        yield from map(try_out, units)
    else:
        given = counter, max(1, cores() // workers)
        yield from spread(try_out, units, max(1, min(workers, len(units))), _begin, given)


_counter: Any = None
"""Images that were seen by all trainings of this call, across processes."""


def _begin(counter: Any, threads: int | None = None) -> None:
    global _counter
    _counter = counter
    if threads is not None:
        torch.set_num_threads(threads)


def _count(images: int) -> None:
    if _counter is not None:
        with _counter.get_lock():
            _counter.value += images


def try_out(unit: Unit) -> tuple[str, Trial]:
    """Train one student; a function of the unit alone, but for rounding by device and number of threads."""
    begun = time.perf_counter()
    cell, protocol = unit.cell, unit.cell.way.protocol
    net = cell.look.build(cell.classes, protocol, unit.seed)
    soft = protocol.labels == "soft"
    course = train(
        net,
        cell.train,
        batches_of(unit),
        protocol,
        cell.epochs,
        cell.look.size,
        test=cell.test,
        seed=unit.seed,
        labeller=unit.teacher.logits if soft and unit.teacher is not None else None,
        compute=unit.compute,
        after=lambda *_: _count(len(cell.train)),
    )
    if course.predictions is None:
        raise RuntimeError("a training ends with an accuracy")
    confusion = np.zeros((cell.classes, cell.classes), dtype=np.int64)
    np.add.at(confusion, (cell.test.labels.numpy(), course.predictions.cpu().numpy()), 1)
    seconds = time.perf_counter() - begun
    return cell.record["settings"], Trial(unit.seed, course.last, course.best, seconds, confusion)


def batches_of(unit: Unit) -> Batches:
    """The batches of a unit: drawn from its seed, or those of the stored labels."""
    cell = unit.cell
    if unit.stored is not None and cell.way.protocol.labels == "soft":
        return open_labels(Path(unit.stored), cell.record, cell.way.protocol, cell.train)
    return Drawn(cell.way.protocol, len(cell.train), cell.train.side, cell.look.size, cell.batch, unit.seed)
