"""Tables of accuracies: CIFAR-10 against the field's, clothing photographs, and reef in several ways.

    python benchmarks/evaluation_tables.py cifar10 --data DIR    # DIR/train.parquet, DIR/test.parquet
    python benchmarks/evaluation_tables.py clothing --data DIR   # DIR/train, DIR/validation: a folder a class
    python benchmarks/evaluation_tables.py reef
    python benchmarks/evaluation_tables.py ways     # reef in few steps: beginnings and guides
    python benchmarks/evaluation_tables.py sre2l --data DIR      # CIFAR-10, from a ConvNet teacher
    python benchmarks/evaluation_tables.py prompts --data DIR   # as clothing's, with DIR/bank.json: wants a GPU

Everything goes through the command line, as a user would do it; the commands are in the record, and a killed benchmark
goes on where it was (--collect records what there is so far). Sets, teachers and evaluations lie below --work;
benchmarks/results/evaluation_NAME.json has the cells, and keeps those of sets that --work lacks. On two CPU cores each
table takes about an hour.

Students compute in bfloat16 (`dtype`) where the CPU's matrix units make it twice as fast, else in float32;
evaluation_speed.json has the accuracies of both.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from record import RESULTS, fast_dtype, head, write

from concord.runs.draws import draws_in


@dataclass(frozen=True)
class Set:
    """A small set: how it is made (arguments of `concord distill`), and which part of its directory is evaluated.

    With `draws` it is made by each of these seeds, and the part is that of every draw. A set without `runs` was made
    and evaluated beside another one.
    """

    name: str
    distill: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]
    part: str = ""
    of: str = ""
    draws: tuple[int, ...] = ()

    def places(self, work: Path) -> list[Path]:
        """What is evaluated: the draws' parts, or the one directory."""
        out = work / (self.of or self.name)
        if self.draws:
            return [out / f"seed-{seed}" / self.part for seed in self.draws]
        return draws_in(out / self.part) or [out / self.part]


@dataclass(frozen=True)
class Table:
    """A benchmark: teacher (arguments of `concord teacher`), test set, and sets with their evaluations."""

    test: str
    sets: tuple[Set, ...]
    teacher: tuple[str, ...] = ()
    published: dict[str, Any] = field(default_factory=dict)
    not_run: tuple[str, ...] = ()


DTYPE = f"dtype={fast_dtype()}"
DRAWS = (0, 1, 2)
"""Seeds of the sets that are drawn."""
REGIMES = ("protocol=rded,fixed,hard", "judge=rded", "resize_first=false")
"""Soft, fixed and hard labels. Minimax's hard protocol has up to 3000 epochs, reads the accuracy a hundred times and
crops from images that were brought to the student's size: all three are as in RDED's here."""


def cifar10(data: Path, work: Path) -> Table:
    """ConvNet-3 with the DC protocol: three draws of random images; students of herding, which has one."""
    train, teacher = str(data / "train.parquet"), str(work / "teacher.safetensors")
    common = ("student=convnet-3", "protocol=dc", DTYPE)
    chosen = ("photos", f"data={train}", "size=null", "ipc=50")
    by_teacher = ("features=teacher", f"teacher={teacher}")
    return Table(
        str(data / "test.parquet"),
        (
            Set("random", (*chosen, "method=random"), ((*common, "ipc=1,10,50", "seeds=1"),), draws=DRAWS),
            Set(
                "herding",
                (*chosen, "method=herding", *by_teacher),
                ((*common, "ipc=1,10", "seeds=3"), (*common, "ipc=50", "seeds=1")),
            ),
        ),
        (train, "student=convnet-3", "epochs=6", "batch=256", DTYPE),
        {
            "source": "Zhao et al. 2021 (DC), Table 1, top-1 mean ± std in percent",
            "random": {"1": "14.4 ± 2.0", "10": "26.0 ± 1.2", "50": "43.4 ± 1.0"},
            "herding": {"1": "21.5 ± 1.2", "10": "31.6 ± 0.7", "50": "40.4 ± 0.6"},
        },
        ("k-center",),
    )


