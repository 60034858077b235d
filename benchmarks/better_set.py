"""Which images stand together: ways to choose a set of reef, at IPC 1, 10 and 50, in three regimes of labels.

    python benchmarks/better_set.py           # 3.5 hours of a CPU core; a killed benchmark goes on where it was
    python benchmarks/better_set.py --sets informed "best of 4"    # recorded beside what there is
    python benchmarks/better_set.py --tiny    # tries the script: a few steps of everything, recorded in --work

Random and herding real images, uninformed and informed ones, the best of four candidates that are all finished, a
choice from a pool by coverage, samplings that begin from real images, the recipe `reef-best` (of four candidates one
goes on after half of the steps), and its images mixed with real ones: three draws each, and
nine further ones of those that the aims compare at small IPC. Everything goes through the
command line, as in evaluation_tables.py, and the record has the commands. Sets that its tables `reef` and `ways` have
are made here at the IPC that these lack alone. Where the processor is fast at bfloat16, sets that are chosen from four
times as many candidates are sampled in it (completeness of 80 images: 0.955 in float32, 0.958). Under the table stand
the aims, met or not: a difference of accuracies is with its 95 % interval over draws (Welch).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from evaluation_tables import (
    DTYPE,
    LABELS,
    REGIMES,
    Set,
    Table,
    markdown,
    measure,
    spread,
    values_of,
    where,
    with_before,
    with_others,
)
from record import RESULTS, head, write

from concord.metrics.statistics import unpaired

SEEDS, IPC = (6000, 6001, 6002), (1, 10, 50)
FURTHER = tuple(range(6003, 6012))
"""Draws of `reef-best` and of random images at IPC 1 and 10, hard labels alone: three do not tell them apart."""
JUDGE = "select={kind: best, of: 4, by: percentile, model: 'reef:clip-2'}"
AGAIN = " again"
"""What sets of the draws `FURTHER` have behind their names."""
MIXED = "mix.real={1: 0, 10: 0.2, 50: 0.6}"
OTHERS = {
    "random": ("reef", "random"),
    "herding": ("reef", "herding"),
    "informed": ("ways", "noise"),
    "start real": ("ways", "real start"),
}
"""Sets of this table that another of evaluation_tables.py has, at IPC 10 and 50 at least."""


def sets(work: Path, tiny: bool = False) -> Table:
    """All ways to choose, but for what `OTHERS` have."""
    teacher = f"teacher={work / 'teacher.safetensors'}"
    seeds, ipc = (SEEDS[:2], 2) if tiny else (SEEDS, 50)
    network = ("student=convnet-3", "width=32", "size=32", DTYPE, "seeds=1")
    student = (*network, teacher, *REGIMES)
    epochs = {1: 2, 2: 2} if tiny else {1: 300, 10: 300, 50: 60}
    runs = tuple((*student, f"ipc={n}", f"epochs={of}") for n, of in epochs.items())
    few = ("reef-few", *(("pipeline.steps=4",) if tiny else ()))

    def one(name: str, *settings: str, largest: int = ipc) -> Set:
        some = tuple(run for run, n in zip(runs, epochs, strict=True) if n <= largest)
        return Set(name, (*few, "uninformed=false", f"ipc={largest}", *settings), some, draws=seeds)

    best = ("reef-best", DTYPE, *few[1:])
    small = 2 if tiny else 10
    hard = (*network, "protocol=hard", *REGIMES[1:], f"ipc=1,{small}", f"epochs={epochs[small]}")
    further = FURTHER[:2] if tiny else FURTHER

    def mixed(name: str, made: str, seed: int, ipc: int, *some: tuple[str, ...]) -> Set:
        of = f"mix.made={work / made / f'seed-{seed}'}"
        chosen = ("photos", "data=reef", "method=mix", of, MIXED, "size=64", f"ipc={ipc}", f"seed={seed}")
        return Set(f"{name} {seed}", chosen, some)

    return Table(
        "reef-test",
        (
            one("uninformed", "informing.enabled=false"),
            one("informed", largest=1),
            one("start real", "pipeline.start=real", largest=1),
            one("best of 4", JUDGE, DTYPE),
            one("coverage", "select={kind: coverage, of: 4}", DTYPE),
            Set("reef-best", (*best, f"ipc={ipc}"), runs, draws=seeds),
            *(mixed("mix", "reef-best", seed, ipc, *runs) for seed in seeds),
            Set(f"reef-best{AGAIN}", (*best, f"ipc={small}"), (hard,), draws=further),
            *(mixed(f"mix{AGAIN}", f"reef-best{AGAIN}", seed, small, hard) for seed in further),
            Set(f"random{AGAIN}", ("reef", "method=random", f"ipc={small}"), (hard,), draws=further),
        ),
        ("reef", "student=convnet-3", "width=32", "size=32", f"epochs={2 if tiny else 20}", "batch=100", DTYPE),
        not_run=("the closed loop of concepts: refine_reef.py", "custom-best: it wants a GPU"),
    )


def merged(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The draws of `mix`, which were made one by one, as those of one set."""
    joined: dict[str, list[Any]] = {}
    for name, rows in found.items():
        joined.setdefault(of_draws(name), []).extend(rows)
    return joined


