"""Sets of reef whose samplings begin from noise, from real images, or are real images: completeness and accuracy.

    python benchmarks/start_real.py --out out/start

Each is made and evaluated by the command line, three draws (`seed=0,1,2`) of the largest IPC, of which the smaller are
prefixes. Killed, the same command goes on where it was: `concord` keeps what is there. The teacher of soft labels
is reef's own. Writes benchmarks/results/start_real.json: mean and standard deviation over draws and students.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, head, write

SETS = {
    "noise": ["reef", "uninformed=false"],
    "real-start": ["reef", "uninformed=false", "pipeline.start=real"],
    "real-start-uninformed": ["reef", "uninformed=false", "pipeline.start=real", "informing.enabled=false"],
    "real": ["reef", "method=random"],
}
"""By name: the recipe and what is set over it."""


def concord(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "concord.cli", *arguments], check=True)


def completeness(draws: list[Path]) -> dict[str, float]:
    """The mean over draws of what results.json has of the images; empty of real ones, which are not rated."""
    found = [json.loads((draw / "results.json").read_text(encoding="utf-8")) for draw in draws]
    rated = [sets.get("informed") or sets["uninformed"] for r in found if (sets := r.get("completeness"))]
    shown = ("mean", "complete", "foreign")
    return {key: round(float(np.mean([one[key] for one in rated])), 4) for key in shown if rated}


def accuracies(draws: list[Path]) -> list[dict[str, Any]]:
    """A row for each protocol and IPC: top-1 of the last epoch in per cent, over draws and seeds."""
    values: dict[tuple[str, int], list[float]] = {}
    for draw in draws:
        for cell in json.loads((draw / "evaluation.json").read_text(encoding="utf-8"))["cells"]:
            values.setdefault((cell["protocol"], cell["ipc"]), []).append(cell["top1"]["last"]["mean"])
    return [
        {"protocol": p, "ipc": n, "top1": round(float(np.mean(v)), 2), "std": round(float(np.std(v, ddof=1)), 2)}
        for (p, n), v in sorted(values.items())
        if len(v) > 1
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/start"))
    parser.add_argument("--ipc", default="10,50,100")
    parser.add_argument("--draws", default="0,1,2")
    parser.add_argument("--protocols", default="hard,fixed,rded")
    parser.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    parser.add_argument("evaluation", nargs="*", help="key=value of concord evaluate, as in epochs=300")
    given = parser.parse_args()
    largest, seeds = max(map(int, given.ipc.split(","))), given.draws.split(",")
    settings = [f"protocol={given.protocols}", f"ipc={given.ipc}", "student=convnet-3", "size=64", *given.evaluation]
    rows = {}
    for name in given.sets:
        recipe, *changes = SETS[name]
        out = given.out / name
        concord("distill", recipe, *changes, f"ipc={largest}", f"seed={given.draws}", "--out", str(out))
        concord("evaluate", str(out), "--test", "reef-test", "teacher=reef:teacher", *settings)
        draws = [out / f"seed-{seed}" for seed in seeds] if len(seeds) > 1 else [out]
        rows[name] = {"completeness": completeness(draws), "top1": accuracies(draws)}
        write(RESULTS / "start_real.json", head(draws=seeds, evaluation=settings, sets=rows))


if __name__ == "__main__":
    main()
