"""Schedulers by a recipe's word, or by the name of diffusers' class, on a pipeline's own noise schedule."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from concord.diffusion.level import Level
from concord.diffusion.prediction import Kind
from concord.errors import ConcordError
from concord.text import listed, nearest

_CLASSES: dict[str, tuple[str, str]] = {
    "ddim": ("DDIMScheduler", ""),
    "ddpm": ("DDPMScheduler", ""),
    "minimax": ("DDPMScheduler", ""),
    "dpm++": ("DPMSolverMultistepScheduler", "DPMSolverMultistepScheduler"),
    "unipc": ("UniPCMultistepScheduler", "UniPCMultistepScheduler"),
    "deis": ("DEISMultistepScheduler", "DEISMultistepScheduler"),
    "euler": ("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"),
    "heun": ("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
    "lcm": ("LCMScheduler", "FlowMatchLCMScheduler"),
    "tcd": ("TCDScheduler", ""),
}
"""By word: the class for a model that predicts noise or v, and the one for a flow, where there is one."""
_NOISE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")
"""What the model was trained on: said even where it is the stock class's default, as another's may differ (LCM's)."""
KEY = "pipeline.scheduler"


def prediction_kind(pipeline: Any) -> Kind:
    """What a pipeline's denoiser predicts; flow-matching schedulers have no such setting."""
    kind: Kind = pipeline.scheduler.config.get("prediction_type", "flow_prediction")
    return kind


def named_scheduler(
    pipeline: Any, name: str = "ddim", learned_variance: bool = False, options: Mapping[str, Any] | None = None
) -> Any:
    """A fresh scheduler on a pipeline's noise schedule, or its flow's.

    `ddim`: eta 0, as the paper samples. `ddpm`: with the learned variance where the model has one. `minimax`: the same
    as the Minimax repository runs it, its steps spread over the whole schedule from the last to 0 (its guidance on 3
    channels is a setting of `DiT.denoise`). `stock`: the pipeline's own. Any other: a word of `_CLASSES`, or a class of
    diffusers. Latents exceed [-1, 1], so none but `stock` clips.

    options: arguments of the class, over the pipeline's own.
    Raises ConcordError: an unknown name or option, or a class that cannot sample what the model predicts.
    """
    stock, kind, options = pipeline.scheduler, prediction_kind(pipeline), dict(options or {})
    shape = type(stock) if name == "stock" else _shape(name, kind, type(pipeline).__name__)
    taken = inspect.signature(shape.__init__).parameters
    if unknown := [key for key in options if key not in taken or key == "self"]:
        known = [key for key in taken if key != "self"]
        raise ConcordError(
            f"{KEY}_options: {shape.__name__} has no option {unknown[0]}{nearest(unknown[0], known)}; it takes"
            f" {listed(known, 40)}"
        )
    if options.get("prediction_type", kind) != kind:
        raise ConcordError(f"{KEY}_options: prediction_type is the model's own, {kind}; leave it out")
    given: dict[str, Any] = {}
    if name != "stock":
        given |= {key: stock.config[key] for key in _NOISE if key in stock.config} | {"clip_sample": False}
        if any(one.__name__ == "DDPMScheduler" for one in shape.__mro__):
            given["variance_type"] = "learned_range" if learned_variance else "fixed_small"
        elif "variance_type" in taken:  # DPM-Solver would take the first 3 channels of a learned one
            given["variance_type"] = taken["variance_type"].default
        if name == "minimax":
            given |= {"timestep_spacing": "linspace", "steps_offset": 0}
        if kind == "flow_prediction" and "use_flow_sigmas" in taken:
            given |= {"use_flow_sigmas": True, "prediction_type": kind}
        shift = stock.config.get("shift", stock.config.get("flow_shift", 1.0))
        given |= {"shift": shift, "flow_shift": shift}
    given = {key: value for key, value in given.items() if key in taken} | options
    config = {key: value for key, value in stock.config.items() if key in taken or key.startswith("_")}
    with _one_line(shape.__name__, options):
        scheduler = shape.from_config(config if name != "stock" else stock.config, **given)
    flows = "FlowMatch" in shape.__name__ or bool(scheduler.config.get("use_flow_sigmas", False))
    expected = "flow_prediction" if flows else scheduler.config.get("prediction_type", "epsilon")
    if name != "stock" and expected != kind:
        raise ConcordError(
            f"{type(pipeline).__name__} predicts {_WORDS[kind]}, which {shape.__name__} does not sample; set `{KEY}` to"
            f" {_for_kind(kind)}"
        )
    return scheduler


def check_scheduler(scheduler: Any, steps: int, options: Mapping[str, Any] | None = None) -> None:
    """Set a scheduler to so many steps; a ConcordError where it cannot, or the own sampler or a guide could not follow.

    Where its schedule is shifted by the image's size, it is set as for no shift.
    """
    name = type(scheduler).__name__
    parameters = inspect.signature(scheduler.step).parameters
    needed = [key for key, one in parameters.items() if one.default is one.empty and one.kind != one.VAR_KEYWORD]
    if further := [key for key in needed if key not in ("model_output", "timestep", "sample")]:
        raise ConcordError(f"{KEY}: {name} wants {further[0]} at each step, which no sampling has; set another")
    shifted = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting", False) else {}
    with _one_line(f"{steps} steps of {name}", options or {}):
        scheduler.set_timesteps(steps, **shifted)
    if len(scheduler.timesteps) > 1 and scheduler.timesteps[0] < scheduler.timesteps[-1]:
        raise ConcordError(f"{KEY}: {name} goes from image to noise; set one that samples")
    Level.from_scheduler(scheduler, scheduler.timesteps[0], 0)


@contextlib.contextmanager
def _one_line(what: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Say what diffusers has against a scheduler or its options as one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConcordError(f"{KEY}{'_options' if options else ''}: {what} cannot be: {reason[:200]}") from None


def _shape(name: str, kind: Kind, pipeline: str) -> type[Any]:
    """The class of a word, or of diffusers by its name."""
    import diffusers

    if name in _CLASSES:
        found = _CLASSES[name][kind == "flow_prediction"]
        if not found:
            raise ConcordError(
                f"{pipeline} predicts a flow, which {name} does not sample; set `{KEY}` to {_for_kind(kind)}"
            )
        return getattr(diffusers, found)
    known = [one for one in dir(diffusers) if one.endswith("Scheduler")]
    if name not in known:
        hint = nearest(name, [*known, *_CLASSES])
        raise ConcordError(
            f'unknown scheduler "{name}"{hint}; set `{KEY}` to {", ".join(_CLASSES)}, stock, or a class of diffusers'
        )
    shape: type[Any] = getattr(diffusers, name)
    with _one_line(name, {}):  # one that needs a package which is not here says so at any attribute
        samples = hasattr(shape, "from_config") and hasattr(shape, "step")
    if not samples:
        raise ConcordError(f"{KEY}: {name} takes no steps; set one that samples")
    return shape


_WORDS: dict[str, str] = {"epsilon": "noise", "v_prediction": "v", "flow_prediction": "a flow"}


def _for_kind(kind: str) -> str:
    """Words that sample what a model predicts."""
    words = [word for word, classes in _CLASSES.items() if classes[kind == "flow_prediction"]]
    return f"{', '.join(words)} or stock"
