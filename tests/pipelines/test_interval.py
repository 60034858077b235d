"""Guidance within a window: outside it the prediction is the conditional one, and the other half is not computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LCMScheduler
from PIL import Image
from torch import Tensor

import tiny_pipelines
from concord.diffusion import Denoise, Prediction, generators, noise, sample
from concord.errors import ConcordError
from concord.pipelines.base import Family
from concord.pipelines.dit import DiT
from concord.pipelines.text import Text
from concord.pipelines.unclip import UnCLIP
from concord.recipe import identity, load
from concord.workflows.requirements import check_sampling

SEEDS, WINDOW = (5, 6), (0.25, 0.75)


def conditioned(name: str, model: Any, scale: float, window: tuple[float, float]) -> Denoise:
    if name == "dit":
        return model.denoise([1, 207], scale, window=window)  # type: ignore[no-any-return]
    if name == "unclip":
        pictures = [Image.new("RGB", (20, 10), (200, 30, 3)), Image.new("RGB", (9, 10), (2, 30, 200))]
        draws = generators(SEEDS)
        return model.denoise(["a", "b"], pictures, scale, generators=draws, window=window)  # type: ignore[no-any-return]
    return model.denoise(["a cat", "a dog"], scale, window)  # type: ignore[no-any-return]


def family(name: str) -> Family:
    pipe = tiny_pipelines.pipeline(name)
    return DiT(pipe) if name == "dit" else UnCLIP(pipe) if name == "unclip" else Text(pipe)


@pytest.mark.parametrize("name", ["dit", "unclip", "sd", "xl", "sd3", "pixart"])
def test_the_window_is_guided_and_the_rest_costs_half(name: str) -> None:
    """The reference: a loop that is given the guided denoiser inside the window and the unguided one outside."""
    model, passed = family(name), list[int]()
    guided, plain = (conditioned(name, model, scale, (0.0, 1.0)) for scale in (4.0, 1.0))
    scheduler = model.scheduler("stock")
    scheduler.set_timesteps(4)
    count = len(scheduler.timesteps)
    inside = [count * WINDOW[0] <= i < count * WINDOW[1] for i in range(count)]
    turns = iter(inside)

    def switched(x: Tensor, t: Any) -> Prediction:
        return (guided if next(turns) else plain)(x, t)

    def run(denoise: Denoise) -> Tensor:
        return sample(denoise, noise(SEEDS, model.latent_shape), scheduler, steps=4, generators=generators(SEEDS))

    with torch.no_grad():
        expected = run(switched)
        hook = model.denoiser.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
        ours = run(conditioned(name, model, 4.0, WINDOW))
        hook.remove()
        assert not torch.allclose(ours, run(conditioned(name, model, 4.0, (0.0, 1.0))), atol=1e-4)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0)
    assert passed == [4 if one else 2 for one in inside]


def test_a_number_is_a_scale_and_a_window_stands_beside_it(tmp_path: Path) -> None:
    assert identity(load("reef", ["pipeline.guidance=2"])) == identity(load("reef"))
    recipe = load("reef", ["pipeline.guidance={scale: 3, window: [0.2, 0.8]}"]).pipeline
    assert (recipe.guidance_scale, recipe.guidance.window) == (3, (0.2, 0.8))
    mine = tmp_path / "mine.yaml"
    mine.write_text("data: reef\nencoder: reef:clip\npipeline: {model: 'reef:pipeline', guidance: 3}\n")
    for typed, expected in {
        "pipeline.guidance.window=[0.2,0.8]": (3, (0.2, 0.8)),
        "pipeline.guidance_scale=2": (2, (0.0, 1.0)),
        "pipeline.guidance.scale=5": (5, (0.0, 1.0)),
    }.items():
        recipe = load(str(mine), [typed]).pipeline
        assert (recipe.guidance_scale, recipe.guidance.window) == expected


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("pipeline.guidance={scale: 1, window: [0, 0.5]}", "guidance.window: nothing is guided at 1"),
        ("pipeline.guidance={window: [0.5, 0.5]}", "guidance.window: expected start below end"),
        ("pipeline.guidance=-1", "pipeline.guidance_scale: expected"),
        ("pipeline.guidance={window: [0.51, 0.52]}", "[0.51, 0.52] of 10 steps leaves none"),
    ],
)
def test_a_window_that_cannot_act_is_refused(typed: str, said: str) -> None:
    with pytest.raises(ConcordError) as caught:
        check_sampling(load("reef", [typed, "informing.enabled=false", "pipeline.steps=10"]))
    assert said in str(caught.value)


def test_so_is_one_where_guidance_is_not_ours(tmp_path: Path) -> None:
    pipe = tiny_pipelines.pipeline("flux")
    pipe.save_config(tmp_path)
    pipe.scheduler.save_pretrained(tmp_path / "scheduler")
    given = ["data=/photos", "method=text", f"pipeline.model={tmp_path}", "concepts.bank=reef"]
    with pytest.raises(ConcordError, match=r"guidance\.window needs concord's own sampler, and a FluxPipeline"):
        check_sampling(load("photos", [*given, "pipeline.guidance={scale: 3, window: [0, 0.5]}"]))
    distilled = Text(tiny_pipelines.distilled(tiny_pipelines.FAMILIES["sd"], LCMScheduler))
    with pytest.raises(ConcordError, match="distilled to take its scale at every step"):
        distilled.denoise(["a cat"], 3.0, WINDOW)
