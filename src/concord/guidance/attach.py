"""The same guides at the scheduler of any diffusers pipeline, for those who call it themselves.

A pipeline hands its prediction, classifier-free guidance included, to `scheduler.step`. That call is wrapped: the
guides see the step, and the edited prediction goes on. It needs nothing of the pipeline but its scheduler and its
autoencoder; compiled or offloaded denoisers, callbacks and adapters work as they do without.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.decoding import Decode, decoder, tiny_decoder
from concord.diffusion.level import Level
from concord.diffusion.prediction import Prediction, clean_estimate, shift
from concord.diffusion.sampler import Guide, Step
from concord.errors import ConcordError
from concord.guidance.concept_guide import Between, ConceptGuide
from concord.guidance.texts import Texts
from concord.models.encoder import Encoder, load_encoder

_log = logging.getLogger("concord")


@contextlib.contextmanager
def inform(
    pipe: Any,
    encoder: Encoder | str | None = None,
    *,
    positives: Texts = (),
    negatives: Texts = (),
    guides: Sequence[Guide] = (),
    strength: float = 0.1,
    temperature: float | None = None,
    window: tuple[float, float] = (0.0, 1.0),
    every: int = 1,
    between: Between = "none",
    tiny: Any | None = None,
    decode: Decode | None = None,
    size: tuple[int, int] | None = None,
    decode_size: int | None = None,
) -> Iterator[Any]:
    """Inform every call of a diffusers pipeline by concepts, inside the block and there alone (fast mode).

        with concord.inform(pipe, encoder, positives=[["beagle with long drooping ears"]], strength=0.1):
            images = pipe("a photo of a beagle").images

    On exit, also by an exception, the pipeline is as it was: attributes, the scheduler's state, its outputs.

    Args:
        pipe: any pipeline with a `scheduler` and an autoencoder: noise, v- and flow-prediction; DDIM, DDPM, PNDM,
            DPM-Solver, DEIS, UniPC, Euler, Euler ancestral, Heun and the flow-matching Euler and Heun schedulers.
        encoder: an `Encoder`, or the directory or model id of a CLIP or SigLIP, loaded to the pipeline's device.
        positives: see `ConceptGuide.for_texts`; also negatives and temperature. With `num_images_per_prompt` k, one
            list for each prompt.
        guides: further guides, whose shifts are added; without positives they act alone, and need no encoder.
        strength: the shift's size relative to the predicted noise, for each image.
        window: the part of the steps that is informed, as fractions of the schedule.
        every: a gradient at every k-th step of it.
        between: what the others do, see `ConceptGuide`.
        tiny: an `AutoencoderTiny` of the same latents, which makes the gradient cheap.
        decode: a function from the scheduler's latents to images in [-1, 1], for autoencoders that concord does not
            know.
        size: (height, width) in pixels, for pipelines that pack their latents (FLUX) and images that are not square.
        decode_size: pixels of the shorter side that is decoded for the gradient; None for the whole image.

    Yields:
        The `ConceptGuide`; its `uninformed_steps` counts, for each image, gradients that were not finite. None where
        other guides act alone.

    Raises:
        ConcordError: the pipeline has no scheduler, or its scheduler, prediction or autoencoder is not supported; the
            texts do not fit the batch.
    """
    if guides and not positives:
        with attach(pipe, guides):
            yield None
        return
    if encoder is None:
        raise ConcordError("an encoder is missing: give the directory or model id of a CLIP or SigLIP")
    if isinstance(encoder, str):
        with torch.inference_mode(False):
            encoder = load_encoder(encoder, device=getattr(pipe, "_execution_device", "cpu"))
    if decode is None:
        decode = tiny_decoder(pipe, tiny, size, decode_size) if tiny is not None else decoder(pipe, size, decode_size)
    texts: dict[str, Any] = {"positives": positives, "negatives": negatives, "temperature": temperature}
    options: dict[str, Any] = {"strength": strength, "window": window, "every": every, "between": between}
    concept_guide = ConceptGuide.for_texts(decode, encoder, **texts, **options)
    with _frozen(getattr(pipe, "vae", None), tiny), attach(pipe, [concept_guide, *guides]):
        yield concept_guide
    lost = int(concept_guide.uninformed_steps.sum())
    if lost:
        _log.warning(
            "%d image-steps were left uninformed: their gradient was not finite (float16? bfloat16 does not overflow)",
            lost,
        )


@contextlib.contextmanager
def attach(pipe: Any, guides: Sequence[Guide]) -> Iterator[None]:
    """Let guides edit what a pipeline's scheduler is given; see `inform` for what it leaves behind: nothing.

    Raises:
        ConcordError: there is no scheduler, or a guide needs the graph through the denoiser, which no pipeline keeps.
    """
    scheduler = getattr(pipe, "scheduler", None)
    if scheduler is None or not callable(getattr(scheduler, "step", None)):
        raise ConcordError(f"{type(pipe).__name__} has no scheduler whose steps could be informed")
    if any(guide.needs_graph for guide in guides):
        raise ConcordError(
            f"informing mode exact needs gradients through the denoiser, which {type(pipe).__name__} does not keep"
            " inside its call; set `informing.mode` to fast"
        )
    clips = [name for name in ("clip_sample", "thresholding") if scheduler.config.get(name, False)]
    if clips and guides:
        _log.warning(
            "the scheduler has %s on, which cuts off part of each shift: for latents it should be off", clips[0]
        )
    with _restored(scheduler):
        scheduler.step = _wrapped(scheduler, scheduler.step, guides, _doubles(pipe))
        yield


def _wrapped(scheduler: Any, step: Callable[..., Any], guides: Sequence[Guide], doubles: bool) -> Callable[..., Any]:
    signature = inspect.signature(step)

    @functools.wraps(step)  # pipelines look at the signature to see which arguments they may give
    def informed(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        given["model_output"] = _edited(
            scheduler, given["model_output"], given["timestep"], given["sample"], guides, doubles
        )
        return step(*bound.args, **bound.kwargs)

    return informed


def _edited(
    scheduler: Any, output: Tensor, t: Tensor | float, sample: Tensor, guides: Sequence[Guide], doubles: bool
) -> Tensor:
    """What the scheduler is to be given instead of the pipeline's own prediction."""
    index, count = _position(scheduler, t), len(scheduler.timesteps)
    active = [guide for guide in guides if guide.active(index, count)]
    if not active:
        return output
    # Under inference_mode no tensor can ever take a gradient: copies made outside of it can.
    with torch.inference_mode(False), torch.no_grad():
        value, x_t = _fine(output), _fine(sample)
        if doubles and len(x_t) % 2 == 0 and all(torch.equal(*both.chunk(2)) for both in (x_t, value)):
            value, x_t = value.chunk(2)[0], x_t.chunk(2)[0]
        value, variance = value[:, : x_t.shape[1]], value[:, x_t.shape[1] :]  # DDPM may be given a learned variance
        kind = scheduler.config.get("prediction_type", "flow_prediction")
        prediction = Prediction(value, kind, variance if variance.shape[1] else None)
        level = Level.from_scheduler(scheduler, t, index)
        x0 = clean_estimate(prediction, x_t, level)
        seen = Step(index, count, t, x_t, prediction, level, x0, scheduler)  # type: ignore[arg-type]
        shifts = [dx0.detach() for guide in active if (dx0 := guide(seen)) is not None]
        if not shifts:
            return output
        moved = shift(prediction, torch.stack(shifts).sum(dim=0), level).value - value
        moved = moved.repeat(len(output) // len(moved), *[1] * (moved.dim() - 1))
        edited = output.clone().to(moved.dtype)
        edited[:, : moved.shape[1]] += moved
    return edited.to(output.dtype)


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


def _doubles(pipe: Any) -> bool:
    """Whether the pipeline steps its batch twice, [x ; x], under guidance: DiTPipeline does."""
    return any(kind.__name__ == "DiTPipeline" for kind in type(pipe).__mro__)


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


@contextlib.contextmanager
def _frozen(*networks: Any) -> Iterator[None]:
    """Take no gradients for weights inside the block: nobody needs them, and their graph takes memory."""
    names = {
        network: [name for name, weight in network.named_parameters() if weight.requires_grad]
        for network in networks
        if isinstance(network, torch.nn.Module)
    }
    for network in names:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network, trained in names.items():
            weights = dict(network.named_parameters())
            for name in trained:
                weights[name].requires_grad_(True)