def of_draws(name: str) -> str:
    """The name of the set that a draw of its own is of: mix, of "mix 6000"."""
    head, _, last = name.rpartition(" ")
    return head if name.startswith("mix ") and last.isdigit() else name


def table(record: dict[str, Any]) -> list[str]:
    """A row a set, a column an IPC and a regime; behind them what was measured of its images at the largest IPC."""
    keys = sorted({where(cell) for cells in record["sets"].values() for cell in cells}, key=lambda key: key[1])
    columns = [(protocol, ipc) for ipc, _ in groupby(keys, lambda key: key[1]) for protocol in LABELS]
    shown = {"mean": "completeness", "complete": "complete", "foreign": "foreign", "nuisance_diversity": "diversity"}
    heads = [*(f"IPC {ipc}, {LABELS[protocol]}" for protocol, ipc in columns), *shown.values()]
    lines = [["set", *heads]]
    for name, cells in record["sets"].items():
        row = [name]
        for protocol, ipc in columns:
            row.append(spread(values_of(cells, protocol, ipc)))
        measured = record.get("measured", {}).get(name, [])
        row += [f"{mean(one[key] for one in measured):.3f}" if measured and key in measured[0] else "" for key in shown]
        lines.append(row)
    return markdown(lines)


def aims(record: dict[str, Any]) -> Iterator[str]:
    """What `reef-best` was to reach, and whether it does."""
    measured = record.get("measured", {}).get("reef-best", [])
    for key, aim, better in (("mean", 0.97, 1), ("complete", 0.90, 1), ("foreign", 0.03, -1)):
        if measured:
            value = mean(one[key] for one in measured)
            yield f"reef-best, {key}: {value:.3f}, aim {aim}: {_met((value - aim) * better >= 0)}"
    if measured and record.get("real_diversity"):
        share = mean(one["nuisance_diversity"] for one in measured) / record["real_diversity"]
        yield f"reef-best, nuisance diversity: {share:.3f} of real, aim 0.9: {_met(share >= 0.9)}"
    cells = record["sets"]
    pairs = [(f"{name}{of}", f"random{of}") for of in ("", AGAIN) for name in ("reef-best", "mix")]
    largest = max((cell["ipc"] for cell in cells.get("reef-best", [])), default=0)
    for ours, real in pairs:
        for ipc in sorted({cell["ipc"] for cell in cells.get(ours, [])}):
            a, b = (values_of(cells.get(name, []), "hard", ipc) for name in (real, ours))
            if min(len(a), len(b)) < 2:
                continue
            gain = unpaired((mean(a), mean(b)), (stdev(a), stdev(b)), (len(a), len(b)))
            if gain is not None:
                met = gain.ci95[0] > 0 if ipc < largest else gain.ci95[1] >= 0
                wanted = "above random real" if ipc < largest else "not below random real"
                told = f"{gain.mean:+.1f} ({gain.ci95[0]:+.1f} to {gain.ci95[1]:+.1f})"
                yield f"{ours}, hard labels, IPC {ipc}, {wanted}: {told}: {_met(met)}"


def _met(met: bool) -> str:
    return "met" if met else "not met"


def facts(work: Path, of: Table) -> dict[str, Any]:
    """What results.json has beside `evaluation_tables.measures`: what an image cost, and how real ones vary."""
    cost: dict[str, list[dict[str, Any]]] = {}
    real: list[float] = []
    for one in of.sets:
        for place in one.places(work) if not one.part else ():
            path = place / "results.json"
            results = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
            keys = ("tflop_per_image", "guide", "judge", "selection")
            if results:
                cost.setdefault(one.name, []).append({key: results[key] for key in keys if key in results})
            real += [value] if (value := (results.get("nuisance_diversity") or {}).get("real")) else []
    return {"made_by": merged(cost)} | ({"real_diversity": mean(real)} if real else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where sets and teacher lie; out/evaluation/better if not given")
    parser.add_argument("--collect", action="store_true", help="record what is there, and make nothing")
    parser.add_argument("--sets", nargs="*", help="make these alone; recorded is all that is there")
    parser.add_argument("--tiny", action="store_true", help="a few steps of everything, to try the script")
    options = parser.parse_args()
    work = options.work or Path("out") / "evaluation" / ("better-tiny" if options.tiny else "better")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    chosen = sets(work, options.tiny)
    only = options.sets
    if only is not None:
        only = [one.name for one in chosen.sets if {one.name, of_draws(one.name)} & {*only}]
    found = measure(chosen, work, options.collect, only)
    path = (work if options.tiny else RESULTS) / "better_set.json"
    for key in ("sets", "measured"):
        found[key] = merged(found.get(key, {}))
    record = head("better_set.py", **with_before({**found, **facts(work, chosen)}, path))
    whole = record if options.tiny else with_others(record, OTHERS, IPC)
    record["aims"] = list(aims(whole))
    write(path, record, {str(work): "WORK"})
    print("\n".join([*table(whole), "", *record["aims"]]))


if __name__ == "__main__":
    main()
