"""Whether the protocol `rded` gives the accuracies of RDED's own loop, over whole trainings from drawn views.

    python benchmarks/rded_parity.py --checkout RDED    # a checkout of github.com/LINs-lab/RDED
    python benchmarks/rded_parity.py                    # beside plain_evaluation.py alone

Three loops train the same student on the same files with the same teacher: `ours` (concord.evaluation), `rded` (the
checkout's `validation.main`, see rded_checkout.py) and `plain` (plain_evaluation.py, written after RDED's description).
They take turns, seed by seed, and start from the same weights; each draws its own views, so that only distributions can
agree. Reef, ten real images (IPC 1) at 64 px seen at 32, ConvNet-3, 300 epochs, 1,000 test images.

For each pair of loops and for the best and the last accuracy: the difference paired by seed, with Student's interval
and the sign-flip permutation test; Welch's interval and test; Kolmogorov and Smirnov's test of the distributions.

A training is a file below --work: killed, the same command goes on, and several processes may share it (--first). The
record has the seeds that every loop has trained by then. Writes benchmarks/results/rded_parity.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import plain_evaluation as plain
import torch
from evaluation_clock import folder
from rded_checkout import Checkout, commit
from record import RESULTS, head, write
from scipy.stats import ks_2samp, ttest_ind

from concord.data import open_data
from concord.evaluation.evaluate import Unit, prepared, train_cell
from concord.evaluation.protocols import RDED, is_eval_epoch
from concord.evaluation.settings import read_settings
from concord.evaluation.train_teacher import read_teacher_settings, teach
from concord.evaluation.training import HERE
from concord.metrics.statistics import paired, summary, unpaired
from concord.models.classifier_file import load_classifier
from concord.reef.dataset import real_set, test_set
from concord.storage.atomic import write_json

SIDE, SIZE = 64, 32
CELL = ("ipc", "width", "epochs", "tests", "real", "teacher_epochs")
"""Options that decide an accuracy."""
Loop = Callable[[int], list[float]]
"""A seed to the accuracies that were read, in percent: the last is the last epoch's."""
Trial = dict[str, float]
"""A training: best and last accuracy in percent, and its seconds."""


def loops(work: Path, options: argparse.Namespace) -> tuple[dict[str, Loop], dict[str, Any]]:
    """Make set, test images and teacher below `work`, where they are not there yet; a loop of each kind on them.

    Returned with them: what is to be said of the teacher.
    """
    ipc, tests, real, taught = options.ipc, options.tests, options.real, work / "teacher.safetensors"
    for name, images in (("set", real_set(ipc)), ("test", test_set(tests)), ("real", real_set(real))):
        if not (work / name).is_dir():
            shutil.rmtree(part := work / f"{name}.part", ignore_errors=True)
            folder(images, SIDE, part).rename(work / name)
    student = ["student=convnet-3", f"width={options.width}", f"size={SIZE}"]
    if not taught.is_file():
        large, way = read_teacher_settings([*student, f"epochs={options.teacher_epochs}"])
        teach(open_data(str(work / "real")), None, large, way, taught)
    settings, ways = read_settings([*student, f"epochs={options.epochs}", f"teacher={taught}"])
    ready = prepared(work / "set", str(work / "test"), settings, ways, work / "evaluation.json")
    cell, teacher = ready.cells[0], load_classifier(taught).student.eval().requires_grad_(False)
    judged: Any = [((cell.test.pixels(slice(None)) - teacher.mean) / teacher.std, cell.test.labels)]

    def ours(seed: int) -> list[float]:
        _, trial = train_cell(Unit(cell, seed, HERE, ready.teacher))
        return [trial.best, trial.last]

    def plainly(seed: int) -> list[float]:
        plain.seed(seed)
        net = cell.look.build(10, RDED, seed).net
        batches = plain.loader(work / "set", "rded", SIZE, cell.batch, kept=True)
        loop, read = plain.Loop(net, teacher.net, "rded", batches), []
        for epoch in range(options.epochs):
            loop.epoch(epoch, options.epochs)
            if is_eval_epoch(RDED, epoch, options.epochs):
                read.append(loop.accuracy(judged))
        return read

    found: dict[str, Loop] = {"ours": ours}
    if options.checkout is not None:
        sets = (work / "set", work / "test")
        found["rded"] = Checkout(
            options.checkout, work / "rded", *sets, teacher.net, options.width, ipc, tests, options.epochs
        )
    return found | {"plain": plainly}, {
        **load_classifier(taught).facts,
        "accuracy": ready.record["teacher"]["accuracy"],
    }


