"""The three updates, as functions of tensors: from a loss's gradient to a shift of the clean estimate.

The paper writes Eq. 6 and 9 with a score O, but its Eq. 11 and 12 are losses. They are descended here, so that the
gradient enters with the opposite sign. `concord.diffusion.shift` carries a shift of x0 over to any prediction.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.level import Level, Scale, ratio
from concord.diffusion.process import clean_weight
from concord.diffusion.response import responses
from concord.errors import ConcordError


def exact_shift(gradient: Tensor, level: Level, weight: float = 1.0) -> Tensor:
    """Eq. 9, eps_hat = eps + lambda sqrt(1 - abar_t) g, as dx0 = -lambda (sigma^2 / alpha) g, (B, C, h, w).

    It holds in sigma space, too: x_t is larger by 1 / alpha there and its gradient smaller: sigma g is the same.

    gradient: (B, C, h, w) g, of the loss by x_t, through encoder, decoder and denoiser. level: of x_t. The shift is 0
    where alpha is 0. weight: the paper's lambda.
    """
    return -weight * ratio(level.sigma**2, level.alpha) * gradient


def mean_shift(gradient: Tensor, level: Level, previous: Level, variance: Scale, weight: float = 1.0) -> Tensor:
    """Eq. 6, mu_hat = mu - lambda Sigma_t g, as the dx0 that moves the mean of Eq. 4 by so much, (B, C, h, w).

    Eq. 9 under DDPM is another thing: it moves the mean by lambda beta_t / sqrt(alpha_t) g, far too much at the end.

    Args:
        gradient: (B, C, h, w) g, of the loss by x_t, through encoder, decoder and denoiser.
        level: of x_t, and previous: of x_(t-1); both variance preserving.
        variance: Sigma_t, a number or (B, C, h, w), as `concord.diffusion.ddpm_variance` has it.
        weight: the paper's lambda.
    """
    return -weight * ratio(variance, clean_weight(level, previous)) * gradient


def fast_shift(gradient: Tensor, noise: Tensor, level: Level, strength: float = 0.1) -> Tensor:
    """d_eps = strength sigma rms(eps) g / rms(g), for each image, as dx0 = -(sigma / alpha) d_eps, (B, C, h, w).

    The gradient's size plays no part: without the denoiser's Jacobian it is 1 / alpha too large, 130 times at first.

    Args:
        gradient: (B, C, h, w) g, of the loss by x0, through encoder and decoder alone. No gradient, no shift.
        noise: (B, C, h, w) the predicted noise eps.
        level: of x_t; sigma in the first formula is that of the normalised level.
        strength: the rms of the shift of the noise, as a share of sigma times the noise's own.
    """
    d_eps = strength * level.normalised().sigma * rms(noise) * unit_rms(gradient)
    return -ratio(level.sigma, level.alpha) * d_eps


def schedule_strength(push: float, scheduler: Any, steps: Sequence[int]) -> float:
    """The `strength` of `fast_shift` by which the shifts of a schedule's steps have the size `push` together.

    Shifts of sigma strength rms(eps) g, all gradients g alike and the noise of unit size, move the final latents by
    strength |sum of sigma_i r_i|, r_i the solver's `responses`; that is the push, in units of latents of variance 1.

    scheduler: one of diffusers whose timesteps are set. steps: the numbers of the steps that are shifted; those of pure
    noise do not count.
    Raises ConcordError: the steps' shifts come to nothing.
    """
    moved = responses(scheduler)
    levels = {i: Level.from_scheduler(scheduler, scheduler.timesteps[i], i) for i in steps}
    seen = {i: float(level.normalised().sigma) for i, level in levels.items() if not level.pure_noise}
    total = abs(sum(sigma * moved[i] for i, sigma in seen.items()))
    if total < 1e-12:
        raise ConcordError(
            "`informing.push` has no step that moves an image: widen informing.window, or take more steps"
        )
    return push / total


def unit_rms(values: Tensor) -> Tensor:
    """Each image's values over their own rms; 0 stays 0."""
    # By the largest entry first: squares of gradients below 1e-19 would underflow.
    peak = per_image(values.abs().flatten(1).amax(dim=1), values)
    values = values / torch.where(peak == 0, torch.ones_like(peak), peak)
    size = rms(values)
    return values / torch.where(size == 0, torch.ones_like(size), size)


def rms(values: Tensor) -> Tensor:
    """Root mean square of each image, (B, C, h, w) to (B, 1, 1, 1)."""
    return per_image(values.flatten(1).square().mean(dim=1).sqrt(), values)


def per_image(numbers: Tensor, like: Tensor) -> Tensor:
    """One number an image, (B,), in a shape that broadcasts against latents: a grid, or FLUX's tokens."""
    return numbers.view(-1, *([1] * (like.dim() - 1)))
