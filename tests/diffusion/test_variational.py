"""The variational bound against the divergence of two Gaussians, computed in float64 from their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from concord.diffusion.variational import variational_bound

BETAS = np.linspace(1e-4, 2e-2, 1000)
ABAR = torch.from_numpy(np.cumprod(1 - BETAS))


def drawn(seed: int, batch: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(4)]


def posterior(x0: torch.Tensor, x_t: torch.Tensor, t: int) -> tuple[torch.Tensor, float]:
    """q(x_(t-1) | x_t, x0) by Bayes' rule: the product of N(x_(t-1); sqrt(abar') x0, 1 - abar') and the step's own."""
    before, alpha = float(ABAR[t - 1]), 1 - BETAS[t]
    precision = 1 / (1 - before) + alpha / BETAS[t]
    mean = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(alpha) * x_t / BETAS[t]) / precision
    return mean, 1 / precision


@pytest.mark.parametrize("t", [1, 2, 50, 500, 999])
def test_it_is_the_divergence_from_the_posterior(t: int) -> None:
    x0, noise, predicted, learned = drawn(t, 4)
    abar = float(ABAR[t])
    x_t = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise
    mean, variance = posterior(x0, x_t, t)
    estimate = (x_t - math.sqrt(1 - abar) * predicted) / math.sqrt(abar)
    own, _ = posterior(estimate, x_t, t)
    share = (learned + 1) / 2
    deviation = (share * math.log(BETAS[t]) + (1 - share) * math.log(variance)).exp().sqrt()
    expected = kl_divergence(Normal(mean, math.sqrt(variance)), Normal(own, deviation)).flatten(1).mean(1) / math.log(2)
    found = variational_bound(x0, x_t, predicted, learned, torch.full((4,), t), ABAR)
    assert torch.allclose(found, expected, rtol=1e-8)


def test_the_last_step_is_the_probability_of_a_bin() -> None:
    x0, noise, predicted, learned = drawn(3, 5)
    x0 = (x0 / 2).clone()
    x0[0, 0, 0, 0], x0[1, 0, 0, 0] = -2.0, 2.0  # beyond the outermost bins
    predicted = noise + predicted / 10
    abar = float(ABAR[0])
    x_t = math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise
    mean = ((x_t - math.sqrt(1 - abar) * predicted) / math.sqrt(abar)).numpy()
    small = BETAS[1] * (1 - abar) / (1 - float(ABAR[1]))  # the posterior variance of the step after
    share = (learned.numpy() + 1) / 2
    deviation = np.exp(0.5 * (share * math.log(BETAS[0]) + (1 - share) * math.log(small)))
    x = x0.numpy()
    low, high = np.where(x < -0.999, -np.inf, x - 1 / 255), np.where(x > 0.999, np.inf, x + 1 / 255)
    probability = norm.cdf(high, mean, deviation) - norm.cdf(low, mean, deviation)
    expected = -np.log(probability.clip(1e-12)).reshape(5, -1).mean(1) / math.log(2)
    found = variational_bound(x0, x_t, predicted, learned, torch.zeros(5, dtype=torch.long), ABAR)
    assert np.allclose(found.numpy(), expected, rtol=1e-6)


def test_it_trains_the_variance_alone() -> None:
    x0, noise, predicted, learned = drawn(5, 3)
    predicted.requires_grad_()
    learned.requires_grad_()
    t = torch.tensor([0, 10, 700])
    abar = ABAR[t].view(-1, 1, 1, 1)
    found = variational_bound(x0, abar.sqrt() * x0 + (1 - abar).sqrt() * noise, predicted, learned, t, ABAR)
    found.sum().backward()
    assert predicted.grad is None
    assert learned.grad is not None and torch.isfinite(learned.grad).all() and (learned.grad != 0).any()