def sre2l(data: Path, work: Path) -> Table:
    """SRe2L from a ConvNet-3 of width 64 with batch norm, its labels by RDED's protocol, and random images.

    One draw of each; 300 steps of recovery, where the published have 1,000.
    """
    train, teacher = str(data / "train.parquet"), f"teacher={work / 'teacher.safetensors'}"
    student = ("student=convnet-3", "width=64", "protocol=rded", DTYPE, teacher, "ipc=1,10", "epochs=300", "seeds=1")
    return Table(
        str(data / "test.parquet"),
        (
            Set("sre2l", ("cifar-10-sre2l", f"data={train}", teacher, "sre2l.iterations=300"), (student,)),
            Set("random", ("photos", f"data={train}", "size=null", "ipc=10", "method=random"), (student,)),
        ),
        (train, "student=convnet-3", "width=64", "epochs=4", "batch=256", DTYPE),
        {
            "source": "SRe2L on CIFAR-10, teacher and student ResNet-18, RDED's evaluation, top-1 mean ± std in percent"
            " at IPC 1 / 10 / 50, as later papers quote it",
            "sre2l": {"1": "16.6 ± 0.9", "10": "29.3 ± 0.5", "50": "45.0 ± 0.7"},
        },
        ("IPC 50", "three draws", "ResNet-18: concord distill cifar-10-sre2l, which wants a GPU"),
    )


def clothing(data: Path, work: Path) -> Table:
    """ConvNet-4 of width 32 at 64 px in three regimes of labels, by a teacher of width 128; draws of what is drawn."""
    train, teacher = str(data / "train"), str(work / "teacher.safetensors")
    common = ("student=convnet-4", "width=32", "size=64", DTYPE, f"teacher={teacher}", *REGIMES)
    made = ("photos", f"data={train}", "size=64", "ipc=10", f"teacher={teacher}")
    drawn = tuple((*common, f"ipc={ipc}", "epochs=300", "seeds=1") for ipc in (1, 10))
    one = tuple((*common, f"ipc={ipc}", "epochs=300", f"seeds={n}") for ipc, n in ((1, 3), (10, 2)))
    return Table(
        str(data / "validation"),
        (
            Set("random", (*made, "method=random"), drawn, draws=DRAWS),
            Set("rded", (*made, "method=rded"), drawn, draws=DRAWS),
            Set("herding", (*made, "method=herding", "features=teacher"), one),
        ),
        (train, "student=convnet-4", "size=64", "epochs=40", "batch=100", DTYPE),
        not_run=("k-center", "IPC 50", "ConvNet-5 at 128 px", "ResNet-18 at 224 px: these want a GPU"),
    )


def reef(data: Path, work: Path) -> Table:
    """ConvNet-3 of width 32 at 32 px in three regimes of labels: three draws of made and of random real images."""
    teacher = str(work / "teacher.safetensors")
    common = ("student=convnet-3", "width=32", "size=32", DTYPE, "seeds=1", f"teacher={teacher}")
    protocols = (*common, *REGIMES)
    made = tuple((*protocols, f"ipc={ipc}", f"epochs={epochs}") for ipc, epochs in ((1, 300), (10, 300), (50, 60)))
    beside = tuple((*run, "beside=random,herding") for run in made)
    distill, draws = ("reef", "ipc=50"), (6000, 6001, 6002)
    return Table(
        "reef-test",
        (
            Set("informed", distill, beside, draws=draws),
            Set("uninformed", distill, made, part="uninformed", of="informed", draws=draws),
            Set("random", distill, (), part="beside/random", of="informed"),
            Set("herding", distill, (), part="beside/herding", of="informed"),
        ),
        ("reef", "student=convnet-3", "width=32", "size=32", "epochs=20", "batch=100", DTYPE),
    )


