"""Eq. 6, Eq. 9 and the fast shift, as the paper writes them, on numbers of float64 and without a guide or a model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from concord.diffusion import Level
from concord.guidance import exact_shift, fast_shift, mean_shift

ABAR, ABAR_BEFORE = 0.31, 0.47
LEVEL, BEFORE = (Level(math.sqrt(a), math.sqrt(1 - a)) for a in (ABAR, ABAR_BEFORE))


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def eq_8(x_t: Tensor, eps: Tensor) -> Tensor:
    return x_t / math.sqrt(ABAR) - math.sqrt(1 - ABAR) / math.sqrt(ABAR) * eps


def test_exact_is_eq_9_of_a_linear_denoiser_by_autograd_and_by_hand() -> None:
    """eps = x W, O = |x0 - y|^2 / 2: its gradient by x_t is (x0 - y) (I - sigma W)^T / alpha."""
    x, y, w, weight = draw(0, 3, 1, 1, 6), draw(1, 3, 1, 1, 6), draw(2, 6, 6), 0.7
    x_t = x.clone().requires_grad_()
    x0 = eq_8(x_t, x_t @ w)
    (g,) = torch.autograd.grad((x0 - y).square().sum() / 2, x_t)
    jacobian = torch.eye(6, dtype=torch.float64) - math.sqrt(1 - ABAR) * w
    torch.testing.assert_close(g, (x0 - y).detach() @ jacobian.T / math.sqrt(ABAR))

    eps_hat = x @ w + weight * math.sqrt(1 - ABAR) * g  # downhill: O is a loss
    torch.testing.assert_close(exact_shift(g, LEVEL, weight), eq_8(x, eps_hat) - eq_8(x, x @ w))
    x0 = x0.detach()
    moved = x0 + exact_shift(g, LEVEL, 1e-3)
    assert float((moved - y).square().sum()) < float((x0 - y).square().sum())


def test_exact_in_sigma_space_is_the_same_shift() -> None:
    """x_t / alpha at Level(1, sigma / alpha) has alpha times the gradient."""
    g = draw(0, 2, 4, 3, 3)
    sigma_space = Level(1.0, LEVEL.sigma / LEVEL.alpha)
    torch.testing.assert_close(exact_shift(LEVEL.alpha * g, sigma_space, 0.7), exact_shift(g, LEVEL, 0.7))


@pytest.mark.parametrize("spread", [False, True])
def test_mean_is_eq_6_by_the_posterior_mean(spread: bool) -> None:
    """DDPM's mean as a mix of x0 and x_t (Ho et al. 2020, Eq. 7) moves by -lambda Sigma_t g."""
    x_t, x0, g, weight = draw(0, 2, 4, 3, 3), draw(1, 2, 4, 3, 3), draw(2, 2, 4, 3, 3), 0.7
    alpha_t = ABAR / ABAR_BEFORE
    variance = draw(3, 2, 4, 3, 3).square() if spread else (1 - alpha_t) * (1 - ABAR_BEFORE) / (1 - ABAR)

    def mean(x0: Tensor) -> Tensor:
        mixed = math.sqrt(ABAR_BEFORE) * (1 - alpha_t) * x0 + math.sqrt(alpha_t) * (1 - ABAR_BEFORE) * x_t
        return mixed / (1 - ABAR)

    moved = mean(x0 + mean_shift(g, LEVEL, BEFORE, variance, weight))
    torch.testing.assert_close(moved - mean(x0), -weight * variance * g)


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_fast_moves_the_noise_by_strength_whatever_the_gradients_size(scale: float) -> None:
    g, eps = draw(0, 3, 4, 3, 3), 2 * draw(1, 3, 4, 3, 3)
    d_eps = -math.sqrt(ABAR) / math.sqrt(1 - ABAR) * fast_shift(scale * g, eps, LEVEL, 0.2)
    for i in range(3):
        assert float(d_eps[i].norm()) == pytest.approx(0.2 * math.sqrt(1 - ABAR) * float(eps[i].norm()))
        assert float((d_eps[i] * g[i]).sum()) == pytest.approx(float(d_eps[i].norm() * g[i].norm()))


def test_fast_takes_its_size_from_the_normalised_level() -> None:
    """Flow levels (alpha + sigma = 1) and sigma space say the same of one signal-to-noise ratio."""
    g, eps = draw(0, 2, 4, 3, 3), draw(1, 2, 4, 3, 3)
    ratio = LEVEL.sigma / LEVEL.alpha
    for level in (Level(1.0, ratio), Level(1 / (1 + ratio), ratio / (1 + ratio))):
        torch.testing.assert_close(fast_shift(g, eps, level), fast_shift(g, eps, LEVEL))


def test_no_gradient_and_no_image_are_no_shift() -> None:
    zero, g = torch.zeros(2, 4, 3, 3, dtype=torch.float64), draw(0, 2, 4, 3, 3)
    assert torch.equal(fast_shift(zero, g, LEVEL), zero)
    noise_alone = Level(0.0, 1.0)
    assert torch.equal(exact_shift(g, noise_alone), zero)
    assert torch.equal(fast_shift(g, g, noise_alone), zero)
