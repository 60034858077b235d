"""What the benchmarks of the evaluator share: cases, their nets and images, and a clock that takes turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import torch

from concord.evaluation.protocols import protocol
from concord.evaluation.training import keep_freed
from concord.models.students import Student, build_student
from concord.reef.dataset import RealSet

Seconds = tuple[float, float]
"""Of this process on the processor, and of the wall."""


@dataclass(frozen=True)
class Case:
    """What is timed. images: of the set, a multiple of its 10 classes. rounds: None for the command's."""

    student: str
    size: int
    protocol: str
    batch: int
    images: int
    width: int | None = None
    rounds: int | None = None


class Clock:
    """Times work; on a GPU until it has finished, and both times are the wall's."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")

    def __call__(self, work: Callable[[], object]) -> Seconds:
        if self._cuda:
            torch.cuda.synchronize()
        own, wall = time.process_time(), time.perf_counter()
        work()
        if self._cuda:
            torch.cuda.synchronize()
        took = time.perf_counter() - wall
        return (took if self._cuda else time.process_time() - own), took


def in_turn(clock: Clock, works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[Seconds]]:
    """Time each in every round, after a round that is not counted.

    Work whose name begins with "plain" has memory as the C library gives it, the others as a training here keeps it:
    after a plain one, the next runs once more before it is timed, as its first step takes memory that later ones have.
    """
    taken: dict[str, list[Seconds]] = {name: [] for name in works}
    kept = False
    for number in range(rounds + 1):
        for name, work in works.items():
            before, kept = kept, not name.startswith("plain")
            keep_freed(kept)
            if kept and not before:
                work()
            took = clock(work)
            if number:
                taken[name].append(took)
    keep_freed()
    return taken


def quartiles(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": round(median(values), 4), "low": round(low, 4), "high": round(high, 4)}


def folder(data: RealSet, size: int, out: Path) -> Path:
    """Write a set as PNG files of size x size, a folder a class."""
    for entry in data.classes:
        place = out / f"{entry.label:05d}"
        place.mkdir(parents=True)
        for number, item in enumerate(data.items(entry.label)):
            data.read(item).resize((size, size)).save(place / f"{number:05d}.png")
    return out


def network(case: Case, norm: str | None = None, seed: int = 0) -> Student:
    """The case's student, untrained, with the norm and the normalisation of its protocol."""
    way = protocol(case.protocol)
    mean, std = way.mean_std
    norm = (norm or way.norm) if case.student.startswith("convnet") else None
    torch.manual_seed(seed)
    return build_student(case.student, 10, case.size, norm=norm, width=case.width, mean=mean, std=std)
