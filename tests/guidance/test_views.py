"""Gradients that do not flatter one encoder: over views of the image, and over several encoders."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import World, step_at

import tiny
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective, fast_shift, total
from concord.guidance.texts import text_objective
from concord.guidance.views import NOISE, SMALLEST, draws, view
from concord.methods.diffusion import Generate
from concord.models.encoder import Encoder
from concord.recipe import identity, load, models
from concord.workflows.executors import open_recipe_data

P, N = ["a cat with long fur"], ["a dog with short tail"]


def test_a_view_is_a_crop_at_its_place_under_faint_noise() -> None:
    """Of a ramp a crop is a ramp: share times the place, and the crop's middle more; but for the edge's half pixel."""
    size = 64
    ramp = ((torch.arange(size).double() + 0.5) * 2 / size - 1).expand(1, 3, size, size)
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        share, x, _ = torch.rand(3, generator=draw).tolist()
        share = SMALLEST + (1 - SMALLEST) * share
        noise = torch.randn(3, size, size, generator=draw)
        expected = share * ramp + (2 * x - 1) * (1 - share) + NOISE * noise
        seen = view(ramp, [torch.Generator().manual_seed(seed)])
        assert seen.shape == ramp.shape
        torch.testing.assert_close(seen[..., 1:-1], expected[..., 1:-1], rtol=0, atol=1e-6)
        assert float((share * ramp + (2 * x - 1) * (1 - share)).abs().max()) <= 1  # nothing from beyond the image


def test_views_of_an_image_are_its_own_and_differ_by_step_and_number() -> None:
    pixels = torch.rand(2, 3, 8, 8)
    together = view(pixels, draws([4, 7], 3, 0, 1))
    torch.testing.assert_close(together[1:], view(pixels[1:], draws([7], 3, 0, 1)))
    seen = {
        float(torch.rand(1, generator=draws([7], *place)[0])) for place in [(3, 0, 1), (3, 0, 2), (3, 1, 1), (4, 0, 1)]
    }
    assert len(seen) == 4


def test_a_gradient_over_views_is_the_gradient_of_their_mean_loss() -> None:
    world = World(2)
    guide = world.guide(views=3, seeds=[4, 7], strength=0.3)
    step = step_at(world, world.x_T, graph=False, index=5)
    x0 = step.x0.detach().requires_grad_()
    pixels = world.model.decode(x0)
    losses = [total(world.objectives, view(pixels, draws([4, 7], 5, 0, n)), world.encoder) for n in range(3)]
    (gradient,) = torch.autograd.grad(torch.stack(losses).mean(0).sum(), x0)
    expected = fast_shift(gradient, step.prediction.value, step.level, 0.3)
    torch.testing.assert_close(guide(step), expected)
    assert guide.gradient_calls == 1
    with pytest.raises(ConcordError, match=r"`informing\.views` is 0"):
        world.guide(views=0)


def test_an_image_that_is_left_alone_takes_no_others_views() -> None:
    """The images that go on are looked at as if all did."""
    world = World(3)
    far = torch.tensor([-1e9, 1e9, -1e9], dtype=torch.float64)
    whole, stopped = (world.guide(views=2, seeds=[1, 2, 3], **given) for given in ({}, {"thresholds": far}))
    for index in (0, 1):
        step = step_at(world, world.x_T, graph=False, index=index)
        a, b = whole(step), stopped(step)
        assert a is not None and b is not None
    torch.testing.assert_close(b[[0, 2]], a[[0, 2]])
    assert not b[1].any()


def test_several_encoders_descend_the_mean_of_their_losses_by_their_own_texts() -> None:
    world = World(1)
    torch.manual_seed(31)
    other = Encoder(tiny.siglip().double(), tiny.tokenizer(), world.encoder.preprocess)
    guide = ConceptGuide.for_texts(world.model, [world.encoder, other], positives=P, negatives=N)
    step = step_at(world, world.x_T, graph=False)
    x0 = step.x0.detach().requires_grad_()
    pixels = world.model.decode(x0)
    loss: Tensor = sum(text_objective(e, P, N).loss(e.images(pixels), pixels) for e in (world.encoder, other))  # type: ignore[assignment]
    (gradient,) = torch.autograd.grad(loss.sum() / 2, x0)
    torch.testing.assert_close(guide(step), fast_shift(gradient, step.prediction.value, step.level, 0.1))
    torch.testing.assert_close(guide.objective, loss.detach() / 2)


def test_each_encoder_sees_the_images_once() -> None:
    encoder, seen = tiny.encoder(), list[int]()
    images = encoder.images

    def counted(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return images(pixels)

    encoder.images = counted  # type: ignore[method-assign]
    one = Objective.class_name(encoder.texts(P))
    total([one, Objective(1.0, one.loss, encoder=encoder), one], torch.rand(1, 3, tiny.PIXELS, tiny.PIXELS), encoder)
    assert seen == [1]


def test_a_recipes_list_of_encoders_informs_by_all_and_measures_by_the_first() -> None:
    recipe = load("reef", ["encoder=[reef:clip, reef:other]"])
    assert (recipe.encoder, recipe.informing.encoders) == ("reef:clip", ["reef:other"])
    assert models(recipe)["encoder"] == "reef:clip" and models(recipe)["informing.encoders 1"] == "reef:other"
    assert identity(load("reef", ["encoder=[reef:clip]"])) == identity(load("reef"))
    with pytest.raises(ConcordError, match="stop: it rates by one encoder"):
        load("reef", ["encoder=[reef:clip, reef:other]", "informing.stop=0.1"])
    with pytest.raises(ConcordError, match=r"informing\.encoders: informing\.objective has no weight"):
        only = "informing.objective={contrastive: 0, classifier: 1}"
        load("reef", [only, "informing.classifier=reef:teacher", "informing.encoders=[a]"])


def test_the_same_encoder_twice_informs_as_once_and_views_do_not() -> None:
    few = [
        "pipeline.steps=2",
        "uninformed=false",
        "informing.every=1",
        "informing.between=none",
        "informing.window=[0,1]",
    ]
    few += ["informing.objective={contrastive: 0, class_name: 1}"]
    data = open_recipe_data(load("reef"))

    def image(*typed: str) -> Any:
        method = Generate(load("reef", [*few, *typed]), data)
        return torch.tensor(list(method.make([method.sample(0, 0)], "images")[0].image.tobytes())).int()

    once, twice, views = image(), image("encoder=[reef:clip, reef:clip]"), image("informing.views=2")
    assert int((once - twice).abs().max()) <= 1
    assert int((once - views).abs().max()) > 1
