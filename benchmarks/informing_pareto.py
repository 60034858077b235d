"""What each way to inform costs and gives on reef: settings tuned on one block of seeds, reported on another.

    python benchmarks/informing_pareto.py tune                  # every setting of the grid, 200 pairs each, block 5000
    python benchmarks/informing_pareto.py tune "steps=10+push=0.7+inner=2+window=[0.5,1]+solver=dpm++"
    python benchmarks/informing_pareto.py report "steps=10+push=0.7" --fifty   # 1,000 pairs, block 6000
    python benchmarks/informing_pareto.py show report           # the record as a table, without making anything

A setting is overrides of `concord distill reef` joined by "+", with short names for steps, solver, inner, views, push,
strength, guidance (its window), window, every and between; beside them stands the recipe itself, but for `every` and
`between`, which are 1 and none unless they are given. It is compared with uninformed images of its own sampling (the
same steps, solver and guidance), and with --fifty also of the recipe's own 50 steps.

Images are made by the recipe's method in this process, in batches of 40 and in bfloat16 where the processor has it.
They lie in out/pareto, so that a call that was cut off goes on with the next setting. Seeds of two blocks are disjoint:
a sample's seed is a hash of the recipe's seed, its class and its index. The models were trained once, so intervals
(95 %, bootstrap over samples) speak of sampling, not of training.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from informing_cost import EVALUATIONS, Count, clip_l, dit_xl, sd21_unclip
from PIL import Image
from record import RESULTS, fast_dtype, head, write
from reef_judges import Judge, as_set

from concord.methods import build
from concord.metrics.measure_run import Pictures
from concord.plan import batches
from concord.recipe import Recipe, load
from concord.text import file_name
from concord.workflows.executors import open_recipe_data

BLOCKS = {"tune": (5000, 20), "report": (6000, 100)}
"""Value of the recipe's `seed`, and images a class."""
SCRATCH = Path("out/pareto")
BATCH = 40
MAKE = (f"dtype={fast_dtype()}", "threads=1", f"batch_size={BATCH}", "uninformed=false")
BASE = ("informing.every=1", "informing.between=none")
PLAIN = "uninformed"
FIFTY = f"{PLAIN}+pipeline.steps=50"
"""The recipe's own sampling without concepts."""
SETTINGS = [
    f"steps={steps}+push={push}{inner}"
    for steps in (4, 6, 8, 10, 12, 20)
    for push in (0.5, 0.7, 0.9)
    for inner in ("", "+inner=2")
]
"""What `tune` tries where nothing is named."""
SHORT = {
    **{name: f"pipeline.{name}" for name in ("steps", "scheduler_options", "guidance_scale")},
    **{name: f"informing.{name}" for name in ("strength", "push", "inner", "views", "window", "every", "between")},
    **{"solver": "pipeline.scheduler", "guidance": "pipeline.guidance.window", "encoder": "encoder"},
}


def overrides(name: str) -> tuple[str, ...]:
    """What a setting's name spells out."""
    pairs = [part.split("=", 1) for part in name.replace("dpm++", "dpm@@").split("+") if "=" in part]
    return tuple(f"{SHORT.get(key, key)}={value.replace('@@', '++')}" for key, value in pairs)


def plain(name: str) -> str:
    """The setting of the uninformed images beside: the same sampling."""
    own = [one for one in overrides(name) if one.startswith("pipeline.")]
    return "+".join([PLAIN, *own])


def recipe(name: str, block: int, ipc: int) -> Recipe:
    informing = ("informing.enabled=false",) if name.startswith(PLAIN) else BASE
    return load("reef", [f"seed={block}", f"ipc={ipc}", *MAKE, *informing, *overrides(name)])


