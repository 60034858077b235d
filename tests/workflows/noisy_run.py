"""A finished run of noise, informed and not, and all that is measured of one: reef's models see something in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concord.metrics.measure_run import Engine, Kept, Measuring
from concord.models.cache import ModelCache
from concord.recipe import Recipe, validate
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data

KEPT = Kept(
    True,
    [
        ["a spiky dorsal fin", "dark spots on the flanks"],
        ["dark bars across the body"],
        ["an orange snout", "a deeply forked tail", "a white belly"],
    ],
)


def noisy_run(folder: Path, scorer: Mapping[str, Any]) -> Recipe:
    """Leave photographs and a run of three classes there; return its recipe."""
    rng = np.random.default_rng(0)
    for name in ("coral perch", "river perch", "meadow goby"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(25):
            coarse = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
            coarse.resize((40, 40 + i % 2), Image.Resampling.BICUBIC).save(folder / "photos" / name / f"{i:02d}.png")
    for seed, place, variant in ((0, "run", "images"), (1, "other", "uninformed")):
        chosen = {"method": "random", "data": str(folder / "photos"), "ipc": 4, "seed": seed, "size": 32}
        distill(validate(chosen), folder / place)
        (folder / place / "images").rename(folder / "run" / variant)
    values = {"method": "dit", "data": str(folder / "photos"), "ipc": 4, "uninformed": True, "device": "cpu"}
    values |= {"encoder": "reef:clip", "concepts": {"bank": "reef"}, "pipeline": {"model": "reef:pipeline"}}
    values |= {"teacher": "reef:teacher", "nuisance": "reef:nuisance", "scorer": scorer, "threads": 1}
    return validate(values)


def measuring(recipe: Recipe, out: Path, engine: Engine | None = None) -> Measuring:
    data = open_recipe_data(recipe)
    return Measuring(recipe, data, out, ("images", "uninformed"), ModelCache(recipe), KEPT, engine)


def left(recipe: Recipe, out: Path, engine: Engine | None = None) -> dict[str, Any]:
    """What measuring returns, and the bytes of what it leaves beside."""
    for name in (files := ("details.json", "near_copies.json", "embeddings.npz")):
        (out / name).unlink(missing_ok=True)
    return {**measuring(recipe, out, engine).results(), **{name: (out / name).read_bytes() for name in files}}
