"""Tune the fast mode on one block of seeds, and report it and the paper's mode on another.

    python benchmarks/reef_informing.py tune    # a grid on the tuning block; prints a table
    python benchmarks/reef_informing.py report  # the recipe as it is, at guidance 2 and 1, on the reporting block
    python benchmarks/reef_informing.py paper   # the paper's own setting on the reporting block

Each writes a JSON file into benchmarks/results/ with the machine, the seeds and the command. Seeds of the two blocks
are disjoint: a sample's seed is a hash of the recipe's seed, its class and its index. The models were trained once, so
intervals speak of sampling, not of training.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from concord.recipe import load
from concord.resources import cores, version
from concord.runs.execute import distill

TUNING, REPORTING = 1000, 3000
"""Values of the recipe's `seed` for the two blocks."""
RESULTS = Path(__file__).parent / "results"


def run(recipe: str, seed: int, ipc: int, *overrides: str) -> dict[str, Any]:
    """Distil one setting into a temporary directory and return its results.json."""
    settings = load(recipe, [f"seed={seed}", f"ipc={ipc}", *overrides])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        results = distill(settings, Path(folder) / "out")
    row = {"recipe": recipe, "seed": seed, "ipc": ipc, "overrides": list(overrides), "results": results}
    print(f"{recipe} {' '.join(overrides):<80} {_summary(results)}  {time.perf_counter() - start:.0f} s", flush=True)
    return row


def _summary(results: dict[str, Any]) -> str:
    completeness, spread = results["completeness"], results["nuisance_diversity"]
    texts = []
    for name in ("uninformed", "informed"):
        if name in completeness:
            c = completeness[name]
            texts.append(
                f"{name}: completeness {c['mean']:.3f}, complete {c['complete']:.2f}, foreign {c['foreign']:.2f},"
                f" diversity {spread[name]:.2f}, n {c['n']}"
            )
    if "gain" in completeness:
        low, high = completeness["gain"]["ci95"]
        texts.append(f"gain {completeness['gain']['mean']:+.3f} ({low:+.3f} to {high:+.3f})")
    return "; ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "report", "paper"])
    parser.add_argument("--ipc", type=int, help="images a class and setting (default: 4 to tune, 10 to report)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.what == "tune":
        ipc = options.ipc or 4
        rows.append(run("reef", TUNING, ipc, "informing.enabled=false"))
        for changes in (
            ("informing.strength=0.1", "informing.temperature=0.1", "informing.window=[0.0, 1.0]"),
            ("informing.strength=0.1", "informing.temperature=0.3", "informing.window=[0.0, 1.0]"),
            ("informing.strength=0.2", "informing.temperature=0.3", "informing.window=[0.2, 1.0]"),
            ("informing.strength=0.2", "informing.temperature=0.3", "informing.window=[0.3, 0.8]"),
            ("informing.strength=0.2", "informing.temperature=0.3", "informing.window=[0.4, 0.9]"),
        ):
            rows.append(run("reef", TUNING, ipc, "uninformed=false", *changes))
    elif options.what == "paper":
        rows.append(run("reef-paper", REPORTING, options.ipc or 10))
    else:
        ipc = options.ipc or 10
        rows.append(run("reef", REPORTING, ipc))
        rows.append(run("reef", REPORTING, ipc, "pipeline.guidance_scale=1.0"))
    RESULTS.mkdir(exist_ok=True)
    record = {
        "schema": 1,
        "command": f"python benchmarks/reef_informing.py {options.what}",
        "machine": f"{platform.system()} {platform.machine()}, {cores()} CPU cores",
        "concord": version(),
        "runs": rows,
    }
    (RESULTS / f"reef_informing_{options.what}.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    main()
