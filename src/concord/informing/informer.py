"""Concept informing: a guide that moves the clean estimate down the gradient of the objectives.

The paper writes Eq. 6 and 9 as if its objective were a score, but Eq. 11 and 12 are losses. They are descended here:
with g = grad of the loss by x_t, eps_hat = eps + lambda sqrt(1 - abar_t) g.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from concord.diffusion import Step, clean_weight, ddpm_variance, noise_estimate, previous_level
from concord.diffusion.level import Level, ratio
from concord.errors import ConcordError
from concord.informing.objectives import ImageEncoder, Objective, total

Mode = Literal["fast", "exact", "mean"]
_MODES = ("fast", "exact", "mean")


class Informer:
    """A guide for one batch of images and one sampling.

    objectives: what the images are to agree with; their weighted sum is one loss, with one gradient a step.
    decode: latents (B, C, h, w), scheduler space, to images (B, 3, H, W) in [-1, 1].
    encoder: embeds the images; None where no objective needs embeddings.
    mode:
        `exact`: Eq. 9, with the gradient through encoder, decoder and denoiser; `weight` is the paper's lambda.
        `mean`: Eq. 6, for DDPM alone: the mean moves by -lambda Sigma_t g, with the variance that the scheduler draws
            with. (Eq. 9 under DDPM is another thing: it moves the mean by lambda beta_t / sqrt(alpha_t) g, far too
            much at the end.)
        `fast`: no gradient through the denoiser. The shift of the noise is normalised for each image: `strength` times
            sigma times the predicted noise's rms. The raw gradient would be 1 / alpha too large, 130 times at first.
    weight: lambda of `exact` and `mean`. strength: that of `fast`. They are two settings, never one.
    window: the part of the steps that is informed, as fractions [start, end) of the schedule; or as step numbers, when
        they do not lie in [0, 1].
    every: inform each so-manieth step of the window only, from its first.

    batch: how many images there are; 0 to learn it from the first informed step.

    `uninformed_steps`: (B,) int64, how many steps each image was left alone for a gradient that was not finite.

    Raises:
        ConcordError: an unknown mode, an empty window, a number that is not positive or not finite.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        decode: Callable[[Tensor], Tensor],
        encoder: ImageEncoder | None,
        *,
        mode: Mode = "fast",
        weight: float = 1.0,
        strength: float = 0.1,
        window: tuple[float, float] = (0.0, 1.0),
        every: int = 1,
        batch: int = 0,
    ) -> None:
        if mode not in _MODES:
            raise ConcordError(f'unknown informing mode "{mode}"; set `informing.mode` to fast, exact or mean')
        start, end = window
        if not 0 <= start < end or (end > 1 and (start != int(start) or end != int(end))):
            raise ConcordError(
                f"informing window {window} is empty or not understood; set `informing.window` to fractions "
                "0 <= start < end <= 1 of the schedule, or to whole step numbers"
            )
        if every < 1:
            raise ConcordError(f"`informing.every` is {every}; expected 1 or more")
        for name, value in (("weight", weight), ("strength", strength)):
            if not math.isfinite(value):
                raise ConcordError(f"`informing.{name}` is {value}; expected a finite number")
        self.objectives = tuple(objectives)
        self.decode = decode
        self.encoder = encoder
        self.mode: Mode = mode
        self.weight = weight
        self.strength = strength
        self.window = (start, end)
        self.every = every
        self.uninformed_steps = torch.zeros(batch, dtype=torch.long)

    @property
    def needs_graph(self) -> bool:
        return self.mode != "fast"

    def active(self, index: int, count: int) -> bool:
        start, end = self.window
        if end <= 1:
            # Rounding errors such as 0.3 * 10 must not move the edge by a step.
            start, end = math.ceil(start * count - 1e-9), math.ceil(end * count - 1e-9)
        return start <= index < end and (index - int(start)) % self.every == 0

    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w); None at pure noise (alpha = 0), where there is no clean estimate to move."""
        if _is_zero(step.level.alpha):
            return None
        gradient, finite = self._gradient(step)
        if len(self.uninformed_steps) == 0:
            self.uninformed_steps = torch.zeros(len(finite), dtype=torch.long)
        self.uninformed_steps += (~finite).cpu()
        return self._shift(step, gradient)

    def _gradient(self, step: Step) -> tuple[Tensor, Tensor]:
        """The loss's gradient by x_t (`fast`: by x0), 0 for images where it is not finite; and where it is, (B,)."""
        with torch.enable_grad():
            x0 = step.x0 if self.needs_graph else step.x0.detach().requires_grad_()
            # psi sees the decoded clean estimate of Eq. 8, never the noisy latent, although the paper writes psi(x_t).
            loss = total(self.objectives, self.decode(x0), self.encoder)
            by = step.x_t if self.needs_graph else x0
            # Images do not mix, so the gradient of the sum holds each image's own.
            (gradient,) = torch.autograd.grad(loss.sum(), by, retain_graph=self.needs_graph and step.shared_graph)
        finite = gradient.flatten(1).isfinite().all(dim=1) & loss.detach().isfinite()
        return torch.where(_per_image(finite, gradient), gradient, torch.zeros_like(gradient)), finite

    def _shift(self, step: Step, g: Tensor) -> Tensor:
        level = step.level
        if self.mode == "exact":
            # Eq. 9, d_eps = lambda sigma g, as a shift of the clean estimate. It holds in sigma space, too: x_t is
            # larger by 1 / alpha there and its gradient smaller, so that sigma g is the same.
            return -self.weight * ratio(level.sigma**2, level.alpha) * g
        if self.mode == "mean":
            previous = previous_level(_ddpm(step.scheduler), step.t)
            kind = str(step.scheduler.config.variance_type)
            variance = ddpm_variance(level, previous, kind, step.prediction.variance)
            # The mean of Eq. 4 moves by clean_weight * dx0, so this dx0 moves it by -lambda Sigma_t g (Eq. 6).
            return -self.weight * ratio(variance, clean_weight(level, previous)) * g
        return self._normalised(step, g, level)

    def _normalised(self, step: Step, g: Tensor, level: Level) -> Tensor:
        """The fast mode: d_eps = strength * sigma * rms(eps) * g / rms(g), sigma that of the normalised level."""
        with torch.no_grad():
            eps = noise_estimate(step.prediction, step.x_t, level)
            # By the largest entry first: squares of gradients below 1e-19 would underflow. No gradient, no shift.
            peak = _per_image(g.abs().flatten(1).amax(dim=1), g)
            g = g / torch.where(peak == 0, torch.ones_like(peak), peak)
            size = _rms(g)
            direction = g / torch.where(size == 0, torch.ones_like(size), size)
            d_eps = self.strength * level.normalised().sigma * _rms(eps) * direction
            return -ratio(level.sigma, level.alpha) * d_eps


def _rms(values: Tensor) -> Tensor:
    """Root mean square of each image, (B, C, h, w) to (B, 1, 1, 1)."""
    return _per_image(values.flatten(1).square().mean(dim=1).sqrt(), values)


def _per_image(numbers: Tensor, like: Tensor) -> Tensor:
    """One number an image, (B,), in a shape that broadcasts against latents: a grid, or FLUX's tokens."""
    return numbers.view(-1, *([1] * (like.dim() - 1)))


def _is_zero(value: float | Tensor) -> bool:
    return bool((value == 0).all()) if isinstance(value, Tensor) else value == 0


def _ddpm(scheduler: object) -> object:
    if not any(kind.__name__ == "DDPMScheduler" for kind in type(scheduler).__mro__):
        raise ConcordError(
            f'informing mode "mean" (Eq. 6) is for DDPM, not {type(scheduler).__name__}; set `pipeline.scheduler` to '
            "ddpm, or `informing.mode` to exact or fast"
        )
    return scheduler
