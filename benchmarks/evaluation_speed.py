"""Time the evaluator beside a straightforward loop of the same protocol and beside the floor, bare passes of the nets.

    python benchmarks/evaluation_speed.py                              # all parts, on one thread
    python benchmarks/evaluation_speed.py --parts steps --device cuda  # ResNet-18 at 224 px first

steps: an epoch of `ours` (draw, `Trainer.step`), of `plain` (plain_evaluation.py: decode, transform one by one, step),
of `plain-kept` (decoded images kept in memory), of `plain-2-workers` (in loader processes), and of the `floor`: the
student's passes, the teacher's and the optimiser's step on tensors that are drawn, augmented, mixed and normalised
already. All take turns, so that a machine that is busy for a while is so for all; medians over rounds with quartiles.
On a CPU the clock is the processor's time of this process, which other programs lengthen little; `wall` stands beside
it, and is all there is of loader processes. overhead = 1 - floor / ours; with loading, over a whole training.
accuracy: whole trainings on reef, by both loops from the same first weights, and Welch's interval of the difference;
and by the plain loop's steps on the very views that ours drew (`replayed`), which tells drawing from training.
seeds, choices, memory: see evaluation_choices.py.

Found on two shared CPU cores (10 minutes of processor time): overheads from 0.5 to 6 %; 1.2 to 1.5 times the images a
second of the plain loop; the same accuracy on the same views, within noise on each loop's own. On a GPU nothing is
measured yet.

Writes benchmarks/results/evaluation_speed.json, or `--out`; parts that are not asked for stay as they are there.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import evaluation_choices
import plain_evaluation as plain
import torch
from evaluation_clock import Case, Clock, folder, in_turn, network, quartiles
from record import RESULTS, head, write
from torch.nn import functional as F

from concord.data import open_data
from concord.data.tensors import TensorSet, for_testing, for_training, load
from concord.evaluation.augment import apply
from concord.evaluation.mixing import mix
from concord.evaluation.protocols import RDED, TEACHER, num_epochs, protocol
from concord.evaluation.training import Compute, Drawn, Trainer, soft_labels, soft_loss, train
from concord.metrics.statistics import summary, unpaired
from concord.models.students import Student
from concord.reef.dataset import real_set, test_set
from concord.system import package_version, resolve_dtype

PARTS = ("steps", "accuracy", "seeds", "choices", "memory")
CPU = (
    Case("convnet-3", 32, "rded", 50, 100),
    Case("convnet-3", 32, "rded", 10, 50),
    Case("convnet-3", 32, "dc", 256, 260),
    Case("convnet-3", 32, "hard", 64, 130),
    Case("convnet-4", 64, "rded", 50, 50),
    Case("resnet-18", 224, "rded", 10, 10, rounds=3),
)
CUDA = (Case("resnet-18", 224, "rded", 100, 500), Case("convnet-3", 32, "dc", 256, 500))
TINY = (Case("convnet-1", 16, "rded", 10, 20, 8), Case("convnet-1", 16, "dc", 10, 10, 8))


def floor(trainer: Trainer, teacher: Student | None, drawn: Drawn, data: TensorSet, compute: Compute) -> Any:
    """Return what runs the bare passes of an epoch. The teacher normalises as the student does."""
    way = drawn.protocol
    mean, std = (torch.tensor(values, device=compute.device) for values in way.mean_std)
    made = []
    for batch in drawn.epoch(0):
        index = batch.index.to(compute.device)
        pixels = mix(apply(way.augment, data.images[index], batch.view, drawn.size, mean, std), batch.mixing)
        made.append(((pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1), data.labels[index]))
    net: Any = trainer.net
    optimiser = trainer._optimiser

    def epoch() -> None:
        net.train()
        for x, labels in made:
            if way.double_pass:
                with torch.no_grad(), compute.autocast():
                    net.net(x)
            targets = soft_labels(teacher.net, x, way.temperature, compute) if teacher is not None else None
            with compute.autocast():
                logits = net.net(x)
            if targets is None:
                loss = F.cross_entropy(logits.float(), labels)
            else:
                loss = soft_loss(logits.float(), targets, way.temperature)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

    return epoch


def steps(case: Case, rounds: int, device: str, workers: int) -> dict[str, Any]:
    """Time one case; see the head of the file. workers: of the loader, none are tried where it is 0."""
    way, clock, rounds = protocol(case.protocol), Clock(device), case.rounds or rounds
    compute = Compute(device, getattr(torch, resolve_dtype("auto", device)))
    soft = way.labels == "soft"
    teacher = network(case, "batch", 1).eval().requires_grad_(False) if soft else None
    if teacher is not None:
        compute.lay_out(teacher.to(device))
    with tempfile.TemporaryDirectory() as made:
        place = folder(real_set(case.images // 10), case.size, Path(made))
        stored: list[TensorSet] = []
        loading, _ = clock(lambda: stored.append(load(open_data(str(place)), for_training(case.size)).to(device)))
        data = stored[0]
        drawn = Drawn(way, len(data), data.side, case.size, case.batch, 0)
        trainer, bare = (Trainer(network(case), data, way, case.size, teacher, compute) for _ in range(2))
        numbers = iter(range(1_000_000))

        def ours() -> None:
            for batch in drawn.epoch(next(numbers)):
                trainer.step(batch)

        works: dict[str, Any] = {"ours": ours, "floor": floor(bare, teacher, drawn, data, compute)}
        forms = {"plain": (0, False), "plain-kept": (0, True)}
        if workers:
            forms[f"plain-{workers}-workers"] = (workers, False)
        for name, (processes, kept) in forms.items() if case.protocol in ("rded", "dc") else ():
            batches = plain.loader(place, case.protocol, case.size, case.batch, processes, kept)
            own = network(case, "batch", 1).net.eval().requires_grad_(False).to(device) if soft else None
            loop = plain.Loop(network(case).net, own, case.protocol, batches, device)
            works[name] = partial(loop.epoch, 0, 300)
        taken = in_turn(clock, works, rounds)
    seconds, wall = ({name: [pair[k] for pair in pairs] for name, pairs in taken.items()} for k in (0, 1))
    hidden = {name for name in works if name.endswith("workers")}  # their processes' time is not this one's
    epochs = num_epochs(way, len(data) / 10, 10)
    ratios = {
        name: [a / b for a, b in zip(times[name], times["ours"], strict=True)]
        for name in works
        for times in (wall if name in hidden else seconds,)
    }
    whole = loading + epochs * median(seconds["ours"])
    row = {
        **asdict(case),
        "rounds": rounds,
        "overhead": quartiles([1 - ratio for ratio in ratios["floor"]]),
        "overhead_with_loading": round(1 - epochs * median(seconds["floor"]) / whole, 4),
        "speed_up": {name: quartiles(values) for name, values in ratios.items() if name.startswith("plain")},
        "images_per_second": {n: round(len(data) / median(v), 2) for n, v in seconds.items() if n not in hidden},
        "images_per_second_wall": {name: round(len(data) / median(v), 2) for name, v in wall.items()},
    }
    print(json.dumps(row), flush=True)
    return row


def accuracy(seeds: int, tiny: bool) -> dict[str, Any]:
    """Train by both loops with as many seeds each, on 10 images a class of reef at 32 px, labels by a small teacher."""
    case = Case("convnet-1" if tiny else "convnet-3", 16 if tiny else 32, "rded", 50, 100, 8 if tiny else 32)
    epochs, per_class = (2, 10) if tiny else (40, 100)
    held = test_set(5 if tiny else 100)
    clock = Clock("cpu")
    with tempfile.TemporaryDirectory() as made:
        small = folder(real_set(10), case.size, Path(made) / "train")
        tests = folder(held, case.size, Path(made) / "test")
        data = load(open_data(str(small)), for_training(case.size))
        judged = load(open_data(str(tests)), for_testing(case.size, RDED.test_side(case.size)))
        real = load(real_set(per_class), for_training(case.size))
        teacher = network(case, seed=100)
        drawn = Drawn(TEACHER, len(real), case.size, case.size, 128, 0)
        taught = train(teacher, real, drawn, TEACHER, 2 if tiny else 20, case.size, test=judged)
        teacher.eval().requires_grad_(False)
        found: dict[str, list[float]] = {"ours": [], "plain": [], "replayed": []}
        taken: dict[str, list[float]] = {"ours": [], "plain": []}
        reading = plain.test_loader(tests, case.protocol, case.size)

        def ours(seed: int) -> None:
            batches = Drawn(RDED, len(data), case.size, case.size, case.batch, seed)
            net = network(case, seed=seed)
            course = train(net, data, batches, RDED, epochs, case.size, test=judged, labeller=teacher)
            found["ours"].append(course.last)

        def replayed(seed: int) -> None:
            """The plain step on what ours drew."""
            net = network(case, seed=seed)
            loop = plain.Loop(net.net, teacher.net, case.protocol, [])
            for epoch in range(epochs):
                loop.begin(epoch, epochs)
                for batch in Drawn(RDED, len(data), case.size, case.size, case.batch, seed).epoch(epoch):
                    pixels = apply(RDED.augment, data.images[batch.index], batch.view, case.size)
                    y1, x1, y2, x2 = batch.mixing["box"].tolist()
                    loop.rded((pixels - net.mean) / net.std, batch.mixing["index"].long(), (y1, y2, x1, x2))
            found["replayed"].append(loop.accuracy(reading))

        def straightforward(seed: int) -> None:
            plain.seed(seed)
            batches = plain.loader(small, case.protocol, case.size, case.batch)
            loop = plain.Loop(network(case, seed=seed).net, teacher.net, case.protocol, batches)
            for epoch in range(epochs):
                loop.epoch(epoch, epochs)
            found["plain"].append(loop.accuracy(reading))

        for seed in range(seeds):
            taken["ours"].append(clock(partial(ours, seed))[0])
            taken["plain"].append(clock(partial(straightforward, seed))[0])
            if seed < 3:
                replayed(seed)
    sums = {name: summary(values) for name, values in found.items()}
    pair = [(float(s["mean"]), float(s["std"])) for s in (sums["ours"], sums["plain"])]  # type: ignore[arg-type]
    welch = unpaired((pair[0][0], pair[1][0]), (pair[0][1], pair[1][1]), (seeds, seeds))
    return {
        **asdict(case),
        "epochs": epochs,
        "test_images": len(judged),
        "teacher_top1": taught.last,
        "seeds": seeds,
        "top1": sums,
        "replayed_less_ours": [round(b - a, 2) for a, b in zip(found["ours"], found["replayed"], strict=False)],
        "plain_less_ours": asdict(welch) if welch else None,
        "seconds": {name: quartiles(values) for name, values in taken.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", default="cpu", help="of `steps`: cpu (the default) or cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=12, help="of `accuracy`, for each loop")
    parser.add_argument("--workers", type=int, default=2, help="loader processes of the plain loop")
    parser.add_argument("--tiny", action="store_true", help="nets and images so small that it takes seconds")
    parser.add_argument("--out", type=Path, default=RESULTS / "evaluation_speed.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cuda = options.device.startswith("cuda")
    record = head(
        "evaluation_speed.py" + (f" --device {options.device}" if cuda else ""),
        "1 thread",
        torchvision=package_version("torchvision"),
        card=torch.cuda.get_device_name() if cuda else None,
        load={},  # mean processes that ran or waited over a minute, before each part
        notes=[] if cuda else ["no GPU was at hand: the aim of three times the plain loop on a GPU is not measured"],
    )
    cases = TINY if options.tiny else CUDA if cuda else CPU
    parts: dict[str, Any] = {
        "steps": lambda: [steps(case, options.rounds, options.device, options.workers) for case in cases],
        "accuracy": lambda: accuracy(options.seeds, options.tiny),
        "seeds": lambda: evaluation_choices.seeds(options.tiny),
        "choices": lambda: evaluation_choices.choices(options.rounds, options.tiny),
        "memory": lambda: evaluation_choices.memory(options.tiny),
    }
    if options.out.is_file():
        earlier = json.loads(options.out.read_text())
        record["load"] = dict(earlier["load"])
        record |= {part: earlier[part] for part in PARTS if part in earlier}
    for part in options.parts:
        record["load"][part] = round(os.getloadavg()[0], 1)
        record[part] = parts[part]()
        print(json.dumps({part: record[part]}, indent=1), flush=True)
        write(options.out, record)


if __name__ == "__main__":
    main()
