"""What each way to inform costs and gives on reef: settings tuned on one block of seeds, reported on another.

    python benchmarks/informing_pareto.py tune             # every setting of the grid, 100 pairs each, block 5000
    python benchmarks/informing_pareto.py tune exact-w1 .. # some of them
    python benchmarks/informing_pareto.py report exact-w1 fast  # 1,000 pairs each, block 6000, and against the first

A setting is one of the grid, or overrides of `concord distill reef` joined by "+", with short names for steps, solver,
inner, views, push, strength, guidance (its window), window, every and between:
    python benchmarks/informing_pareto.py tune "steps=10+push=0.7+inner=2+window=[0.5,1]+solver=dpm++"
It is compared with uninformed images of its own sampling: the same steps, solver and guidance.

A setting is a set of overrides of `concord distill reef`. Its images lie in out/pareto/BLOCK/SETTING, so that a call
that was cut off goes on where it stopped; all settings of a block share their seeds with its uninformed images. Seeds
of two blocks are disjoint: a sample's seed is a hash of the recipe's seed, its class and its index. The models were
trained once, so intervals (95 %, bootstrap over samples) speak of sampling, not of training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from informing_cost import EVALUATIONS, Count, clip_l, dit_xl, sd21_unclip
from record import RESULTS, head, write

from concord.metrics.completeness import completeness, nuisance_diversity, teacher_accuracy
from concord.metrics.measure_run import Pictures
from concord.metrics.scorers import Detector, Vocabulary
from concord.models.classifier import Classifier
from concord.models.hub import model_path
from concord.models.teachers import load_teacher
from concord.recipe import Recipe, load
from concord.runs.directory import open_run
from concord.text import file_name
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data

TUNING, REPORTING = 5000, 6000
"""Values of the recipe's `seed` for the two blocks."""
SCRATCH = Path("out/pareto")
MAKE = ("uninformed=false", "scorer.kind=none", "teacher=null", "nuisance=null", "threads=1")
"""Images alone: they are scored here, against the images of another run."""


BASE = (
    *("informing.mode=fast", "informing.weight=1.0", "informing.strength=0.2", "informing.temperature=0.3"),
    *("informing.window=[0.4, 0.9]", "informing.every=1", "informing.between=none", "informing.decoder=tiny"),
    *("informing.decode_size=null", "informing.stop=null"),
)
"""What a setting's overrides start from, whatever the recipe says today."""


def _window(start: float, end: float) -> str:
    return f"informing.window=[{start}, {end}]"


WINDOWS = {"full": _window(0.0, 1.0), "late": _window(0.4, 0.9), "half": _window(0.5, 1.0)}
LATE, TINY, S04 = WINDOWS["late"], "informing.decoder=tiny", "informing.strength=0.4"
EXACT = ("informing.mode=exact", "informing.decoder=full", "informing.strength=0.1")  # the default: it is of fast
EVERY2 = ("informing.every=2",)
HOLD2, HOLD3, HOLD5 = ((f"informing.every={k}", "informing.between=hold") for k in (2, 3, 5))
GUIDANCE1 = "-guidance1"
SETTINGS: dict[str, tuple[str, ...]] = {
    "uninformed": ("informing.enabled=false",),
    # The exact mode, over windows and weights in steps of three until images break (weights of 1 do little anywhere).
    **{
        f"exact-{window}-w{weight}": (*EXACT, f"informing.weight={weight}", WINDOWS[window])
        for window, weights in {"full": (10, 30, 100), "late": (10, 30, 100, 300), "half": (30, 100, 300)}.items()
        for weight in weights
    },
    # The fast mode, over windows, strengths and how many gradients there are.
    **{
        f"fast-{window}{suffix}-s{strength}": (TINY, *gradients, f"informing.strength={strength}", WINDOWS[window])
        for window, suffix, gradients, strengths in (
            ("late", "", (), (0.2, 0.4)),
            ("late", "-every2", EVERY2, (0.4,)),
            ("late", "-hold2", HOLD2, (0.2, 0.4, 0.6, 0.8, 1.2)),
            ("late", "-hold3", HOLD3, (0.4, 0.6, 0.8)),
            ("late", "-hold5", HOLD5, (0.4,)),
            ("late", "-extrapolate2", (*EVERY2, "informing.between=extrapolate"), (0.4,)),
            ("half", "-hold2", HOLD2, (0.4, 0.6, 0.8)),
            ("half", "-hold3", HOLD3, (0.6, 0.8)),
        )
        for strength in strengths
    },
    # Other levers, each beside fast-late-hold2-s0.4.
    "fast-late-hold2-s0.4-full-decoder": (*HOLD2, S04, LATE, "informing.decoder=full"),
    "fast-late-hold2-s0.4-decode32": (TINY, *HOLD2, S04, LATE, "informing.decode_size=32"),
    **{f"fast-late-hold2-s0.4-stop{q}": (TINY, *HOLD2, S04, LATE, f"informing.stop={q}") for q in (0.01, 0.1)},
    # The paper's own setting; and the fast mode where the model alone is weaker, beside its own uninformed images.
    "paper": (*EXACT, "informing.weight=1.0", "informing.temperature=null", WINDOWS["full"]),
    f"uninformed{GUIDANCE1}": ("informing.enabled=false", "pipeline.guidance_scale=1.0"),
    f"fast-half-hold3-s0.6{GUIDANCE1}": (
        *(TINY, *HOLD3, "informing.strength=0.6", WINDOWS["half"]),
        "pipeline.guidance_scale=1.0",
    ),
    "fast-0.6-0.9-hold2-s0.4": (TINY, *HOLD2, S04, _window(0.6, 0.9)),
    "fast-0.5-0.9-hold2-s0.6": (TINY, *HOLD2, "informing.strength=0.6", _window(0.5, 0.9)),
}