def ways(data: Path, work: Path) -> Table:
    """Reef in few steps: beginnings and guides, over three draws, in three regimes of labels.

    Random images of IPC 10 and 50 are those of the table `reef`, of the same draws.
    """
    teacher = str(work / "teacher.safetensors")
    common = ("student=convnet-3", "width=32", "size=32", DTYPE, "seeds=1", f"teacher={teacher}", *REGIMES)
    epochs = {10: 300, 50: 60, 100: 30}
    runs = tuple((*common, f"ipc={ipc}", f"epochs={n}") for ipc, n in epochs.items())
    draws = (6000, 6001, 6002)

    def guided(name: str, guides: str, *texts: str) -> Set:
        made = (*few, "ipc=10", f"guides={guides}", *texts)
        return Set(name, made, runs[:1] if guides != "[]" else (), draws=draws)

    few = ("reef-few", "ipc=100", "uninformed=false", "workers=1")
    return Table(
        "reef-test",
        (
            Set("noise", few, (*runs[:2], (*runs[2], "beside=random")), draws=draws),
            Set("real start", (*few, "pipeline.start=real"), runs, draws=draws),
            Set("random", few, (), part="beside/random", of="noise"),
            guided("no guide", "[]"),  # noise's first ten, measured alone as the guided are
            guided("modes", "[modes]"),
            guided("repulsion", "[repulsion]", "batch_size=50"),  # five of a class push each other
        ),
        ("reef", "student=convnet-3", "width=32", "size=32", "epochs=20", "batch=100", DTYPE),
    )


def prompts(data: Path, work: Path) -> Table:
    """Photographs by a text-to-image model: concepts in its prompts, as what informs, as both, and not at all."""
    made = (
        "custom-ip",
        f"data={data / 'train'}",
        "ipc=10",
        "uninformed=true",
        "concepts.bank=" + str(data / "bank.json"),
    )
    prompted = (
        'pipeline.prompts=["a photo of a {class} with {concepts}"]',
        "pipeline.negative_prompts=[{concept}]",
    )
    student = ("student=resnet-18", "protocol=hard", "ipc=1,10", "seeds=1")
    return Table(
        str(data / "validation"),
        (
            Set("informed", made, (student,), draws=DRAWS),
            Set("neither", made, (student,), part="uninformed", of="informed", draws=DRAWS),
            Set("both", (*made, *prompted), (student,), draws=DRAWS),
            Set("prompted", made, (student,), part="uninformed", of="both", draws=DRAWS),
        ),
    )


TABLES = {"cifar10": cifar10, "sre2l": sre2l, "clothing": clothing, "reef": reef, "ways": ways, "prompts": prompts}


