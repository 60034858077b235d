"""The forward and reverse process on variance-preserving levels: Eq. 2 to 5 and Eq. 7.

`level` is that of x_t and `previous` that of the next latent to be drawn, x_(t-1) on the (possibly shortened) schedule:
alpha = sqrt(abar), sigma = sqrt(1 - abar), so that one step of a shortened schedule has alpha_t = abar_t / abar_(t-1).
"""

from typing import Any

import torch
from torch import Tensor

from concord.diffusion.level import Level, Scale, ratio
from concord.errors import ConcordError


def add_noise(x0: Tensor, noise: Tensor, level: Level) -> Tensor:
    """Eq. 2: x_t, (B, C, h, w), from clean latents and noise of the same shape."""
    return level.alpha * x0 + level.sigma * noise


def noise_loss(predicted: Tensor, noise: Tensor) -> Tensor:
    """Eq. 5: mean squared error of the predicted noise per image, (B,); the mean over elements, as it is trained."""
    return (predicted - noise).square().flatten(1).mean(dim=1)


def step_beta(level: Level, previous: Level) -> Scale:
    """beta_t = 1 - abar_t / abar_(t-1) of one step (Eq. 1)."""
    return 1 - level.alpha**2 / previous.alpha**2


def ddpm_mean(x_t: Tensor, noise: Tensor, level: Level, previous: Level) -> Tensor:
    """Eq. 4: the mean of p(x_(t-1) | x_t), (B, C, h, w), from the predicted noise."""
    beta = step_beta(level, previous)
    return (x_t - ratio(beta, level.sigma) * noise) / (1 - beta) ** 0.5


def clean_weight(level: Level, previous: Level) -> Scale:
    """sqrt(abar_(t-1)) beta_t / (1 - abar_t): what the mean of Eq. 4 moves by when the clean estimate moves by 1."""
    return ratio(previous.alpha * step_beta(level, previous), level.sigma**2)


def ddpm_variance(level: Level, previous: Level, kind: str = "fixed_small", learned: Tensor | None = None) -> Scale:
    """Sigma_t of Eq. 3, under the names that diffusers gives its choices, or a ConcordError.

    `fixed_small`: beta_t (1 - abar_(t-1)) / (1 - abar_t), the posterior variance. `fixed_large`: beta_t.
    `learned_range`: `learned`, the raw network output, interpolates between the logarithms of the two (Nichol and
    Dhariwal 2021).
    """
    beta = step_beta(level, previous)
    small = ratio(beta * previous.sigma**2, level.sigma**2)
    if kind in ("fixed_small", "fixed_small_log"):
        return small
    if kind in ("fixed_large", "fixed_large_log"):
        return beta
    if kind in ("learned", "learned_range"):
        if learned is None:
            raise ConcordError(
                f'the scheduler asks for a variance that is "{kind}", but the denoiser predicts none; '
                'set its variance_type to "fixed_small"'
            )
        if kind == "learned":
            return learned
        # The posterior variance of the last step is 0; diffusers floors it at 1e-20 before the logarithm.
        low = torch.as_tensor(small, dtype=learned.dtype, device=learned.device).clamp(min=1e-20).log()
        high = torch.as_tensor(beta, dtype=learned.dtype, device=learned.device).log()
        fraction = (learned + 1) / 2
        return (fraction * high + (1 - fraction) * low).exp()
    raise ConcordError(f'unknown variance type "{kind}"; expected fixed_small, fixed_large, learned or learned_range')


def ddpm_step(mean: Tensor, variance: Scale, noise: Tensor) -> Tensor:
    """Eq. 3: a draw of x_(t-1), (B, C, h, w), from its mean, its variance and standard normal noise."""
    return mean + variance**0.5 * noise


def ddim_step(x0: Tensor, noise: Tensor, previous: Level) -> Tensor:
    """Eq. 7: x_(t-1), (B, C, h, w), from the clean estimate and the predicted noise."""
    return previous.alpha * x0 + previous.sigma * noise


def previous_level(scheduler: Any, t: Tensor | int) -> Level:
    """The level that a DDPM scheduler of diffusers goes to from timestep `t`: that of clean latents at the end."""
    before = int(scheduler.previous_timestep(int(t)))
    if before < 0:
        return Level(1.0, 0.0)
    abar = float(scheduler.alphas_cumprod[before])
    return Level(abar**0.5, (1 - abar) ** 0.5)
