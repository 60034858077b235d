"""What makes informing cheap: held directions, early stops, small decodes. Each must be what it says, and save it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from worlds import World, step_at

import tiny
from concord.diffusion import noise_estimate, sample
from concord.diffusion.decoding import shrunk
from concord.errors import ConcordError
from concord.guidance import ConceptGuide
from concord.recipe import validate

LATE = {"strength": 0.3, "window": (0.2, 1.0)}


def rms(x: Tensor) -> Tensor:
    return x.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()


def d_eps(guide: ConceptGuide, world: World, x: Tensor, index: int) -> Tensor:
    """The guide's shift of the noise at a step, in units of strength * sigma * rms(eps): its direction."""
    step = step_at(world, x, graph=False, index=index)
    dx0 = guide(step)
    assert dx0 is not None
    level = step.level
    eps = noise_estimate(step.prediction, x, level)
    return -(level.alpha / level.sigma) * dx0 / (guide.strength * level.sigma * rms(eps))


def test_a_held_step_serves_the_last_direction_at_this_steps_size() -> None:
    world = World(3)
    guide = world.guide(strength=0.3, every=3, between="hold")
    first = d_eps(guide, world, world.x_T, 0)
    other = torch.randn(world.x_T.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(d_eps(guide, world, 2 * other, 1), first)
    torch.testing.assert_close(rms(first), torch.ones(3, 1, 1, 1, dtype=torch.float64))
    assert not torch.allclose(d_eps(guide, world, 2 * other, 3), first)  # its own gradient again
    assert guide.gradient_steps.tolist() == [2, 2, 2]


def test_an_extrapolated_step_goes_on_along_the_line_of_two_directions() -> None:
    world = World(2)
    guide = world.guide(strength=0.3, every=2, between="extrapolate")
    other = torch.randn(world.x_T.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    a = d_eps(guide, world, world.x_T, 0)
    torch.testing.assert_close(d_eps(guide, world, other, 1), a)  # one direction makes no line yet
    b = d_eps(guide, world, other, 2)
    line = b + (b - a) / 2  # one step further; the two were two steps apart
    torch.testing.assert_close(d_eps(guide, world, other, 3), line / rms(line))


def test_a_second_sampling_starts_without_the_first_ones_directions() -> None:
    """A pipeline called twice inside one `inform`."""
    world = World(2)
    x = torch.randn(world.x_T.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    fresh, used = (world.guide(strength=0.3, every=2, between="extrapolate") for _ in range(2))
    for index in (0, 2, 4):
        d_eps(used, world, world.x_T, index)
    for index in (0, 1, 2, 3):
        torch.testing.assert_close(d_eps(used, world, x, index), d_eps(fresh, world, x, index))
    late = world.guide(strength=0.3, every=2, between="hold")
    d_eps(late, world, world.x_T, 4)
    assert late(step_at(world, x, graph=False, index=1)) is None  # image to image may begin between two gradients


def test_networks_run_at_gradient_steps_alone() -> None:
    world, seen = World(2, torch.float32), []

    def decode(x: Tensor) -> Tensor:
        seen.append(len(x))
        return world.model.decode(x)

    options: dict[str, Any] = {"window": (0.4, 0.9), "every": 2, "between": "hold"}
    guide = ConceptGuide(world.objectives, decode, world.encoder, **options)
    sample(world.model.denoise(world.labels, 1.0), world.x_T, tiny.scheduler(), steps=10, guides=[guide])
    assert [i for i in range(10) if guide.active(i, 10)] == [4, 5, 6, 7, 8]
    assert [i for i in range(10) if guide.takes_gradient(i, 10)] == [4, 6, 8]
    assert seen == [2, 2, 2]


@pytest.mark.parametrize("between", ["none", "hold"])
def test_an_image_that_is_good_enough_is_left_alone_and_the_others_are_as_without(between: Any) -> None:
    """Image 1 may stop at once; images 0 and 2 never do: they must come out as if nobody stopped."""
    world, seen = World(3), []

    def decode(x: Tensor) -> Tensor:
        seen.append(len(x))
        return world.model.decode(x)

    def run(guide: ConceptGuide | None) -> Tensor:
        guides = [guide] if guide else []
        return sample(world.model.denoise(world.labels, 1.0), world.x_T, tiny.scheduler(), steps=10, guides=guides)

    thresholds = torch.tensor([-1e9, 1e9, -1e9], dtype=torch.float64)
    options: dict[str, Any] = LATE | {"every": 2, "between": between}
    stopping = ConceptGuide(world.objectives, decode, world.encoder, thresholds=thresholds, **options)
    stopped, all_the_way = run(stopping), run(world.guide(**options))
    torch.testing.assert_close(stopped[[0, 2]], all_the_way[[0, 2]])
    torch.testing.assert_close(stopped[1], run(None)[1])
    assert not torch.allclose(all_the_way[1], stopped[1])
    assert seen == [3, 2, 2, 2], "a stopped image went through the decoder again"
    assert stopping.gradient_steps.tolist() == [4, 1, 4]
    assert stopping.uninformed_steps.tolist() == [0, 0, 0]


def test_nothing_runs_once_all_are_good_enough() -> None:
    world = World(2)
    guide = world.guide(thresholds=torch.full((2,), 1e9), **LATE)
    sample(world.model.denoise(world.labels, 1.0), world.x_T, tiny.scheduler(), steps=10, guides=[guide])
    assert guide.gradient_steps.tolist() == [1, 1]


def test_shrunk_latents_keep_aspect_and_mean_and_carry_gradients() -> None:
    pipe = tiny.pipeline()  # two pixels a latent
    flat = torch.full((1, 4, 8, 12), 0.3, dtype=torch.float64)
    assert shrunk(pipe, flat, 7).shape == (1, 4, 4, 6)  # 7 pixels need 4 latents
    torch.testing.assert_close(shrunk(pipe, flat, 8), torch.full((1, 4, 4, 6), 0.3, dtype=torch.float64))
    for side in (None, 16, 99):
        assert shrunk(pipe, flat, side) is flat  # never enlarged
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: shrunk(pipe, v, 6), (x,))
    # Antialiased: the finest pattern, one latent up and one down, must fade rather than turn into a coarse one.
    stripes = torch.tensor([1.0, -1.0]).repeat(8).expand(1, 4, 16, 16)
    assert float(shrunk(pipe, stripes, 10).abs().max()) < 0.35
    assert float(F.interpolate(stripes, (5, 5), mode="bilinear").abs().max()) > 0.7


@pytest.mark.parametrize("tiny_one", [False, True])
def test_a_small_decode_is_seen_by_the_encoder_and_gives_a_gradient_of_full_size(tiny_one: bool) -> None:
    world, sizes = World(2), []
    decode = world.model.tiny_decode if tiny_one else world.model.decode

    def small(x: Tensor) -> Tensor:
        images = decode(x, side=4)
        sizes.append(tuple(images.shape[-2:]))
        return images

    dx0 = ConceptGuide(world.objectives, small, world.encoder)(step_at(world, world.x_T, graph=False))
    assert dx0 is not None
    assert sizes == [(4, 4)]
    assert dx0.shape == world.x_T.shape
    assert float(dx0.abs().sum()) > 0


def test_an_unknown_way_between_is_refused() -> None:
    with pytest.raises(ConcordError, match=r'`informing\.between` is "twice"'):
        World(1).guide(between="twice")


def test_exact_holds_its_gradient_as_eq_9_scales_it() -> None:
    world = World(2)
    guide = world.guide(mode="exact", weight=0.7, every=2, between="hold")
    first = step_at(world, world.x_T, graph=True, index=0, t=600)
    held = step_at(world, 0.5 * world.x_T, graph=True, index=1, t=300)
    a, b = guide(first), guide(held)
    assert a is not None
    assert b is not None
    gradients = [-dx0 / (0.7 * s.level.sigma**2 / s.level.alpha) for dx0, s in ((a, first), (b, held))]
    torch.testing.assert_close(gradients[0], gradients[1])
    assert guide.gradient_steps.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("informing", "message"),
    [
        ({"stop": 0.5, "classifier": "c", "objective": {"classifier": 1}}, "set objective.classifier to 0"),
        ({"stop": 1.5}, "stop"),
        ({"decode_size": 0}, "decode_size"),
    ],
)
def test_recipes_refuse_settings_that_mean_nothing(informing: dict[str, Any], message: str) -> None:
    with pytest.raises(ConcordError, match=message):
        validate({"data": "reef", "informing": informing})
