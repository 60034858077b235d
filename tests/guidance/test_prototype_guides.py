"""Guides towards latents: their shift is the gradient that they claim, in MGD3's form under DDIM and under DDPM."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers import DDPMScheduler
from pydantic import ValidationError
from test_repulsion import LABELS
from worlds import World, step_at

import tiny
from concord.diffusion import Prediction, add_noise, clean_estimate, shift
from concord.diffusion.level import Level
from concord.errors import ConcordError
from concord.guidance import Modes, Prototype, Repulsion
from concord.registry import GUIDES


@pytest.fixture(scope="module")
def world() -> World:
    return World(3)


def targets() -> torch.Tensor:
    return torch.randn(3, *tiny.LATENT, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_prototype_guidance_descends_the_squared_distance(world: World) -> None:
    step, m = step_at(world, world.x_T, graph=False), targets()
    dx0 = Prototype(m, weight=0.3)(step)
    x = step.x0.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(0.3 * (x - m).square().sum() / 2, x)
    torch.testing.assert_close(dx0, -gradient)
    # The scheduler's clean estimate is then that part of the way nearer.
    assert dx0 is not None
    after = clean_estimate(shift(step.prediction, dx0, step.level), step.x_t, step.level)
    torch.testing.assert_close(after - m, 0.7 * (step.x0 - m))


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_under_ddpm_the_mean_moves_by_lambda_sigma_times_the_way_as_mgd3_has_it(world: World, variance: str) -> None:
    scheduler = DDPMScheduler.from_config(world.model.scheduler("ddpm").config, variance_type=variance)
    scheduler.set_timesteps(10)
    t, m = int(scheduler.timesteps[3]), targets()
    step = step_at(world, world.x_T, graph=False, scheduler=scheduler, t=t)
    assert step.prediction.variance is not None

    def drawn(prediction: Prediction, seed: int) -> torch.Tensor:
        assert prediction.variance is not None
        output = torch.cat([prediction.value, prediction.variance][: 2 if variance == "learned_range" else 1], 1)
        return scheduler.step(output, t, step.x_t, generator=torch.Generator().manual_seed(seed)).prev_sample

    dx0 = Modes(m, weight=0.1)(step)
    assert dx0 is not None
    moved = drawn(shift(step.prediction, dx0, step.level), 5) - drawn(step.prediction, 5)
    # The scheduler's own deviation: what two draws of noise make of the same mean.
    noises = [
        torch.randn(step.x_t.shape, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (1, 2)
    ]
    deviation = (drawn(step.prediction, 1) - drawn(step.prediction, 2)) / (noises[0] - noises[1])
    torch.testing.assert_close(moved, 0.1 * deviation * (m - step.x0), rtol=1e-4, atol=1e-6)


def test_modes_stop_after_half_of_the_steps_and_leave_pure_noise_alone(world: World) -> None:
    guide = Modes(targets())
    assert [index for index in range(50) if guide.active(index, 50)] == list(range(25))
    step = step_at(world, world.x_T, graph=False)
    torch.testing.assert_close(guide(step), 0.1 * (targets() - step.x0))  # DDIM
    assert guide(dataclasses.replace(step, level=Level(0.0, 1.0))) is None
    with pytest.raises(ConcordError, match="give one each"):
        Prototype(targets()[:2])(step)


def test_repulsion_ascends_the_conditional_rke_score() -> None:
    """With each image's own bandwidth held fixed: the direction of -log of a kernel matrix's squared Frobenius norm."""
    world = World(len(LABELS))
    step = step_at(world, world.x_T, graph=False)
    dx0 = Repulsion(LABELS)(step)
    assert dx0 is not None
    labels = torch.tensor(LABELS)
    same = (labels[:, None] == labels).double()
    for i in range(len(LABELS)):
        if same[i].sum() == 1:
            continue
        x = step.x0.flatten(1).clone().requires_grad_()
        square = (x[:, None] - x[None]).square().sum(-1)
        bandwidth = (square[i] * same[i]).sum().detach() / (same[i].sum() - 1)
        kernel = torch.exp(-square / (2 * bandwidth))
        rke = -torch.log(torch.linalg.matrix_norm(kernel * same / len(LABELS)) ** 2)
        (gradient,) = torch.autograd.grad(rke, x)
        cosine = torch.nn.functional.cosine_similarity(gradient[i], dx0[i].flatten(), dim=0)
        assert float(cosine) == pytest.approx(1)


def test_a_latent_under_noise_is_drawn_all_the_way_at_weight_one(world: World) -> None:
    """The estimate becomes the target whatever the noise."""
    m, level = targets(), Level.from_scheduler(tiny.scheduler(), 480, 0)
    step = step_at(world, add_noise(m * 0, world.x_T, level), graph=False)
    dx0 = Prototype(m, weight=1.0)(step)
    assert dx0 is not None
    torch.testing.assert_close(clean_estimate(shift(step.prediction, dx0, level), step.x_t, level), m)


def test_they_are_registered_with_mgd3s_defaults() -> None:
    assert GUIDES.get("modes").settings().model_dump() == {"modes": 10, "weight": 0.1, "window": (0.0, 0.5)}
    spec = GUIDES.get("prototype")
    assert [spec.takes_image(spec.settings(towards=word)) for word in ("mean", "real")] == [False, True]
    for wrong in ({"towards": "x"}, {"weight": -1}):
        with pytest.raises(ValidationError):
            spec.settings(**wrong)
