"""Rehearse the two models of the paper at their real size on this machine, with random weights, in one step.

    python benchmarks/rehearse.py                 # DiT-XL/2 at 256 pixels (exact), SD 2.1 unCLIP at 768 (fast)
    python benchmarks/rehearse.py dit-xl-2-256    # one of them; the other's figures in the record stay

Each is a process of its own, `concord rehearse RECIPE ... --json`, so that its memory is its own. Beside what it says
of itself the record has what the system says of the process: the largest memory that it held, and its processor
seconds. In bfloat16 where the processor computes in it, else in float32, on as many threads as there are cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from record import RESULTS, fast_dtype, head, write

from concord.system import cores

RECIPES = {
    "dit-xl-2-256": ["imagewoof-dit", "--images", "2"],
    "sd21-unclip-768": ["custom", "classes=[imagewoof]", "concepts.bank=imagewoof", "--images", "1"],
}


def rehearsed(name: str) -> dict[str, Any]:
    """The figures of one model, and what its process took."""
    recipe, *options = RECIPES[name]
    texts = ["device=cpu", f"dtype={fast_dtype()}", f"threads={cores()}", *options, "--steps", "1"]
    command = [sys.executable, "-m", "concord.cli", "rehearse", recipe, *texts, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: it ended with {os.waitstatus_to_exitcode(status)}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    own = {"process_memory_bytes": peak, "process_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1)}
    return {"command": " ".join(["concord", "rehearse", recipe, *texts]), **own, **json.loads(said)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[*RECIPES, []], help="only these")
    names = parser.parse_args().models or list(RECIPES)
    path = RESULTS / "rehearse.json"
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["models"] if path.is_file() else {}
    for name in names:
        known[name] = rehearsed(name)
        print(name, known[name]["process_memory_bytes"], "bytes,", known[name]["process_cpu_seconds"], "s of CPU")
        write(path, head("rehearse.py", models={one: known[one] for one in RECIPES if one in known}))


if __name__ == "__main__":
    main()
