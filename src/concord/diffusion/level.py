"""Where a latent stands between image and noise: x_t = alpha x0 + sigma eps."""

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from concord.errors import ConcordError

Scale = float | Tensor  # a tensor must broadcast against x_t

# Schedulers whose x is x_t / alpha (Karras et al. 2022): x = x0 + s eps with s = sigma / alpha.
_SIGMA_SPACE = frozenset(
    {"EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"}
)
# These go to a level between two and back; the second has its sigmas one place later.
_BETWEEN = {"KDPM2DiscreteScheduler": 0, "KDPM2AncestralDiscreteScheduler": -1}
_FLOW = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"})
_SUPPORTED = (
    "DDIM, DDPM, PNDM, DPM-Solver, DEIS, UniPC, SA-Solver, LCM, TCD, Euler (ancestral), Heun, LMS, KDPM2 and"
    " flow-matching Euler, Heun or LCM"
)


@dataclass(frozen=True)
class Level:
    """Signal and noise scale of a latent: `x_t = alpha * x0 + sigma * eps` (Eq. 2).

    Three conventions occur, and every formula of this package holds for all of them:

    - variance preserving: alpha^2 + sigma^2 = 1, alpha = sqrt(abar_t);
    - sigma space: alpha = 1, sigma = sigma_vp / alpha_vp. The sampling loop holds x_t / alpha there, while the denoiser
      gets `scheduler.scale_model_input(x_t)`, which is the variance-preserving latent of the same noise level;
    - flow matching: alpha + sigma = 1.

    `alpha`, `sigma`: floats, or tensors that broadcast against x_t.
    """

    alpha: Scale
    sigma: Scale

    @classmethod
    def from_scheduler(cls, scheduler: Any, t: Tensor | float, step_index: int) -> Self:
        """The level of the x_t that a sampling loop holds at step `step_index` of a diffusers scheduler, as floats.

        `scheduler.set_timesteps` must have been called; `t` is `scheduler.timesteps[step_index]`. Where the scheduler
        has sigmas they decide: its timesteps may be rounded or fractional (Karras sigmas, flow matching).
        Raises ConcordError: a scheduler whose latents follow none of the three conventions of `Level`.
        """
        kinds = {kind.__name__ for kind in type(scheduler).__mro__}
        if kinds & _FLOW:
            s = float(scheduler.sigmas[step_index])
            return cls(1.0 - s, s)
        if kinds & _SIGMA_SPACE:
            return cls(1.0, float(scheduler.sigmas[step_index]))
        for name in kinds & _BETWEEN.keys():
            middle = scheduler.sigmas_interpol[step_index + _BETWEEN[name]]
            return cls(1.0, float(middle if step_index % 2 else scheduler.sigmas[step_index]))
        # EDM-style schedulers have sigmas but no alphas_cumprod; their networks are preconditioned in another way.
        if hasattr(scheduler, "alphas_cumprod"):
            if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # DPM-Solver, DEIS, UniPC; knows their flow variants
                sigma = torch.as_tensor(scheduler.sigmas[step_index], dtype=torch.float64)
                alpha, sigma = scheduler._sigma_to_alpha_sigma_t(sigma)
                return cls(float(alpha), float(sigma))
            if not hasattr(scheduler, "sigmas"):
                abar = float(scheduler.alphas_cumprod[int(t)])
                return cls(math.sqrt(abar), math.sqrt(1.0 - abar))
        raise ConcordError(f"the scheduler {type(scheduler).__name__} is not supported; take one of {_SUPPORTED}")

    def normalised(self) -> "Level":
        """The variance-preserving level of the same signal-to-noise ratio: that of x_t / sqrt(alpha^2 + sigma^2)."""
        norm = self.norm
        return Level(self.alpha / norm, self.sigma / norm)

    @property
    def pure_noise(self) -> bool:
        """Whether nothing is seen of an image, so that no clean estimate can be moved: alpha is 0.

        Of a flow, whose solvers start a little below pure noise to avoid infinities, up to a training step of 1000:
        there a shift of the noise would be one of the flow, 1 / alpha as large.
        """
        alpha, sigma = torch.as_tensor(self.alpha), torch.as_tensor(self.sigma)
        return bool(((alpha == 0) | ((alpha + sigma - 1).abs() < 1e-6) & (alpha < 1.5e-3)).all())

    @property
    def norm(self) -> Scale:
        """sqrt(alpha^2 + sigma^2): 1 for variance-preserving levels."""
        return (self.alpha**2 + self.sigma**2) ** 0.5


def ratio(numerator: Scale, denominator: Scale) -> Scale:
    """`numerator / denominator`, and 0 where the denominator is 0: there the quantity plays no part."""
    if isinstance(denominator, Tensor):
        safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
        return torch.where(denominator == 0, torch.zeros_like(safe), numerator / safe)
    if denominator == 0:
        return 0.0
    return numerator / denominator
