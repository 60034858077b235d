"""Concept informing: a guide that moves the clean estimate down the gradient of the objectives.

The paper writes Eq. 6 and 9 as if its objective were a score, but Eq. 11 and 12 are losses. They are descended here:
with g = grad of the loss by x_t, eps_hat = eps + lambda sqrt(1 - abar_t) g.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from concord.diffusion import Step, clean_weight, ddpm_variance, noise_estimate, previous_level
from concord.diffusion.level import ratio
from concord.errors import ConcordError
from concord.guidance.objectives import ImageEncoder, Objective, total

Mode = Literal["fast", "exact", "mean"]


Between = Literal["none", "hold", "extrapolate"]


class ConceptGuide:
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
    every: take a gradient at each so-manieth step of the window only, from its first.
    between: what happens at the window's other steps, at no network's cost: `none`, nothing; `hold`, the last gradient
        (`fast`: its direction) serves again, at the size that this step's level and noise give it; `extrapolate`, the
        line through the last two.
    thresholds: (B,) objectives that are good enough: an image whose loss has come below its own is left alone from
        there on, and goes through no network of the concept_guide any more. None informs every image to the end.

    batch: how many images there are; 0 to learn it from the first informed step.

    `uninformed_steps`: (B,) int64, how many steps each image was left alone for a gradient that was not finite.
    `gradient_steps`: (B,) int64, how many gradients were taken of each image; `gradient_calls`: how many there were to
        take, so that their ratio is what stopping early leaves of the cost. `objective`: (B,) each image's loss at its
        last gradient, before that step's edit.

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
        between: Between = "none",
        thresholds: Tensor | None = None,
        batch: int = 0,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConcordError(f'unknown informing mode "{mode}"; set `informing.mode` to fast, exact or mean')
        start, end = window
        if not 0 <= start < end or (end > 1 and (start != int(start) or end != int(end))):
            raise ConcordError(
                f"informing window {window} is empty or not understood; set `informing.window` to fractions "
                "0 <= start < end <= 1 of the schedule, or to whole step numbers"
            )
        if every < 1:
            raise ConcordError(f"`informing.every` is {every}; expected 1 or more")
        if between not in get_args(Between):
            raise ConcordError(f'`informing.between` is "{between}"; expected one of {get_args(Between)}')
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
        self.between: Between = between
        self.thresholds = thresholds
        self.uninformed_steps = torch.zeros(batch, dtype=torch.long)
        self.gradient_steps = torch.zeros(batch, dtype=torch.long)
        self.gradient_calls = 0
        self.objective = torch.zeros(batch)
        self._going: Tensor | None = None  # (B,) bool: whose objective is not yet good enough
        self._last: list[tuple[int, Tensor]] = []  # the last two gradients, with their steps' numbers

    @property
    def needs_graph(self) -> bool:
        return self.mode != "fast"

    def active(self, index: int, count: int) -> bool:
        """Whether this step is informed, be it by a gradient of its own or by a held one."""
        return self._inside(index, count) and (self.between != "none" or self.takes_gradient(index, count))

    def takes_gradient(self, index: int, count: int) -> bool:
        """Whether a gradient is taken at this step: what informing costs, it costs here."""
        return self._inside(index, count) and (index - self._edges(count)[0]) % self.every == 0

    def _inside(self, index: int, count: int) -> bool:
        start, end = self._edges(count)
        return start <= index < end

    def _edges(self, count: int) -> tuple[int, int]:
        """The window in step numbers, [start, end)."""
        start, end = self.window
        if end <= 1:
            # Rounding errors such as 0.3 * 10 must not move the edge by a step.
            start, end = math.ceil(start * count - 1e-9), math.ceil(end * count - 1e-9)
        return int(start), int(end)

    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w); None at pure noise (alpha = 0), where there is no clean estimate to move."""
        if _is_zero(step.level.alpha):
            return None
        if not self.takes_gradient(step.index, step.count):
            return self._held(step)
        self._prepare(step.x_t)
        self.gradient_calls += 1
        gradient = self._gradient(step)
        if gradient is None:
            return None
        if self.mode == "fast":
            gradient = _unit_rms(gradient)
        if self.between != "none":
            # A pipeline may be called again inside one `inform`: what a later step left is of another sampling.
            self._last = [*(known for known in self._last[-1:] if known[0] < step.index), (step.index, gradient)]
        return self._shift(step, gradient)

    def _prepare(self, like: Tensor) -> None:
        """Counters on the latents' device: read at the end alone, they never make a step wait for the device."""
        count = len(like)
        if len(self.uninformed_steps) != count:
            self.uninformed_steps = torch.zeros(count, dtype=torch.long)
            self.gradient_steps = torch.zeros(count, dtype=torch.long)
            self.objective = torch.zeros(count)
        self.uninformed_steps = self.uninformed_steps.to(like.device)
        self.gradient_steps = self.gradient_steps.to(like.device)
        if self.thresholds is not None and self._going is None:
            self.thresholds = self.thresholds.to(like.device)
            self._going = torch.ones(count, dtype=torch.bool, device=like.device)

    def _gradient(self, step: Step) -> Tensor | None:
        """The loss's gradient by x_t (`fast`: by x0), 0 for images where it is not finite or that are good enough.

        None where all are.
        """
        rows = None if self._going is None or bool(self._going.all()) else self._going
        if rows is not None and not bool(rows.any()):
            return None
        with torch.enable_grad():
            x0 = step.x0 if self.needs_graph else step.x0.detach().requires_grad_()
            # psi sees the decoded clean estimate of Eq. 8, never the noisy latent, although the paper writes psi(x_t).
            pixels = self.decode(x0 if rows is None else x0[rows])
            loss = total(self.objectives, pixels, self.encoder, rows)
            by = step.x_t if self.needs_graph else x0
            # Images do not mix, so the gradient of the sum holds each image's own.
            (gradient,) = torch.autograd.grad(loss.sum(), by, retain_graph=self.needs_graph and step.shared_graph)
        loss = loss.detach().to(gradient.device)  # an encoder may compute elsewhere
        informed = gradient.flatten(1).isfinite().all(dim=1) & loss.isfinite()
        taken = torch.ones_like(informed) if rows is None else rows
        self.objective = torch.where(taken, loss, self.objective.to(loss))
        self.gradient_steps += taken
        self.uninformed_steps += taken & ~informed
        if self._going is not None and self.thresholds is not None:
            self._going = self._going & ~(loss < self.thresholds)
            informed = informed & self._going
        return torch.where(_per_image(informed, gradient), gradient, torch.zeros_like(gradient))

    def _held(self, step: Step) -> Tensor | None:
        """The shift of a step without a gradient of its own, from the last ones."""
        if not self._last or self._last[-1][0] > step.index:
            return None
        at, g = self._last[-1]
        if self.between == "extrapolate" and len(self._last) == 2:
            before, earlier = self._last[0]
            g = g + (step.index - at) / (at - before) * (g - earlier)
            g = _unit_rms(g) if self.mode == "fast" else g
        if self._going is not None:
            g = torch.where(_per_image(self._going, g), g, torch.zeros_like(g))
        return self._shift(step, g)

    @torch.no_grad()
    def _shift(self, step: Step, g: Tensor) -> Tensor:
        """dx0 of a gradient g by x_t; `fast`: of a gradient's direction, whose rms is 1."""
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
        # d_eps = strength * sigma * rms(eps) * g / rms(g), sigma that of the normalised level.
        eps = noise_estimate(step.prediction, step.x_t, level)
        d_eps = self.strength * level.normalised().sigma * _rms(eps) * g
        return -ratio(level.sigma, level.alpha) * d_eps


def _unit_rms(g: Tensor) -> Tensor:
    """Each image's g over its own rms; 0 stays 0: no gradient, no shift."""
    # By the largest entry first: squares of gradients below 1e-19 would underflow.
    peak = _per_image(g.abs().flatten(1).amax(dim=1), g)
    g = g / torch.where(peak == 0, torch.ones_like(peak), peak)
    size = _rms(g)
    return g / torch.where(size == 0, torch.ones_like(size), size)


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
