"""The closed loop on reef: how often the pairs that it refines are mixed up, before and after, on images it never saw.

    python benchmarks/refine_reef.py --work out/refine    # half an hour of a core; resumes

Of each draw a set at IPC 10 in twelve steps; `concord refine` finds the three pairs of species that students with hard
labels mix up most on reef's training images, and makes the set again at the same seeds. Two ways: `offline` begins from
the bank `reef` and chooses among its phrases; `asked` begins from phrases that describe a species but do not tell it
from others (`reef-descriptive`), and asks a language model, in whose place a server answers with the species' true
details. Pairs are the most mixed up of the students that found them, so that chance alone lowers their share later:
what is reported are other students (seeds of their own), on the test images. A difference is that of the same draw:
the interval is Student's t over draws, of the mean over its pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from evaluation_tables import DTYPE, concord
from record import RESULTS, head, write

from concord.concepts.refine import shares
from concord.metrics.statistics import paired
from concord.reef.text import PHRASES
from concord.reef.world import SPECIES

SERVER = Path(__file__).parent.parent / "tests" / "concepts" / "server.py"
WAYS = {"offline": "reef", "asked": "reef-descriptive"}
"""The bank that each way begins from."""
SEEDS = (6100, 6101, 6102)
PAIRS = 3
STUDENT = (
    "student=convnet-3",
    "width=32",
    "size=32",
    DTYPE,
    "epochs=300",
    "protocol=hard",
    "ipc=10",
    "judge=rded",
    "resize_first=false",
)
FOUND, REPORTED = "seeds=0,1", "seeds=500,501"
"""Students that find the pairs, and those that are reported."""


@contextmanager
def truth(work: Path) -> Iterator[str]:
    """A language model that knows each species' own details, and parts that tell nothing; its address."""
    classes = {}
    for one in SPECIES:
        empty = [f"{part} like no other fish" for part in ("gills", "lips", "scales", "throat", "cheeks")]
        said = {"look_alikes": [], "phrases": [PHRASES[detail] for detail in one.details] + empty}
        classes[one.name] = [f"text:{json.dumps(said)}"]
    (work / "plan.json").write_text(json.dumps({"classes": classes}), encoding="utf-8")
    command = [sys.executable, str(SERVER), str(work / "plan.json"), str(work / "log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    finally:
        process.kill()
        process.wait()


def confusion(place: Path) -> tuple[np.ndarray, list[str], float]:
    """Of the students of an evaluation: test images by true and given class, (K, K); the classes; top-1 in percent."""
    record = json.loads((place / "evaluation.json").read_text(encoding="utf-8"))
    found = np.sum([cell["confusion"] for cell in record["cells"]], axis=0)
    return found, record["classes"], 100 * float(np.trace(found) / found.sum())


def refined(way: str, seed: int, address: str, work: Path, log: list[str]) -> dict[str, Any]:
    """One draw by one way: what its pairs were and became, made where that is not done yet."""
    made, bank = work / f"{way}-{seed}", work / f"{way}-{seed}.json"
    again = work / f"{way}-{seed}-again"
    few = ("reef-few", "uninformed=false", "ipc=10", DTYPE, f"seed={seed}", f"concepts.bank={WAYS[way]}")
    concord(["distill", *few, "--out", str(made), "--quiet"], log, work)
    asked = ["--model", "truth", "--base-url", address] if way == "asked" else []
    loop = ["refine", str(made), "--out", str(bank), *STUDENT, FOUND, "--pairs", str(PAIRS), *asked]
    done = bank.with_name(f"{bank.stem}-refined.json")
    concord([*loop, "--again", str(again), "--quiet"], log, work, done.is_file())
    for place in (made, again):
        others = [*STUDENT, REPORTED, "--test", "reef-test"]
        concord(["evaluate", str(place), *others, "--quiet"], log, work)
    record = json.loads(done.read_text(encoding="utf-8"))
    (before, classes, first), (after, _, second) = map(confusion, (made, again))
    pairs = []
    for one in record["pairs"]:
        a, b = (classes.index(name) for name in one["classes"])
        shown = [round(float(shares(counts)[a, b]), 5) for counts in (before, after)]
        pairs.append({**one, "test": shown, "phrases": {name: phrases(record, name) for name in one["classes"]}})
    return {"way": way, "seed": seed, "pairs": pairs, "top1": [round(first, 2), round(second, 2)]}


def phrases(record: dict[str, Any], name: str) -> list[str]:
    return [one["phrase"] for one in record["phrases"][name]]


def differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """After less before of each way, over its draws: of the share of the refined pairs, and of all classes' top-1."""
    found = []
    for way in WAYS:
        own = [row for row in rows if row["way"] == way]
        measured = {
            "share of the pairs mixed up": [np.mean([one["test"] for one in row["pairs"]], axis=0) for row in own],
            "top-1, percent": [np.array(row["top1"]) for row in own],
        }
        for key, values in measured.items():
            gain = paired(*np.array(values).T) if len(own) > 1 else None
            if gain is not None:
                mean = [round(float(one), 4) for one in np.mean(values, axis=0)]
                bounds = [round(float(one), 4) for one in gain.ci95]
                found.append({"way": way, "of": key, "mean": mean, "difference": round(gain.mean, 4), "ci95": bounds})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where sets and banks lie")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    log: list[str] = []
    with truth(options.work) as address:
        for seed in SEEDS:
            for way in WAYS:
                rows.append(refined(way, seed, address, options.work, log))
                record = head("refine_reef.py", commands=log, rows=rows, difference=differences(rows))
                write(RESULTS / "refine_reef.json", record, {str(options.work): "WORK", address: "SERVER"})
    for one in record["difference"]:
        print(f"{one['way']}, {one['of']}: {one['mean'][0]} to {one['mean'][1]}, {one['difference']:+} {one['ci95']}")


if __name__ == "__main__":
    main()
