"""Guides at the scheduler of any diffusers pipeline, for those who call it themselves.

A pipeline hands its prediction, classifier-free guidance included, to `scheduler.step`. That call is wrapped: the
guides see the step, and the edited prediction goes on. It needs nothing of the pipeline but its scheduler; compiled or
offloaded denoisers, callbacks and adapters work as they do without.
"""

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.level import Level
from concord.diffusion.prediction import Prediction, clean_estimate, shift
from concord.diffusion.sampler import Guide, Step, begin
from concord.errors import ConcordError

_log = logging.getLogger("concord")


@dataclass
class Attached:
    """Guides at a pipeline's scheduler, and what came of it.

    steps: how many the scheduler took. moved: at how many of them a guide shifted the estimate.
    """

    scheduler: Any
    guides: Sequence[Guide]
    paired: Callable[[], bool] = lambda: False
    steps: int = 0
    moved: int = 0
    last: tuple[int, int] = field(default=(0, 0), repr=False)

    def edited(self, output: Tensor, t: Tensor | float, sample: Tensor) -> Tensor:
        """What the scheduler is to be given instead of the pipeline's own prediction."""
        index, count = _position(self.scheduler, t), len(self.scheduler.timesteps)
        if not self.steps or index <= self.last[0] or count != self.last[1]:
            begin(self.guides, index)
        self.steps, self.last = self.steps + 1, (index, count)
        active = [guide for guide in self.guides if guide.active(index, count)]
        if not active:
            return output
        # Under inference_mode no tensor can ever take a gradient: copies made outside of it can.
        with torch.inference_mode(False), torch.no_grad():
            value, x_t = _fine(output), _fine(sample)
            if self.paired() and all(torch.equal(*both.chunk(2)) for both in (x_t, value)):
                value, x_t = value.chunk(2)[0], x_t.chunk(2)[0]
            value, variance = value[:, : x_t.shape[1]], value[:, x_t.shape[1] :]  # DDPM may be given a learned variance
            kind = self.scheduler.config.get("prediction_type", "flow_prediction")
            prediction = Prediction(value, kind, variance if variance.shape[1] else None)
            level = Level.from_scheduler(self.scheduler, t, index)
            x0 = clean_estimate(prediction, x_t, level)
            seen = Step(index, count, t, x_t, prediction, level, x0, self.scheduler)  # type: ignore[arg-type]
            shifts = [dx0.detach() for guide in active if (dx0 := guide(seen)) is not None]
            if not shifts:
                return output
            self.moved += 1
            moved = shift(prediction, torch.stack(shifts).sum(dim=0), level).value - value
            moved = moved.repeat(len(output) // len(moved), *[1] * (moved.dim() - 1))
            edited = output.clone().to(moved.dtype)
            edited[:, : moved.shape[1]] += moved
        return edited.to(output.dtype)


@contextlib.contextmanager
def attach(pipe: Any, guides: Sequence[Guide]) -> Iterator[Attached]:
    """Let guides (none that needs a graph) edit what a pipeline's scheduler is given; on exit it is as it was.

    Raises ConcordError also where another pipeline's guides are at the scheduler, or it is replaced inside the block.
    """
    scheduler, name = getattr(pipe, "scheduler", None), type(pipe).__name__
    if scheduler is None or not callable(getattr(scheduler, "step", None)):
        raise ConcordError(f"{name} has no scheduler whose steps could be informed")
    if getattr(scheduler.step, "informs", pipe) is not pipe:
        raise ConcordError(
            f"the scheduler of this {name} belongs to another pipeline, too, which is informed in this very block; give"
            " each its own first: pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)"
        )
    if any(guide.needs_graph for guide in guides):
        raise ConcordError(
            f"informing mode exact needs gradients through the denoiser, which {name} does not keep"
            " inside its call; set `informing.mode` to fast"
        )
    clips = [name for name in ("clip_sample", "thresholding") if scheduler.config.get(name, False)]
    if clips and guides:
        _log.warning(
            "the scheduler has %s on, which cuts off part of each shift: for latents it should be off", clips[0]
        )
    with _restored(scheduler), _pairs(pipe) as paired:
        attached = Attached(scheduler, guides, paired)
        scheduler.step = _wrapped(scheduler.step, attached, pipe)
        yield attached
    if pipe.scheduler is not scheduler:
        raise ConcordError(
            f"the scheduler of this {name} was replaced inside the block, and what was made with the new one is not"
            " informed: set pipe.scheduler before the block"
        )


def _wrapped(step: Callable[..., Any], attached: Attached, pipe: Any) -> Callable[..., Any]:
    signature = inspect.signature(step)

    @functools.wraps(step)  # pipelines look at the signature to see which arguments they may give
    def informed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = (bound.arguments[name] for name in ("model_output", "timestep", "sample"))
        bound.arguments["model_output"] = attached.edited(*given)
        return step(*bound.args, **bound.kwargs)

    informed.informs = pipe  # type: ignore[attr-defined]
    return informed


@contextlib.contextmanager
def _pairs(pipe: Any) -> Iterator[Callable[[], bool]]:
    """Whether what a pipeline steps may be [x ; x], as DiT's is under guidance; two images can be equal, too.

    Its denoiser is given the null class for the second half then, and for equal images the same classes.
    """
    labels: list[Tensor] = []
    if not any(kind.__name__ == "DiTPipeline" for kind in type(pipe).__mro__):
        yield lambda: False
        return

    def note(module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        labels[:] = [given["class_labels"]] if given.get("class_labels") is not None else []

    hook = pipe.transformer.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield lambda: bool(labels) and len(labels[0]) % 2 == 0 and not torch.equal(*labels[0].chunk(2))
    finally:
        hook.remove()


def _position(scheduler: Any, t: Tensor | float) -> int:
    """The number of this step on the scheduler's list of timesteps."""
    if hasattr(scheduler, "_init_step_index"):
        if scheduler.step_index is None:
            scheduler._init_step_index(t)  # as its own step would do now
        return int(scheduler.step_index)
    steps = scheduler.timesteps
    found = torch.nonzero(steps == torch.as_tensor(t).to(steps)).flatten().tolist()
    if not found:
        raise ConcordError(f"{type(scheduler).__name__} was given timestep {float(t):g}, which is none of its own")
    # PNDM has its second timestep twice; its counter tells which of the two this is.
    return int(found[-1] if len(found) > 1 and getattr(scheduler, "counter", 0) > 1 else found[0])


def _fine(values: Tensor) -> Tensor:
    """A copy in float32 at least, free to take part in a graph."""
    return values.detach().clone().to(torch.promote_types(values.dtype, torch.float32))


@contextlib.contextmanager
def _restored(scheduler: Any) -> Iterator[None]:
    """Put back every attribute of a scheduler, and what is in its lists (the history of multistep solvers)."""
    attributes = dict(vars(scheduler))
    lists = {name: list(value) for name, value in attributes.items() if isinstance(value, list)}
    try:
        yield
    finally:
        vars(scheduler).clear()
        vars(scheduler).update(attributes)
        for name, items in lists.items():
            attributes[name][:] = items
