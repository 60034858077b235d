"""Eq. 2 to 5 and 7 against diffusers' schedulers, which were written by others."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from concord.diffusion import (
    Level,
    Prediction,
    add_noise,
    classifier_free,
    clean_estimate,
    clean_weight,
    ddim_step,
    ddpm_mean,
    ddpm_step,
    ddpm_variance,
    noise_loss,
    previous_level,
    step_beta,
)
from concord.errors import ConcordError


def ddpm(variance_type: str = "fixed_small", steps: int = 20) -> DDPMScheduler:
    scheduler = DDPMScheduler(clip_sample=False, variance_type=variance_type)
    scheduler.set_timesteps(steps)
    return scheduler


def draw(channels: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(seed))


def test_add_noise_is_eq_2() -> None:
    scheduler = ddpm()
    x0, eps = draw(seed=1), draw(seed=2)
    for t in (0, 400, 999):
        level = Level.from_scheduler(scheduler, t, 0)
        torch.testing.assert_close(add_noise(x0, eps, level), scheduler.add_noise(x0, eps, torch.tensor([t, t])))


def test_noise_loss_is_the_mean_square_of_each_image() -> None:
    a, b = draw(seed=1), draw(seed=2)
    expected = [float(((a[i] - b[i]) ** 2).mean()) for i in range(2)]
    assert noise_loss(a, b).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("index", [0, 10, 18, 19])
@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large", "learned_range"])
def test_mean_and_variance_are_those_that_ddpm_draws_with(index: int, kind: str) -> None:
    scheduler = ddpm(kind)
    t = scheduler.timesteps[index]
    level, previous = Level.from_scheduler(scheduler, t, index), previous_level(scheduler, t)
    x_t, eps, raw = draw(seed=1), draw(seed=2), draw(seed=3).tanh()
    output = torch.cat([eps, raw], dim=1) if kind == "learned_range" else eps
    expected = scheduler.step(output, t, x_t, generator=torch.Generator().manual_seed(5)).prev_sample
    z = torch.randn(eps.shape, generator=torch.Generator().manual_seed(5))
    mean = ddpm_mean(x_t, eps, level, previous)
    variance = ddpm_variance(level, previous, kind, raw)
    drawn = mean if t == 0 else ddpm_step(mean, variance, z)  # the last step draws nothing
    torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4)


def test_the_mean_moves_by_the_clean_weight() -> None:
    scheduler = ddpm()
    for index in (0, 7, 19):
        t = scheduler.timesteps[index]
        level, previous = Level.from_scheduler(scheduler, t, index), previous_level(scheduler, t)
        x_t, eps, dx0 = (draw(seed=s).double() for s in (1, 2, 3))
        moved = ddpm_mean(x_t, eps - level.alpha / level.sigma * dx0, level, previous)
        move = moved - ddpm_mean(x_t, eps, level, previous)
        torch.testing.assert_close(move, clean_weight(level, previous) * dx0)


def test_eq_9_under_ddpm_is_not_eq_6() -> None:
    """FACTS: d_eps = lambda sigma g moves the mean by lambda beta / sqrt(alpha_t) g, not by lambda Sigma g."""
    scheduler = ddpm(steps=50)
    t = scheduler.timesteps[-2]
    level, previous = Level.from_scheduler(scheduler, t, 48), previous_level(scheduler, t)
    x_t, eps, g = (draw(seed=s).double() for s in (1, 2, 3))
    beta = step_beta(level, previous)
    move = ddpm_mean(x_t, eps, level, previous) - ddpm_mean(x_t, eps + level.sigma * g, level, previous)
    torch.testing.assert_close(move, beta / math.sqrt(1 - beta) * g)
    assert beta / math.sqrt(1 - beta) > 10 * ddpm_variance(level, previous)


def test_ddim_step_is_eq_7() -> None:
    scheduler = DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(20)
    x_t, eps = draw(seed=1), draw(seed=2)
    t, following = scheduler.timesteps[5], scheduler.timesteps[6]
    level, previous = (Level.from_scheduler(scheduler, s, 0) for s in (t, following))
    x0 = clean_estimate(Prediction(eps), x_t, level)
    expected = scheduler.step(eps, t, x_t).prev_sample
    torch.testing.assert_close(ddim_step(x0, eps, previous), expected, rtol=1e-4, atol=1e-4)


def test_a_learned_variance_needs_a_network_that_learned_it() -> None:
    with pytest.raises(ConcordError, match="predicts none"):
        ddpm_variance(Level(0.6, 0.8), Level(0.8, 0.6), "learned_range")
    with pytest.raises(ConcordError, match="unknown variance type"):
        ddpm_variance(Level(0.6, 0.8), Level(0.8, 0.6), "small")


def test_guidance_knows_both_batch_orders_and_how_many_channels() -> None:
    cond, uncond = draw(seed=1), draw(seed=2)
    expected = uncond + 3.0 * (cond - uncond)
    assert torch.equal(classifier_free(torch.cat([cond, uncond]), 3.0, "cond_uncond"), expected)
    assert torch.equal(classifier_free(torch.cat([uncond, cond]), 3.0, "uncond_cond"), expected)
    three = classifier_free(torch.cat([cond, uncond]), 3.0, "cond_uncond", channels=3)
    assert torch.equal(three[:, :3], expected[:, :3])
    assert torch.equal(three[:, 3:], cond[:, 3:])
