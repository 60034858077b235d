"""The sampling loop: any denoiser, any diffusers scheduler, any number of guides."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from concord.diffusion.level import Level
from concord.diffusion.prediction import Prediction, clean_estimate, shift
from concord.diffusion.process import add_noise
from concord.errors import ConcordError

Denoise = Callable[[Tensor, Tensor | int], Prediction]


@dataclass(frozen=True)
class Step:
    """What a guide sees of one step of the loop.

    index, count: this step's number and how many there are (a second-order scheduler counts its evaluations).
    t: the scheduler's timestep.
    x_t: (B, C, h, w) the latent that the loop holds, and `level` its level. In sigma space this is the usual x_t over
        alpha, at Level(1, sigmas[index]), while the denoiser saw `scheduler.scale_model_input(x_t)`.
    prediction: what the denoiser said, guidance included and no guide's shift applied yet.
    x0: (B, C, h, w) the clean estimate (Eq. 8), with its graph back to x_t where an active guide needs it. Not finite
        where the level's alpha is 0 and the prediction is eps.
    shared_graph: more than one guide takes gradients through that graph, so each must retain it.
    """

    index: int
    count: int
    t: Tensor | int
    x_t: Tensor
    prediction: Prediction
    level: Level
    x0: Tensor
    scheduler: Any
    shared_graph: bool = False


class Guide(Protocol):
    """A function of the step that shifts the clean estimate. Guides add up.

    One that goes by where a sampling began may have a method `begin(index)`: it is told the first step before it.
    """

    @property
    def needs_graph(self) -> bool:
        """Whether x0 must carry its graph back to x_t through the denoiser."""
        ...

    def active(self, index: int, count: int) -> bool:
        """Whether the guide acts at this step; the loop builds no graph where no guide that needs it acts."""
        ...

    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w), without a graph; or None to leave the step alone."""
        ...


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One CPU generator an image: image i depends on seed i alone, not on its batch or the device."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def noise(
    seeds: Sequence[int | torch.Generator],
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise, (len(seeds), *shape): what a diffusers pipeline draws for a list of such generators.

    seeds: a seed or a generator for each image. For a stochastic scheduler give the generators, and the same ones to
    `sample`: generators made anew from the seeds would repeat x_T as the first step's noise.
    shape: (C, h, w) of one image's latents.
    """
    drawn = []
    for seed in seeds:
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        drawn.append(torch.randn(tuple(shape), generator=generator, dtype=dtype, device=generator.device))
    return torch.stack(drawn).to(device)


def begin(guides: Sequence[Guide], index: int = 0) -> None:
    """Tell the guides that ask for it that a sampling begins, at this step of its schedule."""
    for guide in guides:
        if (told := getattr(guide, "begin", None)) is not None:
            told(index)


def sample(
    denoise: Denoise,
    x_T: Tensor,
    scheduler: Any,
    *,
    steps: int,
    guides: Sequence[Guide] = (),
    generators: Sequence[torch.Generator] | None = None,
    eta: float | None = None,
    on_step: Callable[[Step], None] | None = None,
    start: Tensor | None = None,
    skipped: int = 0,
) -> Tensor:
    """Denoise x_T to latents, (B, C, h, w) in scheduler space; without guides just as a plain diffusers loop does.

    denoise: (x_t, t) to a `Prediction`; it gets `scheduler.scale_model_input(x_t)`. One that goes by the step may have
        a method `at(index, count)`, which is told it first.
    x_T: (B, C, h, w) standard normal noise. The loop keeps its dtype, but float32 at least, whatever the networks
        compute in: half precision rounds away what the late steps change.
    scheduler: a diffusers scheduler; it is set to `steps` here, and takes the steps.
    guides: each returns a shift of the clean estimate; the shifts are summed and edit the prediction before the
        scheduler sees it, so that Eq. 7 and 8 (or any other solver) use the informed noise (Eq. 9).
    generators: one an image, for schedulers that draw noise; they continue where `noise` left them.
    eta: for schedulers that take one (DDIM, TCD); None for the scheduler's own default.
    on_step: called after each step with what the scheduler was given, free of graphs (progress, trajectories).
    start: (B, C, h, w) clean latents to begin from, under the noise x_T of the first step that is taken; None begins
        from x_T alone. skipped: how many of the steps are left out at the beginning, as image to image does.
    Raises ConcordError: the scheduler is not supported, or expects another kind of prediction.
    """
    sampling = begin_sampling(x_T, scheduler, steps=steps, generators=generators, start=start, skipped=skipped)
    return advance(sampling, denoise, guides, eta=eta, on_step=on_step).x_t


@dataclass
class Sampling:
    """A sampling under way, of B images: all that its remaining steps need beside denoiser and guides.

    x_t: (B, C, h, w) the latent that the loop holds. x0: (B, C, h, w) the clean estimate of the last step, its guides'
    shift included, where it was asked for by `until`. scheduler: set to its steps, with what a solver keeps of them.
    begun: the first step that is taken; index: the next one. generators: one an image.
    """

    x_t: Tensor
    scheduler: Any
    begun: int
    index: int
    generators: Sequence[torch.Generator] | None = None
    x0: Tensor | None = None

    @property
    def count(self) -> int:
        return len(self.scheduler.timesteps)

    @property
    def halfway(self) -> int:
        """The step before which half of those that are taken lie."""
        return self.begun + (self.count - self.begun) // 2

    def images(self) -> "list[Sampling]":
        """Each image's sampling by itself."""
        return [_joined([self], [n]) for n in range(len(self.x_t))]


