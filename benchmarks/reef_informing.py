"""Tune the fast mode on one block of seeds, and report it and the paper's mode on another.

    python benchmarks/reef_informing.py tune    # a grid on the tuning block; prints a table
    python benchmarks/reef_informing.py report  # the recipes as they are, on the reporting block

Both write a JSON file into benchmarks/results/ with the machine, the seeds and the command. Seeds of the two blocks
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

TUNING, REPORTING = 1000, 2000
"""Values of the recipe's `seed` for the two blocks."""
RESULTS = Path(__file__).parent / "results"


def run(recipe: str, seed: int, ipc: int, *overrides: str) -> dict[str, Any]:
    """Distil one setting into a temporary directory and return its results.json."""
    settings = load(recipe, [f"seed={seed}", f"ipc={ipc}", *overrides])
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        results = distill(settings, Path(folder) / "out")
    row = {"recipe": recipe, "seed": seed, "ipc": ipc, "overrides": list(overrides), "results": results}
    before, after = results["completeness"]["uninformed"], results["completeness"]["informed"]
    gain, spread = results["completeness"]["gain"], results["nuisance_diversity"]
    low, high = gain["ci95"]
    columns = (
        f"{recipe} {' '.join(overrides):<60} n {after['n']:>3}",
        f"completeness {before['mean']:.3f} -> {after['mean']:.3f} ({gain['mean']:+.3f}, {low:+.3f} to {high:+.3f})",
        f"complete {before['complete']:.2f} -> {after['complete']:.2f}",
        f"foreign {before['foreign']:.2f} -> {after['foreign']:.2f}",
        f"diversity {spread['uninformed']:.2f} -> {spread['informed']:.2f}",
        f"{time.perf_counter() - start:.0f} s",
    )
    print("  ".join(columns), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "report"])
    parser.add_argument("--ipc", type=int, help="images a class and setting (default: 4 to tune, 50 to report)")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.what == "tune":
        for strength in (0.1, 0.2, 0.3):
            for temperature in (0.1, 0.3):
                changes = (f"informing.strength={strength}", f"informing.temperature={temperature}")
                rows.append(run("reef", TUNING, options.ipc or 4, *changes))
        rows.append(run("reef", TUNING, options.ipc or 4, "informing.window=[0.0, 0.5]"))
        rows.append(run("reef", TUNING, options.ipc or 4, "informing.every=2"))
    else:
        ipc = options.ipc or 50
        for guidance in (2.0, 1.0):
            rows.append(run("reef", REPORTING, ipc, f"pipeline.guidance_scale={guidance}"))
        rows.append(run("reef-paper", REPORTING, max(1, ipc // 5)))
    RESULTS.mkdir(exist_ok=True)
    record = {
        "schema": 1,
        "command": f"python benchmarks/reef_informing.py {options.what}",
        "machine": f"{platform.system()} {platform.machine()}, {cores()} CPU cores",
        "concord": version(),
        "runs": rows,
    }
    (RESULTS / f"reef_informing_{options.what}.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