def concord(arguments: Sequence[str], log: list[str], work: Path, collect: bool = False) -> None:
    """Run a command of concord, which says itself why it failed; or only write down what it would be."""
    said = shlex.join(["concord", *arguments]).replace(str(work), "WORK")
    log.append(said)
    if collect:
        return
    print(f"$ {said}", flush=True)
    done = subprocess.run([sys.executable, "-m", "concord.cli", *arguments], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def measure(table: Table, work: Path, collect: bool = False, only: Sequence[str] | None = None) -> dict[str, Any]:
    """Make everything that is not there yet, or of these sets, unless there is only to `collect`; return the cells."""
    commands, said = list[str](), dict[str, list[str]]()
    work.mkdir(parents=True, exist_ok=True)
    teacher = work / "teacher.safetensors"
    record: dict[str, Any] = {}
    if table.teacher:
        arguments = ["teacher", *table.teacher, "--out", str(teacher), "--test", table.test, "--quiet"]
        concord(arguments, commands, work, collect or teacher.is_file())
        from concord.models.classifier_file import load_classifier

        record["teacher"] = dict(load_classifier(teacher).facts)
    for one in table.sets:
        if only is not None and one.name not in only:
            continue
        own = said.setdefault(one.name, [])
        out = work / (one.of or one.name)
        seeds = [f"seed={','.join(map(str, one.draws))}"] if one.draws else []
        if not one.of:
            concord(["distill", *one.distill, *seeds, "--out", str(out), "--quiet"], own, work, collect)
        for run in one.runs:
            folders = [str(place) for place in one.places(work)]
            concord(["evaluate", *folders, "--test", table.test, *run, "--quiet"], own, work, collect)
    sets: dict[str, list[dict[str, Any]]] = {}
    measured: dict[str, list[dict[str, Any]]] = {}
    for one in table.sets:
        for place in one.places(work):
            if found := measures(place, one):
                measured.setdefault(one.name, []).append(found)
            if (place / "evaluation.json").is_file():
                sets.setdefault(one.name, []).extend(cells(place))
    record |= {"measured": measured} if measured else {}
    commands += [text for name, own in said.items() if name in sets or name in measured for text in own]
    return record | {"sets": sets, "published": table.published, "not_run": list(table.not_run), "commands": commands}


def measures(place: Path, one: Set) -> dict[str, Any]:
    """What results.json has of a made set's images: none of real ones."""
    results = (place.parent if one.part == "uninformed" else place) / "results.json"
    values = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    name = "uninformed" if one.part == "uninformed" else "informed"
    found = dict((values.get("completeness") or {}).get(name, {}))
    if diversity := (values.get("nuisance_diversity") or {}).get(name):
        found["nuisance_diversity"] = diversity
    return found


def cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of an evaluation.json, without what takes much room."""
    values = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    left_out = ("confusion", "per_class", "settings")
    return [{key: value for key, value in cell.items() if key not in left_out} for cell in values["cells"]]


def with_before(found: dict[str, Any], path: Path) -> dict[str, Any]:
    """What was found beside what an earlier record has: what was made elsewhere, or was cleared away since, stays."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept = {key: value for key, value in before.items() if key not in head("")}
    parts = ("sets", "measured", "made_by")
    both = {part: kept.get(part, {}) | found.get(part, {}) for part in parts if part in kept or part in found}
    return {**kept, **found, **both, "commands": list(dict.fromkeys((*kept.get("commands", []), *found["commands"])))}


def with_others(found: dict[str, Any], others: dict[str, tuple[str, str]], ipcs: Sequence[int]) -> dict[str, Any]:
    """A record's sets and measures beside those that other tables have, at some IPCs.

    Its own cells stay; measures are the other table's, where it has them: they are of more images.

    others: name -> a table here and the name there, of a set that is made and trained on by the same commands, with a
    teacher of its own.
    """
    sets, measured = dict(found["sets"]), dict(found.get("measured", {}))
    for name, (table, theirs) in others.items():
        record = json.loads((RESULTS / f"evaluation_{table}.json").read_text(encoding="utf-8"))
        own = sets.get(name, [])
        lacking = {*ipcs} - {cell["ipc"] for cell in own}
        sets[name] = own + [cell for cell in record["sets"][theirs] if cell["ipc"] in lacking]
        if theirs in record.get("measured", {}):
            measured[name] = record["measured"][theirs]
    return {**found, "sets": sets, "measured": measured}


def where(cell: dict[str, Any]) -> tuple[str, int]:
    return cell["protocol"], cell["ipc"]


LABELS = {"rded": "soft", "fixed": "fixed", "hard": "hard"}
"""The protocols of `REGIMES`, by their labels."""


def values_of(cells: Sequence[dict[str, Any]], protocol: str, ipc: int) -> list[float]:
    """The accuracies of a set's draws in one regime, in per cent, as its protocol reports them."""
    same = [cell for cell in cells if where(cell) == (protocol, ipc)]
    return [value for cell in same for value in cell["top1"][cell["reports"]]["values"]]


def spread(values: Sequence[float]) -> str:
    """Mean and deviation over draws, as ``30.8 ± 2.2``; nothing where there are none."""
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}" if values else ""


def markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table, the first its heads, as lines of Markdown."""
    head, *rows = lines
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--data", type=Path, default=Path("."), help="the folder of the real images")
    parser.add_argument("--work", type=Path, help="where sets and teachers lie; out/evaluation/TABLE if not given")
    parser.add_argument("--collect", action="store_true", help="record what is there, and make nothing")
    parser.add_argument("--sets", nargs="*", help="make these alone")
    options = parser.parse_args()
    work = options.work or Path("out") / "evaluation" / options.table
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    found = measure(TABLES[options.table](options.data, work), work, options.collect, options.sets)
    path = RESULTS / f"evaluation_{options.table}.json"
    record = head(f"evaluation_tables.py {options.table}", **with_before(found, path))
    hidden = {str(work): "WORK"} | ({str(options.data): "DATA"} if options.data != Path(".") else {})
    write(path, record, hidden)
    for name, row in record["sets"].items():
        for key, same in groupby(sorted(row, key=where), where):
            draws = [cell["top1"][cell["reports"]] for cell in same]
            values = [value for draw in draws for value in draw["values"]]
            deviation = stdev(values) if len(values) > 1 else 0.0
            many = f"({len(draws)} draws x {len(values) // len(draws)})"
            print(f"{name:<24} {key[0]:<6} IPC {key[1]}: {mean(values):.1f} ± {deviation:.1f} {many}")


if __name__ == "__main__":
    main()
