"""Guides that a recipe names: they act beside concepts or alone, on their variant only, and a batch stays whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_reef import reef_recipe, with_tiny

import tiny_pipelines
from concord.errors import ConcordError
from concord.methods.batch_sampler import BatchSampler
from concord.methods.diffusion import Generate
from concord.recipe import Recipe, identity
from concord.workflows.executors import open_recipe_data

CLASSES = ["coral perch", "river perch", "lagoon wrasse"]
REPULSION = [{"name": "repulsion", "strength": 0.5}]


def named(models: Path, **changes: Any) -> Recipe:
    """Batches of six from three classes, of which each has two."""
    values = {"classes": CLASSES, "batch_size": 6, "informing": {"enabled": False, "decoder": "full"}}
    return with_tiny(models, **(values | changes))


def made(recipe: Recipe, variant: str = "images", count: int = 6) -> np.ndarray:
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    batch = [method.sample(place % 3, place // 3) for place in range(count)]
    return np.stack([np.asarray(one.image).astype(int) for one in method.make(batch, variant)])


def test_a_recipes_guide_acts_and_without_it_every_byte_is_as_before(models: Path) -> None:
    plain, apart = named(models), named(models, guides=REPULSION)
    assert "guides" not in identity(plain)
    assert identity(apart)["guides"] == [{"name": "repulsion", "strength": 0.5, "window": [0.0, 1.0]}]
    before, after = made(plain), made(apart)
    for n in range(3):
        assert np.abs(after[n] - after[n + 3]).sum() > np.abs(before[n] - before[n + 3]).sum()
    assert np.array_equal(made(apart, "uninformed"), before)
    assert np.array_equal(made(apart, count=3), made(plain, count=3))  # each of its class alone
    beside = {"informing": {"decoder": "full"}}
    assert not np.array_equal(made(named(models, **beside, guides=REPULSION)), made(named(models, **beside)))


def test_batches_in_which_no_two_of_a_class_meet_are_refused(models: Path) -> None:
    for batch_size in (1, 3):
        recipe = named(models, guides=REPULSION, batch_size=batch_size)
        with pytest.raises(ConcordError, match=rf"batches of {batch_size} that go round 3 classes.*above 3"):
            Generate(recipe, open_recipe_data(recipe))
    recipe = named(models, guides=REPULSION, batch_size=4)
    Generate(recipe, open_recipe_data(recipe))


def test_a_batch_whose_images_are_compared_is_made_whole(
    models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = named(models, guides=REPULSION)
    assert np.array_equal(made(named(models, guides=REPULSION, memory={"batch": 2})), made(whole))

    def short(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(BatchSampler, "_make", short)
    with pytest.raises(ConcordError, match="does not suffice for a batch of 6 images at a time; set batch_size to"):
        made(whole)


def test_guides_towards_latents_act_and_add_up_with_informing(models: Path, photos: Path) -> None:
    """Modes, a real image and repulsion: each moves the images, and all of them beside informing."""
    values = {"data": str(photos), "informing": {"decoder": "full"}}
    modes, real = {"name": "modes", "modes": 2}, {"name": "prototype", "towards": "real", "weight": 0.5}
    sets = {name: made(named(models, **values, guides=guides)) for name, guides in {
        "informed": [], "modes": [modes], "real": [real], "all": [modes, real, *REPULSION],
    }.items()}  # fmt: skip
    names = list(sets)
    for a in names:
        for b in names[: names.index(a)]:
            assert not np.array_equal(sets[a], sets[b]), (a, b)
    recipe = named(models, **values, guides=[real])
    sample = Generate(recipe, open_recipe_data(recipe)).sample(0, 0)
    assert sample.source.startswith("coral perch/")
    assert not Generate(named(models, **values, guides=[modes]), open_recipe_data(recipe)).sample(0, 0).source


def test_a_pipeline_that_is_called_as_it_is_encodes_nothing(models: Path, photos: Path, tmp_path: Path) -> None:
    tiny_pipelines.pipeline("flux").save_config(tmp_path)
    pipeline = {"model": str(tmp_path), "scheduler": "stock"}
    recipe = reef_recipe(models, method="text", data=str(photos), pipeline=pipeline, guides=["modes"])
    with pytest.raises(ConcordError, match="own sampler runs"):
        Generate(recipe, open_recipe_data(recipe))
