"""Informing inside a diffusers pipeline's own call: the same guides, at its scheduler."""

import contextlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from concord.choices import Between
from concord.diffusion.attach import attach as attach
from concord.diffusion.decoding import Decode, decoder, tiny_decoder
from concord.diffusion.sampler import Guide
from concord.errors import ConcordError
from concord.guidance.concept_guide import ConceptGuide
from concord.guidance.texts import Texts
from concord.models.encoder import Encoder, load_encoder
from concord.text import counted

_log = logging.getLogger("concord")


@contextlib.contextmanager
def inform(
    pipe: Any,
    encoder: Encoder | str | Sequence[Encoder | str] | None = None,
    *,
    positives: Texts = (),
    negatives: Texts = (),
    guides: Sequence[Guide] = (),
    strength: float = 0.1,
    push: float | None = None,
    temperature: float | None = None,
    window: tuple[float, float] = (0.0, 1.0),
    every: int = 1,
    inner: int = 1,
    views: int = 1,
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
            DPM-Solver, DEIS, UniPC, LCM, TCD, Euler, Euler ancestral, Heun, and flow-matching Euler and Heun.
        encoder: an `Encoder`, or the directory or model id of a CLIP or SigLIP, loaded to the pipeline's device; or
            several, whose losses are averaged.
        positives: see `ConceptGuide.for_texts`; also negatives and temperature. With `num_images_per_prompt` k, one
            list for each prompt.
        guides: further guides, whose shifts are added; without positives they act alone, and need no encoder.
        strength: the shift's size relative to the predicted noise, for each image.
        push: the size of all shifts together, instead of `strength`, whatever the call's steps and scheduler.
        window: the part of the steps that is informed, as fractions of the schedule.
        every: a gradient at every k-th step of it.
        inner: gradients within such a step, each of what those before it made of the estimate.
        views: each gradient is the mean over so many views of the image (crops, shifts, noise).
        between: what the others do, see `ConceptGuide`.
        tiny: an `AutoencoderTiny` of the same latents, which makes the gradient cheap.
        decode: a function from the scheduler's latents to images in [-1, 1], for autoencoders that concord does not
            know.
        size: (height, width) in pixels, for pipelines that pack their latents (FLUX) and images that are not square.
        decode_size: pixels of the shorter side that is decoded for the gradient; None for the whole image.

    Yields:
        The `ConceptGuide`; its `uninformed_steps` counts, for each image, gradients that were not finite. None where
        other guides act alone.

    Raises ConcordError: the pipeline has no scheduler, or its scheduler, prediction or autoencoder is not supported;
    the scheduler is another informed pipeline's, too, or was replaced inside the block; the texts do not fit the
    batch; an argument cannot act.
    """
    _refuse_idle(locals())
    if guides and not positives:
        with attach(pipe, guides) as attached:
            yield None
        _warn_of_nothing(attached.steps, attached.moved, "none of the guides moved an image")
        return
    if encoder is None:
        raise ConcordError("an encoder is missing: give the directory or model id of a CLIP or SigLIP")
    with torch.inference_mode(False):
        device = getattr(pipe, "_execution_device", "cpu")
        given = [encoder] if isinstance(encoder, Encoder | str) else encoder
        encoder = [load_encoder(one, device=device) if isinstance(one, str) else one for one in given]
    if decode is None:
        decode = tiny_decoder(pipe, tiny, size, decode_size) if tiny is not None else decoder(pipe, size, decode_size)
    texts: dict[str, Any] = {"positives": positives, "negatives": negatives, "temperature": temperature}
    options: dict[str, Any] = {"window": window, "every": every, "inner": inner, "views": views, "between": between}
    options |= {"strength": strength} if push is None else {"push": push}
    concept_guide = ConceptGuide.for_texts(decode, encoder, **texts, **options)
    with _frozen(getattr(pipe, "vae", None), tiny), attach(pipe, [concept_guide, *guides]) as attached:
        yield concept_guide
    _warn_of_nothing(attached.steps, concept_guide.gradient_calls)
    lost = int(concept_guide.uninformed_steps.sum())
    if lost:
        _log.warning(
            "%d image-steps were left uninformed: their gradient was not finite (float16? bfloat16 does not overflow)",
            lost,
        )


def _refuse_idle(given: Mapping[str, Any]) -> None:
    """Refuse arguments of `inform` that could not act beside the others."""
    for name, one in inspect.signature(inform).parameters.items():
        if name in ("pipe", "guides", "positives") or given[name] in (one.default, []):
            continue
        if given["guides"] and not given["positives"]:
            raise ConcordError(f"{name} cannot act: there are guides and no positives; leave it out")
        if given["decode"] is not None and name in ("tiny", "size", "decode_size"):
            raise ConcordError(f"{name} cannot act: decode takes the whole way to images; leave it out")
        if name == "strength" and given["push"] is not None:
            raise ConcordError("strength cannot act: push says how much all steps move an image together; leave it out")


_NO_GRADIENT = "the window leaves none of them, or none that can be informed (pure noise cannot)"


def _warn_of_nothing(steps: int, acted: int, why: str = _NO_GRADIENT) -> None:
    """Say that a block informed nothing, and why."""
    if not steps:
        _log.warning("nothing was informed: the pipeline took no step inside the block")
    elif not acted:
        _log.warning("nothing was informed in %s of the pipeline: %s", counted(steps, "step"), why)


@contextlib.contextmanager
def _frozen(*networks: Any) -> Iterator[None]:
    """Take no gradients for weights inside the block: nobody needs them, and their graph takes memory."""
    modules = [network for network in networks if isinstance(network, torch.nn.Module)]
    trained = [(module, name) for module in modules for name, w in module.named_parameters() if w.requires_grad]
    for module, name in trained:
        module.get_parameter(name).requires_grad_(False)
    try:
        yield
    finally:  # by name: a call may have put other tensors there
        for module, name in trained:
            module.get_parameter(name).requires_grad_(True)