def trained(made: Mapping[str, Loop], seeds: Iterable[int], first: int, place: Path) -> dict[int, dict[str, Trial]]:
    """What each loop came to, by seed; below `first` only what lies in `place` already. Loops take turns.

    Returned are the seeds of which every loop has a training.
    """
    trials: dict[int, dict[str, Trial]] = {}
    for seed in seeds:
        kept = {name: place / f"{name}-{seed:03d}.json" for name in made}
        for name, loop in made.items() if seed >= first else ():
            if not kept[name].is_file():
                begun = time.perf_counter()
                read = loop(seed)
                trial = {"best": max(read), "last": read[-1], "seconds": round(time.perf_counter() - begun, 2)}
                place.mkdir(parents=True, exist_ok=True)
                write_json(kept[name], trial)
                print(f"{kept[name].stem}: {trial}", flush=True)
        if all(path.is_file() for path in kept.values()):
            trials[seed] = {name: json.loads(path.read_text()) for name, path in kept.items()}
    return trials


def compared(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """First less second, of pairs by seed and as two samples."""
    sums = [summary(values) for values in (second, first)]
    means, spreads = (tuple(float(s[key]) for s in sums) for key in ("mean", "std"))  # type: ignore[arg-type]
    pairs, welch = paired(second, first), unpaired(means, spreads, (len(second), len(first)))  # type: ignore[arg-type]
    assert pairs is not None and welch is not None, "of two seeds at least"
    p = float(ttest_ind(first, second, equal_var=False).pvalue)
    return {
        "paired": asdict(pairs),
        "unpaired": {**asdict(welch), "p": p},
        "distributions_p": float(ks_2samp(first, second).pvalue),
    }


def collected(trials: Mapping[int, Mapping[str, Trial]]) -> dict[str, Any]:
    """Both accuracies of each loop, and every pair of loops compared; trainings by seed and loop."""
    names = list(next(iter(trials.values())))
    values = {
        name: {key: [by_loop[name][key] for by_loop in trials.values()] for key in ("best", "last", "seconds")}
        for name in names
    }
    return {
        "seeds": list(trials),
        "top1": {name: {key: summary(values[name][key]) for key in ("best", "last")} for name in names},
        "differences": {
            f"{a} less {b}": {key: compared(values[a][key], values[b][key]) for key in ("best", "last")}
            for a, b in combinations(names, 2)
        },
        "seconds": {name: round(median(values[name]["seconds"]), 2) for name in names},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, help="of github.com/LINs-lab/RDED")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="train none below: another process does, or is to")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--width", type=int, default=32, help="of student and teacher")
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--tests", type=int, default=100, help="test images a class")
    parser.add_argument("--real", type=int, default=500, help="images a class that the teacher learns from")
    parser.add_argument("--teacher-epochs", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("out/rded-parity"))
    parser.add_argument("--out", type=Path, default=RESULTS / "rded_parity.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    decides = {key: getattr(options, key) for key in CELL}
    if (kept := work / "cell.json").is_file() and (before := json.loads(kept.read_text())) != {"schema": 1, **decides}:
        raise SystemExit(f"{options.work} holds trainings with other settings, {before}; give another --work")
    write_json(kept, decides)
    made, teacher = loops(work, options)
    trials = trained(made, range(options.seeds), options.first, work / "trials")
    if len(trials) < 2:
        raise SystemExit("fewer than two seeds have been trained by every loop: nothing to compare yet")
    record = head(
        note="1 thread",
        set=f"reef, real images, IPC {options.ipc}, {SIDE} px seen at {SIZE}",
        protocol=f"rded, ConvNet-3 of width {options.width}, {options.epochs} epochs, {10 * options.tests} test images",
        teacher=teacher,
        rded=commit(options.checkout) if options.checkout else None,
        **collected(trials),
    )
    write(options.out, record, {str(options.checkout): "RDED", str(options.work): "WORK"})
    print(json.dumps(record["differences"], indent=1))


if __name__ == "__main__":
    main()
