"""What a learned variance is trained by: the variational bound of a step, in bits (Nichol and Dhariwal 2021)."""

import math

import torch
from torch import Tensor

_BIN = 1 / 255
"""Half a level of 8-bit values in [-1, 1]: the width of the last step's bins, which DiT takes on latents, too."""
_EDGE = 0.999
_SMALL = 1e-12


def variational_bound(x0: Tensor, x_t: Tensor, noise: Tensor, learned: Tensor, t: Tensor, abar: Tensor) -> Tensor:
    """The bound of each image's step in bits, averaged over its elements, (B,).

    At t > 0 the divergence of p(x_(t-1) | x_t) from the posterior q(x_(t-1) | x_t, x0); at t = 0 minus the logarithm of
    the probability of x0 among bins of 8-bit values. It trains the variance alone: no gradient passes the noise.

    x0, x_t, noise: (B, C, h, w) clean latents, noisy ones and the predicted noise. learned: (B, C, h, w) the raw output
    that interpolates between the logarithms of the posterior variance and of beta_t, from -1 to 1. t: (B,) timesteps.
    abar: (T,) of the schedule that is trained on.
    """
    schedule = abar.double()
    before = torch.cat([schedule.new_ones(1), schedule[:-1]])
    beta = 1 - schedule / before
    small = (beta * (1 - before) / (1 - schedule)).clone()
    small[0] = small[min(1, len(small) - 1)]  # the posterior's is 0 there

    def at(values: Tensor) -> Tensor:
        return values.to(x0.device)[t].to(x0.dtype).view(-1, *[1] * (x0.ndim - 1))

    share, log_beta, log_small = (learned + 1) / 2, at(beta.log()), at(small.log())
    log_variance = share * log_beta + (1 - share) * log_small
    clean, noisy = at(before.sqrt() * beta / (1 - schedule)), at((1 - beta).sqrt() * (1 - before) / (1 - schedule))
    estimate = (x_t - at((1 - schedule).sqrt()) * noise.detach()) / at(schedule.sqrt())
    true, mean = clean * x0 + noisy * x_t, clean * estimate + noisy * x_t
    divergence = 0.5 * (
        log_variance - log_small - 1 + (log_small - log_variance).exp() + (true - mean).square() * (-log_variance).exp()
    )
    last = -_log_probability(x0, mean, 0.5 * log_variance)
    nats = torch.where((t == 0).view_as(log_beta), last, divergence)
    return nats.flatten(1).mean(dim=1) / math.log(2)


def _log_probability(x: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """Log probability of the bin that x lies in; the outermost bins reach to infinity."""
    above = torch.special.ndtr((x - mean + _BIN) * (-log_deviation).exp())
    below = torch.special.ndtr((x - mean - _BIN) * (-log_deviation).exp())
    probability = torch.where(x < -_EDGE, above, torch.where(x > _EDGE, 1 - below, above - below))
    return probability.clamp(min=_SMALL).log()
