r"""What Minimax's two terms give on reef: coverage and accuracy beside the plain fine-tune, over three seeds.

    python benchmarks/minimax_reef.py --work out/minimax-reef    # hours on two cores; resumes
    python benchmarks/minimax_reef.py --work out/few --few --uninformed --images 40 --epochs 2 --ema 0.99 --ipc 30 \
        --students 1    # as recorded, a quarter of an hour of a core

For each seed reef's generator is tuned with the published weights of both terms, and with both 0: the same images in
the same order, the same noise. Each makes a set, uninformed and informed, of the same seeds (--few: in twelve steps,
and students see 32 px). Coverage is the share of real test images in whose neighbourhood (k = 5) a made one lies, in
the space before the last layer of a teacher like the students; in that of `reef:teacher` made images are apart from
real ones. Accuracy is that of students with labels fixed by the teacher. The difference of a row is that to the plain
fine-tune of the same seed, with its mean and standard deviation over seeds, whatever its sign.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from record import RESULTS, fast_dtype, head, write

SEEDS = (0, 1, 2)
DTYPE = f"dtype={fast_dtype()}"
TERMS = {"plain": ["representativeness=0", "diversity=0"], "minimax": []}


def concord(*texts: str) -> None:
    subprocess.run([sys.executable, "-m", "concord.cli", *texts, "--quiet"], check=True)


def measured(name: str, seed: int, informed: bool, options: argparse.Namespace) -> dict[str, float]:
    """Coverage in [0, 1] and accuracy in percent of one set, made and trained on where that is not done yet."""
    model, kind = options.work / f"{name}-{seed}", "informed" if informed else "uninformed"
    tuned = [f"epochs={options.epochs}", f"images={options.images}", f"ema={options.ema}", f"seed={seed}", "threads=1"]
    concord("finetune", "reef", "--out", str(model), "model=reef:pipeline", *tuned, *TERMS[name])
    made = options.work / f"{name}-{seed}-{kind}"
    texts = [
        f"pipeline.checkpoints={{{model}: all}}",
        f"ipc={options.ipc}",
        f"seed={7000 + seed}",
        "uninformed=false",
        DTYPE,
    ]
    recipe = ["reef-few", "method=minimax"] if options.few else ["reef-minimax"]
    concord("distill", *recipe, *texts, f"informing.enabled={str(informed).lower()}", "--out", str(made))
    network = ["student=convnet-3", "width=32", DTYPE, *(["size=32"] * options.few)]
    teacher = options.work / "teacher.safetensors"
    if not teacher.is_file():
        concord("teacher", "reef", *network, "epochs=20", "batch=100", "--out", str(teacher))
    ways = ["protocol=fixed", f"teacher={teacher}", *network, f"seeds={options.students}"]
    concord("evaluate", str(made), "--test", "reef-test", *ways)
    record = json.loads((made / "evaluation.json").read_text(encoding="utf-8"))
    return {
        "coverage": float(record["coverage"]["all"]["coverage"]),
        "accuracy": float(record["cells"][0]["top1"]["last"]["mean"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where models and sets lie")
    parser.add_argument("--images", type=int, default=200, help="real images of a species")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--ema", type=float, default=0.999, help="decay: 2,000 steps, where the published have 12,000")
    parser.add_argument("--ipc", type=int, default=50)
    parser.add_argument("--students", type=int, default=3)
    parser.add_argument("--few", action="store_true", help="in few steps, and at half the size")
    parser.add_argument("--uninformed", action="store_true", help="leave the informed sets out")
    parser.add_argument("--out", type=Path, default=RESULTS / "minimax_reef.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for seed in SEEDS:
        for informed in (False,) if options.uninformed else (False, True):
            for name in TERMS:
                figures = measured(name, seed, informed, options)
                rows.append({"terms": name, "informed": informed, "seed": seed, **figures})
                print(rows[-1], flush=True)
                settings = {key: getattr(options, key) for key in ("images", "epochs", "ema", "ipc", "students", "few")}
                write(options.out, head(**settings, rows=rows, difference=differences(rows)))


def differences(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Minimax minus plain of the same seed: mean and standard deviation over the seeds that have both."""
    found = []
    for informed in (False, True):
        of = {(row["terms"], row["seed"]): row for row in rows if row["informed"] is informed}
        seeds = [seed for seed in SEEDS if ("plain", seed) in of and ("minimax", seed) in of]
        for key in ("coverage", "accuracy") if seeds else ():
            each = [of["minimax", seed][key] - of["plain", seed][key] for seed in seeds]
            spread = statistics.stdev(each) if len(each) > 1 else None
            found.append({"of": key, "informed": informed, "mean": statistics.fmean(each), "std": spread})
    return found


if __name__ == "__main__":
    main()
