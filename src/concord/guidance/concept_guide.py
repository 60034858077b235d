"""Concept informing: a guide that moves the clean estimate down the gradient of the objectives, by `shifts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from concord.choices import Between, Mode
from concord.diffusion import Step, ddpm_variance, noise_estimate, previous_level
from concord.errors import ConcordError
from concord.guidance.objectives import ImageEncoder, Objective, total
from concord.guidance.shifts import exact_shift, fast_shift, mean_shift, per_image, schedule_strength, unit_rms
from concord.guidance.texts import Texts, text_objective
from concord.guidance.views import draws, view
from concord.guidance.window import check_size, check_window
from concord.models.encoder import Encoder, load_encoder
from concord.recipe.window import gradient_steps, window_steps


class ConceptGuide:
    """A guide for one batch of images and one sampling.

    Args:
        objectives: what the images are to agree with; their weighted sum is one loss, with one gradient a step.
        decode: latents (B, C, h, w), scheduler space, to images (B, 3, H, W) in [-1, 1].
        encoder: embeds the images; None where no objective needs embeddings.
        mode: `exact` (`exact_shift`, Eq. 9) and `mean` (`mean_shift`, Eq. 6, for DDPM alone, with the variance that the
            scheduler draws with) take the gradient through the denoiser, `fast` (`fast_shift`) does not.
        weight: lambda of `exact` and `mean`.
        strength: that of `fast`. The two are never one setting.
        push: of `fast`, instead of `strength`: the size of all shifts of a sampling together, whatever its steps,
            solver and window, see `schedule_strength`.
        inner: gradients within a step that takes one: each of the clean estimate that those before it have moved. They
            share the step's shift, so that its size stays what it is with one.
        views: each gradient is the mean over so many `view`s of the decoded image; 1 for the image itself.
        seeds: (B,) what an image's views are drawn from; None for 0, 1, ...
        window: the part of the steps that is informed, as fractions [start, end) of the schedule; or as step numbers,
            when they do not lie in [0, 1].
        every: a gradient at every k-th step of the window only, from its first that can be informed.
        between: what the window's other steps do, at no network's cost: nothing (`none`); the last gradient (`fast`:
            its direction) again, at this step's size (`hold`); the line through the last two (`extrapolate`).
        thresholds: (B,) losses that are good enough: an image that has come below its own is left alone from there on,
            and goes through no network of the guide any more. None informs every image to the end.
        batch: how many images there are; 0 to learn it from the first informed step.

    Attributes:
        uninformed_steps: (B,) int64, how many steps each image was left alone for a gradient that was not finite.
        gradient_steps: (B,) int64, how many gradients were taken of each image.
        gradient_calls: how many there were to take: the ratio is what stopping early leaves of the cost.
        objective: (B,) each image's loss at its last gradient, before that step's edit.

    Raises ConcordError: an unknown mode, an empty window, a number that is negative or not finite.
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
        push: float | None = None,
        window: tuple[float, float] = (0.0, 1.0),
        every: int = 1,
        inner: int = 1,
        views: int = 1,
        seeds: Sequence[int] | None = None,
        between: Between = "none",
        thresholds: Tensor | None = None,
        batch: int = 0,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConcordError(f'unknown informing mode "{mode}"; set `informing.mode` to fast, exact or mean')
        for name, number in (("every", every), ("inner", inner), ("views", views)):
            if number < 1:
                raise ConcordError(f"`informing.{name}` is {number}; expected 1 or more")
        if between not in get_args(Between):
            raise ConcordError(f'`informing.between` is "{between}"; expected one of {get_args(Between)}')
        self.objectives, self.decode, self.encoder = tuple(objectives), decode, encoder
        self.mode: Mode = mode
        self.weight = check_size(weight, "informing.weight")
        self.strength = check_size(strength, "informing.strength")
        self.push = None if push is None else check_size(push, "informing.push")
        self.every, self.inner, self.thresholds = every, inner, thresholds
        self.views, self.seeds = views, seeds
        self.window = check_window(window)
        self.between: Between = between
        self.uninformed_steps = torch.zeros(batch, dtype=torch.long)
        self.gradient_steps = torch.zeros(batch, dtype=torch.long)
        self.gradient_calls = 0
        self.objective = torch.zeros(batch)
        self._first = 0  # the first step of this sampling that can be informed
        self._going: Tensor | None = None  # (B,) bool: whose objective is not yet good enough
        self._last: list[tuple[int, Tensor]] = []  # the last two gradients, with their steps' numbers
        self._spread = False  # whether `strength` is the push's share for this sampling

    @classmethod
    def for_texts(
        cls,
        model: Any,
        encoder: Encoder | str | Sequence[Encoder | str],
        *,
        positives: Texts,
        negatives: Texts = (),
        temperature: float | None = None,
        **options: Any,
    ) -> ConceptGuide:
        """A guide towards texts, and away from others.

        Args:
            model: a family (`concord.load_family`), or the function that decodes for it.
            encoder: an `Encoder`, or the directory or model id of one, loaded to the family's device; or several, whose
                losses are averaged, each of its own texts.
            positives: what the images are to show, as whole texts ("{class} with {concept}"): a list for each image, or
                one for all.
            negatives: what they are not to show, in the same form; without any, Eq. 11 is descended instead of Eq. 12.
            temperature: tau of Eq. 12; None for the encoder's own.
            options: mode, weight, strength, push, window, ... of `ConceptGuide`.

        Raises ConcordError: the texts do not fit each other, or an option has no meaning.
        """
        mode, every = options.get("mode", "fast"), options.get("every", 1)
        held = options.get("between", "none") != "none"
        for name, idle, why in (
            ("weight", mode == "fast", "mode=fast has its strength"),
            ("strength", mode != "fast", f"mode={mode} has its weight"),
            ("push", mode != "fast", f"mode={mode} has its weight"),
            ("strength", options.get("push") is not None, "push says how much all steps move an image together"),
            ("between", held and every == 1, "at every=1 no step is between two gradients"),
        ):
            if idle and name in options:
                raise ConcordError(f"{name} cannot act: {why}; leave it out")
        with torch.inference_mode(False):  # what is made in inference mode could take no part in a gradient
            device = getattr(getattr(model, "pipeline", None), "device", "cpu")
            given = [encoder] if isinstance(encoder, Encoder | str) else encoder
            encoders = [load_encoder(one, device=device) if isinstance(one, str) else one for one in given]
            if not encoders:
                raise ConcordError("an encoder is missing: the list of them is empty")
            objectives = [
                replace(text_objective(one, positives, negatives, temperature), weight=1 / len(encoders), encoder=one)
                for one in encoders
            ]
        return cls(objectives, getattr(model, "decode", model), encoders[0], **options)

    @property
    def needs_graph(self) -> bool:
        return self.mode != "fast"

    def begin(self, index: int) -> None:
        """A sampling begins, at this step of its schedule."""
        self._first, self._spread = index, False

    def active(self, index: int, count: int) -> bool:
        """Whether this step is informed, be it by a gradient of its own or by a held one."""
        return index in window_steps(self.window, count) and (
            self.between != "none" or self.takes_gradient(index, count)
        )

    def takes_gradient(self, index: int, count: int) -> bool:
        """Whether a gradient is taken at this step: what informing costs, it costs here."""
        return index in gradient_steps(self.window, self.every, count, self._first)

    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w); None at pure noise, where there is no clean estimate to move."""
        if step.level.pure_noise:
            self._first = step.index + 1
            return None
        if not self.takes_gradient(step.index, step.count):
            return self._held(step)
        self._prepare(step.x_t)
        moved, directions = None, list[Tensor]()
        for more in reversed(range(self.inner)):
            self.gradient_calls += 1
            gradient = self._gradient(step, moved, more, retain=step.shared_graph or more > 0)
            if gradient is None:
                break
            shift = self._shift(step, gradient) / self.inner
            moved = shift if moved is None else moved + shift
            directions.append(gradient if self.inner == 1 or self.mode != "fast" else unit_rms(gradient))
        if self.between != "none" and directions:
            # A pipeline may be called again inside one `inform`: what a later step left is of another sampling.
            gradient = torch.stack(directions).mean(dim=0)
            self._last = [*(known for known in self._last[-1:] if known[0] < step.index), (step.index, gradient)]
        return moved

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

    def _gradient(self, step: Step, moved: Tensor | None, more: int, retain: bool) -> Tensor | None:
        """The loss's gradient by x_t (`fast`: by x0), 0 for images where it is not finite or that are good enough.

        None where all are. moved: how far the clean estimate is moved already, (B, C, h, w). more: how many gradients
        of this step are still to come. retain: keep the graph through the denoiser for another.
        """
        rows = None if self._going is None or bool(self._going.all()) else self._going
        if rows is not None and not bool(rows.any()):
            return None
        with torch.enable_grad():
            x0 = step.x0 if moved is None else step.x0 + moved
            x0 = x0 if self.needs_graph else x0.detach().requires_grad_()
            # psi sees the decoded clean estimate of Eq. 8, never the noisy latent, although the paper writes psi(x_t).
            pixels = self.decode(x0 if rows is None else x0[rows])
            loss = self._loss(pixels, rows, step, more)
            by = step.x_t if self.needs_graph else x0
            # Images do not mix, so the gradient of the sum holds each image's own.
            (gradient,) = torch.autograd.grad(loss.sum(), by, retain_graph=self.needs_graph and retain)
        loss = loss.detach().to(gradient.device)  # an encoder may compute elsewhere
        informed = gradient.flatten(1).isfinite().all(dim=1) & loss.isfinite()
        taken = torch.ones_like(informed) if rows is None else rows
        self.objective = torch.where(taken, loss, self.objective.to(loss))
        self.gradient_steps += taken
        self.uninformed_steps += taken & ~informed
        if self._going is not None and self.thresholds is not None:
            self._going = self._going & ~(loss < self.thresholds)
            informed = informed & self._going
        return torch.where(per_image(informed, gradient), gradient, torch.zeros_like(gradient))

    def _loss(self, pixels: Tensor, rows: Tensor | None, step: Step, more: int) -> Tensor:
        """The loss (B,) of images, or of their views on average."""
        if self.views == 1:
            return total(self.objectives, pixels, self.encoder, rows)
        seeds = torch.tensor(range(len(step.x_t)) if self.seeds is None else list(self.seeds))
        own = (seeds if rows is None else seeds[rows.cpu()]).tolist()
        seen = [view(pixels, draws(own, step.index, more, n)) for n in range(self.views)]
        return torch.stack([total(self.objectives, one, self.encoder, rows) for one in seen]).mean(dim=0)

    def _held(self, step: Step) -> Tensor | None:
        """The shift of a step without a gradient of its own, from the last ones."""
        if not self._last or self._last[-1][0] > step.index:
            return None
        at, g = self._last[-1]
        if self.between == "extrapolate" and len(self._last) == 2:
            before, earlier = self._last[0]
            if self.mode == "fast":  # the line is one of directions
                g, earlier = unit_rms(g), unit_rms(earlier)
            g = g + (step.index - at) / (at - before) * (g - earlier)
        if self._going is not None:
            g = torch.where(per_image(self._going, g), g, torch.zeros_like(g))
        return self._shift(step, g)

    @torch.no_grad()
    def _shift(self, step: Step, gradient: Tensor) -> Tensor:
        """dx0 of a gradient by x_t; `fast`: by x0."""
        if self.mode == "exact":
            return exact_shift(gradient, step.level, self.weight)
        if self.mode == "mean":
            if not any(kind.__name__ == "DDPMScheduler" for kind in type(step.scheduler).__mro__):
                raise ConcordError(
                    f'informing mode "mean" (Eq. 6) is for DDPM, not {type(step.scheduler).__name__}; set '
                    "`pipeline.scheduler` to ddpm, or `informing.mode` to exact or fast"
                )
            previous = previous_level(step.scheduler, step.t)
            kind = str(step.scheduler.config.variance_type)
            variance = ddpm_variance(step.level, previous, kind, step.prediction.variance)
            return mean_shift(gradient, step.level, previous, variance, self.weight)
        eps = noise_estimate(step.prediction, step.x_t, step.level)
        if self.push is not None and not self._spread:
            acting = [i for i in range(self._first, step.count) if self.active(i, step.count)]
            self.strength, self._spread = schedule_strength(self.push, step.scheduler, acting), True
        return fast_shift(gradient, eps, step.level, self.strength)
