"""What the evaluator's defaults rest on: threads or processes, layouts, dtypes, kept memory, optimisers.

Parts of evaluation_speed.py, in seconds of the processor by work that takes turns on one thread. `memory` has a fresh
process for each turn: what a heap has become under one setting stays under the next. `seeds` is two trainings in turn
on two threads (`threads`), or side by side on one thread each (`processes`, their start included), with wall seconds
beside; where other programs take the cores the wall says little, and the processor's seconds what each way costs.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import partial
from itertools import product
from typing import Any

import torch
from evaluation_clock import Case, Clock, in_turn, network, quartiles
from torch import Tensor, nn
from torch.nn import functional as F

from concord.data.tensors import TensorSet
from concord.evaluation.protocols import DC
from concord.evaluation.training import Compute, Drawn, keep_freed, train
from concord.storage.processes import spread

CASES = (
    (Case("convnet-3", 32, "dc", 50, 50), ("batch", "instance", "group")),
    (Case("resnet-18", 224, "dc", 5, 5), ("batch",)),
)
TINY = ((Case("convnet-1", 16, "dc", 10, 10, 8), ("batch", "group")),)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
DTYPES = (torch.float32, torch.bfloat16)
OPTIMISERS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def choices(rounds: int, tiny: bool) -> dict[str, Any]:
    """Milliseconds of a forward and backward pass by norm, layout and dtype, and of AdamW by its form."""
    clock = Clock("cpu")
    works: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    updates = {}
    for case, norms in TINY if tiny else CASES:
        x, labels = torch.rand(case.batch, 3, case.size, case.size), torch.arange(case.batch) % 10
        for norm, (layout, form), dtype in product(norms, LAYOUTS.items(), DTYPES):
            row = {"student": case.student, "size": case.size, "batch": case.batch, "norm": norm}
            rows.append(row | {"layout": layout, "dtype": str(dtype).removeprefix("torch.")})
            net = network(case, norm).to(memory_format=form)
            works[str(len(rows))] = partial(passes, net, x, labels, dtype)
        net = network(case, norms[0])
        passes(net, x, labels, torch.float32)
        for name, kind in OPTIMISERS.items():
            update = torch.optim.AdamW(net.parameters(), lr=1e-3, **kind)  # type: ignore[arg-type]
            updates[f"{case.student} {name}"] = update.step
    taken = in_turn(clock, works, rounds)
    for row, pairs in zip(rows, taken.values(), strict=True):
        row["ms"] = quartiles([1000 * own for own, _ in pairs])
    steps = in_turn(clock, updates, 5 * rounds)
    adamw = {name: quartiles([1000 * own for own, _ in pairs]) for name, pairs in steps.items()}
    return {"passes": rows, "adamw_ms": adamw}


def memory(tiny: bool, rounds: int = 3) -> list[dict[str, Any]]:
    """Milliseconds of a step with freed memory kept and given back to the system."""
    cases = (
        Case("convnet-3", 32, "dc", 50, 50),
        Case("convnet-3", 32, "dc", 250, 250),
        Case("convnet-4", 64, "dc", 50, 50),
    )
    rows = []
    for case in (TINY[0][0],) if tiny else cases:
        found: dict[str, list[float]] = {"kept": [], "given_back": []}
        for _ in range(rounds):
            for name, taken in found.items():
                taken += spread(fresh, [(case, name == "kept")], 1, one_thread)
        rows.append({**asdict(case), "norm": "batch", "ms": {name: quartiles(taken) for name, taken in found.items()}})
    return rows


def one_thread(rank: int) -> None:
    torch.set_num_threads(1)


def fresh(job: tuple[Case, bool]) -> float:
    """Milliseconds of a step of a fresh process, the least of four after the first."""
    case, kept = job
    if kept:
        keep_freed()
    net = Compute().lay_out(network(case, "batch"))
    x, labels = torch.rand(case.batch, 3, case.size, case.size), torch.arange(case.batch) % 10
    clock = Clock("cpu")
    taken = [clock(partial(passes, net, x, labels, torch.float32))[0] for _ in range(5)]
    return 1000 * min(taken[1:])


def passes(net: nn.Module, x: Tensor, labels: Tensor, dtype: torch.dtype) -> None:
    with Compute("cpu", dtype).autocast():
        logits = net(x)
    F.cross_entropy(logits.float(), labels).backward()


def seeds(tiny: bool, rounds: int = 2) -> dict[str, Any]:
    """Wall and processor seconds of two trainings, in turn on two threads or side by side; medians over rounds."""
    case = Case("convnet-1", 16, "dc", 10, 10, 8) if tiny else Case("convnet-3", 32, "dc", 50, 50)
    epochs = 2 if tiny else 20
    jobs = [(case, epochs, seed) for seed in range(2)]
    found: dict[str, list[tuple[float, float]]] = {"threads": [], "processes": []}

    def in_threads() -> None:
        torch.set_num_threads(2)
        try:
            for job in jobs:
                training(job)
        finally:
            torch.set_num_threads(1)

    def in_processes() -> None:
        for _ in spread(training, jobs, 2, one_thread):
            pass

    clock = Clock("cpu")
    for _ in range(rounds):
        for name, work in (("threads", in_threads), ("processes", in_processes)):
            before = os.times()
            own, wall = clock(work)
            after = os.times()
            children = sum(after[2:4]) - sum(before[2:4])
            found[name].append((own + children, wall))
    return {
        "student": case.student,
        "trainings": len(jobs),
        "epochs": epochs,
        "rounds": rounds,
        **{
            name: {
                "processor_seconds": quartiles([own for own, _ in pairs]),
                "wall_seconds": quartiles([wall for _, wall in pairs]),
            }
            for name, pairs in found.items()
        },
    }


def training(job: tuple[Case, int, int]) -> float:
    """Train one student of a case on noise; return its accuracy, which says nothing."""
    case, epochs, seed = job
    keep_freed()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (case.images, 3, case.size, case.size), generator=generator, dtype=torch.uint8)
    data = TensorSet(images, torch.arange(case.images) % 10)
    drawn = Drawn(DC, len(data), case.size, case.size, case.batch, seed)
    return train(network(case, seed=seed), data, drawn, DC, epochs, case.size, test=data).last