SHORT = {
    **{name: f"pipeline.{name}" for name in ("steps", "scheduler_options", "guidance_scale")},
    **{name: f"informing.{name}" for name in ("strength", "push", "inner", "views", "window", "every", "between")},
    **{"solver": "pipeline.scheduler", "guidance": "pipeline.guidance.window", "encoder": "encoder"},
}


def overrides(name: str) -> tuple[str, ...]:
    """A setting of the grid, or what its name spells out."""
    if name in SETTINGS:
        return SETTINGS[name]
    pairs = [part.split("=", 1) for part in name.replace("dpm++", "dpm@@").split("+") if "=" in part]
    return tuple(f"{SHORT.get(key, key)}={value.replace('@@', '++')}" for key, value in pairs)


def plain(name: str) -> str:
    """The setting of the uninformed images beside: the same sampling."""
    if name in SETTINGS:
        return "uninformed" + (GUIDANCE1 if name.endswith(GUIDANCE1) else "")
    return "+".join(["informing.enabled=false", *(one for one in overrides(name) if one.startswith("pipeline."))])


def recipe(name: str, block: int, ipc: int, workers: int) -> Recipe:
    own = overrides(name)
    base = [
        one for one in BASE if not (one.startswith("informing.strength") and any("informing.push" in o for o in own))
    ]
    return load("reef", [f"seed={block}", f"ipc={ipc}", f"workers={workers}", *MAKE, *base, *own])


def make(name: str, block: int, ipc: int, workers: int) -> tuple[Pictures, dict[str, Any]]:
    """The images of a setting, made or read back, and their cost."""
    out = SCRATCH / str(block) / file_name(name)
    cost_file = out / "cost.json"
    results = distill(recipe(name, block, ipc, workers), out)
    if results["made"]:
        keys = ("made", "seconds_per_image", "uninformed_steps", "active_share")
        cost_file.write_text(json.dumps({key: results[key] for key in keys if key in results}))
    return pictures(out), json.loads(cost_file.read_text())


def pictures(out: Path, variant: str = "images") -> Pictures:
    """A set of a run."""
    samples = open_run(out).samples(variant)
    return Pictures([sample.image for sample in samples], np.array([sample.label for sample in samples]))