def together(samplings: Sequence[Sampling]) -> Sampling:
    """Samplings of one image each, at the same step of the same schedule, as one of a batch."""
    return _joined(samplings, [0] * len(samplings))


def begin_sampling(
    x_T: Tensor,
    scheduler: Any,
    *,
    steps: int,
    generators: Sequence[torch.Generator] | None = None,
    start: Tensor | None = None,
    skipped: int = 0,
) -> Sampling:
    """A sampling before its first step; arguments as of `sample`."""
    scheduler.set_timesteps(steps, device=x_T.device)
    begun = skipped * int(getattr(scheduler, "order", 1))
    if hasattr(scheduler, "set_begin_index"):
        # Rounded timesteps can occur twice, and a look-up by value would take the second.
        scheduler.set_begin_index(begun)
    x_t = x_T.detach() if x_T.dtype == torch.float64 else x_T.detach().float()
    if start is None:
        x_t = x_t * getattr(scheduler, "init_noise_sigma", 1.0)  # flow-matching schedulers have no such factor
    else:
        x_t = add_noise(start.to(x_t), x_t, Level.from_scheduler(scheduler, scheduler.timesteps[begun], begun))
    return Sampling(x_t, scheduler, begun, begun, generators)


def advance(
    sampling: Sampling,
    denoise: Denoise,
    guides: Sequence[Guide] = (),
    *,
    until: int | None = None,
    eta: float | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Sampling:
    """Take a sampling's steps up to step `until`, None for all, and return it; further arguments as of `sample`.

    Taken in parts with the same guides it is what it is taken at once; guides that are new know nothing of the steps
    before, but where the sampling began.
    """
    scheduler, count, generators = sampling.scheduler, sampling.count, sampling.generators
    given = {"generator": generators and list(generators), "eta": eta}
    taken = inspect.signature(scheduler.step).parameters
    extra = {name: value for name, value in given.items() if value is not None and name in taken}
    begin(guides, sampling.begun)
    told = getattr(denoise, "at", None)
    x_t = sampling.x_t
    for index in range(sampling.index, count if until is None else until):
        t = scheduler.timesteps[index]
        active = [guide for guide in guides if guide.active(index, count)]
        graphs = sum(guide.needs_graph for guide in active)
        level = Level.from_scheduler(scheduler, t, index)
        with torch.set_grad_enabled(graphs > 0):
            x_t = x_t.detach().requires_grad_(graphs > 0)
            if told is not None:
                told(index, count)
            prediction = denoise(_scaled(scheduler, x_t, t), t)
            _check_kind(prediction, scheduler)
            x0 = clean_estimate(prediction, x_t, level)
            step = Step(index, count, t, x_t, prediction, level, x0, scheduler, shared_graph=graphs > 1)
            shifts = [dx0.detach() for guide in active if (dx0 := guide(step)) is not None]
        with torch.no_grad():
            x_t, variance = x_t.detach(), None if prediction.variance is None else prediction.variance.detach()
            prediction = replace(prediction, value=prediction.value.detach(), variance=variance)
            if shifts:
                prediction = shift(prediction, torch.stack(shifts).sum(dim=0), level)
            output = _model_output(prediction, scheduler)
            x_next = scheduler.step(output, t, x_t, **extra).prev_sample
            if on_step is not None or index + 1 == until:
                sampling.x0 = x0 = clean_estimate(prediction, x_t, level)
            if on_step is not None:
                on_step(Step(index, count, t, x_t, prediction, level, x0, scheduler))
        sampling.x_t, sampling.index = x_next, index + 1
        x_t = x_next
    return sampling


def _joined(samplings: Sequence[Sampling], rows: Sequence[int]) -> Sampling:
    """One sampling of a row of each of these, or of the rows of one."""
    first, whole = samplings[0], list(samplings) * (len(rows) if len(samplings) == 1 else 1)
    if any((one.index, one.count) != (first.index, first.count) for one in whole):
        raise ValueError("samplings are at different steps")
    shape = first.x_t.shape

    def picked(values: Sequence[Any]) -> Any:
        """What a solver keeps, of the rows: tensors of a latent's shape by rows, all else as the first has it."""
        if isinstance(values[0], Tensor) and values[0].shape[1:] == shape[1:] and values[0].ndim == len(shape):
            return torch.cat([value[n : n + 1] for value, n in zip(values, rows, strict=True)])
        if isinstance(values[0], list | tuple):
            return type(values[0])(picked(each) for each in zip(*values, strict=True))
        return values[0]

    scheduler = copy.copy(first.scheduler)
    for name in vars(scheduler):
        setattr(scheduler, name, picked([vars(one.scheduler)[name] for one in whole]))
    return replace(
        first,
        x_t=picked([one.x_t for one in whole]),
        x0=None if first.x0 is None else picked([one.x0 for one in whole]),
        scheduler=scheduler,
        generators=first.generators and [(one.generators or ())[n] for one, n in zip(whole, rows, strict=True)],
    )


def _scaled(scheduler: Any, x_t: Tensor, t: Tensor | int) -> Tensor:
    scale = getattr(scheduler, "scale_model_input", None)
    return x_t if scale is None else scale(x_t, t)


def _check_kind(prediction: Prediction, scheduler: Any) -> None:
    """A scheduler reads the output by its own `prediction_type`; flow-matching ones have no such setting."""
    expected = scheduler.config.get("prediction_type", "flow_prediction")
    if prediction.kind != expected:
        raise ConcordError(
            f'the denoiser predicts "{prediction.kind}" but {type(scheduler).__name__} expects "{expected}"; '
            "set the scheduler's prediction_type to match the model"
        )


def _model_output(prediction: Prediction, scheduler: Any) -> Tensor:
    """The tensor for `scheduler.step`: value and learned variance side by side where the scheduler reads both.

    Only DDPM does. DPM-Solver also has a `variance_type`, but then keeps the first 3 channels, which breaks latents.
    """
    reads_variance = any(kind.__name__ == "DDPMScheduler" for kind in type(scheduler).__mro__)
    if not reads_variance or scheduler.config.variance_type not in ("learned", "learned_range"):
        return prediction.value
    if prediction.variance is None:
        raise ConcordError(
            f'{type(scheduler).__name__} expects a variance that is "{scheduler.config.variance_type}", but the '
            'denoiser predicts none; set its variance_type to "fixed_small"'
        )
    return torch.cat([prediction.value, prediction.variance], dim=1)