def make(name: str, block: int, ipc: int) -> tuple[Pictures, dict[str, Any]]:
    """The images of a setting, made or read back, with their cost."""
    file = SCRATCH / str(block) / str(ipc) / f"{file_name(name)}.npz"
    if not file.is_file():
        full = recipe(name, block, ipc)
        data = open_recipe_data(full)
        method = build(full, data)
        plan = list(batches(method.sample, [ipc] * len(data.classes), BATCH))
        pixels, labels, scores, start = [], [], [], time.perf_counter()
        for batch in plan:
            for sample, made in zip(batch.samples, method.make(batch.samples, "images"), strict=True):
                pixels.append(np.asarray(made.image))
                labels.append(sample.class_index)
                scores.append(made.scores)
        cost: dict[str, Any] = {"made": len(pixels), "dtype": full.dtype}
        cost["seconds_per_image"] = round((time.perf_counter() - start) / len(pixels), 4)
        if shares := [score["active_share"] for score in scores if "active_share" in score]:
            cost["active_share"] = round(float(np.mean(shares)), 4)
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(file, pixels=np.stack(pixels), labels=np.array(labels), cost=json.dumps(cost))
    with np.load(file) as kept:
        images = [Image.fromarray(one) for one in kept["pixels"]]
        return as_set(images, kept["labels"]), json.loads(str(kept["cost"]))


def operations(rows: dict[str, Any]) -> None:
    """Add to every row what its setting costs at real size, in operations over 50 uninformed steps."""
    with torch.device("meta"):
        encoder, models = clip_l(), (dit_xl(), sd21_unclip())
    for model in models:
        count = Count(model, encoder)
        for name, row in rows.items():
            full = recipe(name, 0, 1)
            evaluations = full.pipeline.steps * EVALUATIONS.get(full.pipeline.scheduler, 1)
            setting = full.informing if full.informing.enabled else None
            share = row["cost"].get("active_share", 1.0)
            total = count.sampling(setting, share, evaluations, full.pipeline.guidance.window)
            row.setdefault("operations", {})[model.name] = round(total / count.sampling(None), 3)


def _ends(gain: dict[str, Any]) -> tuple[float, float]:
    """A gain's interval; of too few pairs to have one, nan."""
    low, high = gain["ci95"] or (np.nan, np.nan)
    return low, high


def line(name: str, row: dict[str, Any]) -> str:
    """A setting's figures in one line; gains over uninformed images of its own sampling."""
    scores = row["against_own_uninformed"]
    c, d, t, o = (scores[key] for key in ("completeness", "nuisance_diversity", "teacher_accuracy", "other_encoder"))
    low, high, d_low, d_high = (*_ends(c["gain"]), *_ends(d["gain"]))
    cost = row.get("operations", {})
    return (
        f"{name:<44} completeness {c['informed']['mean']:.3f} {c['gain']['mean']:+.3f} ({low:+.3f} to {high:+.3f})"
        f" complete {c['informed']['complete']:.2f} foreign {c['informed']['foreign']:.3f}"
        f" other encoder {o['informed']:.3f} {o['gain']['mean']:+.3f} teacher {t['informed']:.3f}"
        f" diversity {d['informed']:.3f} {d['gain']['mean']:+.3f} ({d_low:+.3f} to {d_high:+.3f})"
        f" n {c['informed']['n']}" + "".join(f" {model} x {ratio:.2f}" for model, ratio in cost.items())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*BLOCKS, "show"])
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="the grid where none is given")
    parser.add_argument("--ipc", type=int, help="images a class and setting (default: 20 to tune, 100 to report)")
    parser.add_argument("--fifty", action="store_true", help="compare with the recipe's own 50 steps, too")
    options = parser.parse_intermixed_args()
    if options.what == "show":
        record = json.loads((RESULTS / f"informing_pareto_{options.settings[0]}.json").read_text())
        for name, row in record["settings"].items():
            print(line(name, row))
        return
    torch.set_num_threads(1)
    block, ipc = BLOCKS[options.what]
    ipc = options.ipc or ipc
    path = RESULTS / f"informing_pareto_{options.what}.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    rows: dict[str, Any] = record.get("settings", {})
    judge = Judge()
    for name in options.settings or SETTINGS:
        before, _ = make(plain(name), block, ipc)
        images, cost = make(name, block, ipc)
        rows[name] = {"overrides": list(overrides(name)), "ipc": ipc, "cost": cost}
        rows[name]["against_own_uninformed"] = judge.compare(images, before)
        if options.fifty:
            rows[name]["against_50_uninformed"] = judge.compare(images, make(FIFTY, block, ipc)[0])
        operations({name: rows[name]})
        print(line(name, rows[name]), flush=True)
        write(path, head(f"informing_pareto.py {options.what}", "1 thread", seed=block, settings=rows))


if __name__ == "__main__":
    main()
