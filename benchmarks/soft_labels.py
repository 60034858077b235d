"""What stored soft labels cost in accuracy and take in bytes, against the teacher online, on reef.

    python benchmarks/soft_labels.py

Reef's random real images, IPC 10, RDED's protocol, ConvNet-3 of width 32 at 32 px. A store's views are its
own seed's, so that each of the seeds has a store, whole float32 labels must give the online accuracies exactly, and the
difference of smaller ones is paired by seed. Writes benchmarks/results/soft_labels.json.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, head, write

from concord.evaluation.evaluate import evaluate
from concord.evaluation.label import label, read_label_settings
from concord.evaluation.settings import read_settings
from concord.metrics.statistics import paired, summary
from concord.recipe import load
from concord.workflows.distill import distill

FORMS = {
    "float32": [],
    "float16": ["bits=float16"],
    "uint8": ["bits=uint8"],
    "top-5 float16": ["top_k=5", "bits=float16"],
    "top-5 uint8": ["top_k=5", "bits=uint8"],
    "top-2 float16": ["top_k=2", "bits=float16"],
}


def measure(work: Path, seeds: int, texts: list[str], forms: list[str]) -> list[dict[str, Any]]:
    """Train online and from each form of the store; a row each, the online one first."""
    made = work / "random"
    distill(load("reef", ["method=random", "ipc=10", "uninformed=false"]), made)

    def accuracies(name: str, more: list[list[str]]) -> list[float]:
        values = []
        for seed, extra in enumerate(more):
            settings, ways = read_settings([*texts, *extra, f"seeds=[{seed}]", "workers=1"])
            record = evaluate(made, "reef-test", settings, ways, work / f"{name}-{seed}.json")
            values += record["cells"][0]["top1"]["last"]["values"]
        return values

    online = accuracies("online", [["teacher=reef:teacher"]] * seeds)
    rows: list[dict[str, Any]] = [{"labels": "online", "top1": summary(online)}]
    for name in forms:
        form = FORMS[name]
        stores, sizes = [], []
        for seed in range(seeds):
            store = work / f"{name}-{seed}".replace(" ", "-")
            cell, how = read_label_settings([*texts, *form, "teacher=reef:teacher", f"seeds=[{seed}]"])
            sizes.append(label(made, store, cell, how)["bytes"])
            stores.append([f"soft_labels={store}"])
        values = accuracies(name.replace(" ", "-"), stores)
        change = paired(online, values)
        cost = None if change is None else {"mean": change.mean, "ci95": change.ci95, "p": change.p}
        rows.append({"labels": name, "bytes": sizes[0], "top1": summary(values), "less_online": cost})
        print(f"{name:<14} {sizes[0] / 1e6:6.2f} MB  {summary(values)['mean']:.2f} %", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    options = parser.parse_args()
    texts = ["student=convnet-3", f"width={options.width}", "size=32", "dtype=bfloat16", f"epochs={options.epochs}"]
    with tempfile.TemporaryDirectory() as work:
        rows = measure(Path(work), options.seeds, texts, options.forms)
    protocol = "rded, " + " ".join(texts)
    record = head(set="reef, random real images, IPC 10", protocol=protocol, rows=rows)
    write(RESULTS / "soft_labels.json", record)


if __name__ == "__main__":
    main()