class Judge:
    """The reef recipe's detector, teacher and regressor: none of them knows the CLIP that informs."""

    def __init__(self) -> None:
        full = load("reef")
        data = open_recipe_data(full)
        names = [entry.class_name for entry in data.classes]
        known = data.known_details or {}
        details = [list(known[entry.key]) for entry in data.classes]
        self.vocabulary = Vocabulary.of(names, details, shared=True)
        models = (str(full.scorer.model), str(full.nuisance))
        detector, self.reader = (Classifier.from_pretrained(model_path(m)) for m in models)
        self.teacher = load_teacher(str(full.teacher), data.classes)
        self.detector = Detector(detector)

    def compare(self, after: Pictures, before: Pictures) -> dict[str, Any]:
        """Figures of a set and its gains over another of the same seeds."""
        sets = {"informed": after, "uninformed": before}
        return {
            "completeness": completeness(self.detector, self.vocabulary, sets),
            "teacher_accuracy": teacher_accuracy(self.teacher, sets),
            "nuisance_diversity": nuisance_diversity(self.reader, sets),
        }


def operations(rows: dict[str, Any]) -> None:
    """Add to every row what its setting costs at real size, in operations over the uninformed ones."""
    with torch.device("meta"):
        encoder, models = clip_l(), (dit_xl(), sd21_unclip())
    for model in models:
        count = Count(model, encoder)
        for name, row in rows.items():
            full = recipe(name, TUNING, 1, 1)
            sampling = (
                full.pipeline.steps * EVALUATIONS.get(full.pipeline.scheduler, 1),
                full.pipeline.guidance.window,
            )
            setting = full.informing if full.informing.enabled else None
            total = count.sampling(setting, row["cost"].get("active_share", 1.0), *sampling)
            row.setdefault("operations", {})[model.name] = round(total / count.sampling(None), 3)  # of 50 steps


def _line(name: str, scores: dict[str, Any], cost: dict[str, Any]) -> str:
    c, d, t = scores["completeness"], scores["nuisance_diversity"], scores["teacher_accuracy"]
    low, high = c["gain"]["ci95"]
    f_low, f_high = c["gain_foreign"]["ci95"]
    d_low, d_high = d["gain"]["ci95"]
    one = c["informed"]
    return (
        f"{name:<28} completeness {one['mean']:.3f} gain {c['gain']['mean']:+.3f} ({low:+.3f} to {high:+.3f})"
        f" complete {one['complete']:.2f} foreign {one['foreign']:.3f} {c['gain_foreign']['mean']:+.3f}"
        f" ({f_low:+.3f} to {f_high:+.3f}) teacher {t['informed']:.2f} diversity {d['informed']:.3f}"
        f" {d['gain']['mean']:+.3f} ({d_low:+.3f} to {d_high:+.3f}) n {one['n']} {cost['seconds_per_image']:.2f} s"
        + (f" active {cost['active_share']:.2f}" if "active_share" in cost else "")
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tune", "report"])
    parser.add_argument("settings", nargs="*", metavar="SETTING", help="of the grid; all of it where none is given")
    parser.add_argument("--ipc", type=int, help="images a class and setting (default: 10 to tune, 100 to report)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block", type=int, help="another block of seeds (default: 5000 to tune, 6000 to report)")
    options = parser.parse_intermixed_args()
    block = options.block or (TUNING if options.what == "tune" else REPORTING)
    ipc = options.ipc or (10 if options.what == "tune" else 100)
    judge = Judge()
    apart = f"_block{block}" if options.block else ""
    path = RESULTS / f"informing_pareto_{options.what}{apart}.json"
    command = f"informing_pareto.py {options.what}" + (f" --block {block}" if options.block else "")
    record = json.loads(path.read_text()) if path.exists() else {}
    record |= head(command, f"{options.workers} workers", seed=block, ipc=ipc)
    rows = {name: row for name, row in record.get("settings", {}).items() if name in SETTINGS or "=" in name}
    record["settings"] = rows
    first: Pictures | None = None
    for name in options.settings or [name for name in SETTINGS if not name.startswith("uninformed")]:
        beside = plain(name)
        before, cost = make(beside, block, ipc, options.workers)
        rows[beside] = {"cost": cost}
        images, cost = make(name, block, ipc, options.workers)
        scores = judge.compare(images, before)
        row = {"overrides": list(overrides(name)), "cost": cost, "against_uninformed": scores}
        if options.what == "report" and first is not None:
            row["against_first"] = judge.compare(images, first)
        first = first or images
        rows[name] = row
        print(_line(name, scores, cost), flush=True)
        write(path, record)
    operations(rows)
    write(path, record)


if __name__ == "__main__":
    main()
