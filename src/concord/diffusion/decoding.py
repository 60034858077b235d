"""From latents to images, by whatever autoencoder a diffusers pipeline has; differentiable."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.errors import ConcordError

Decode = Callable[[Tensor], Tensor]
_READABLE = ("AutoencoderKL", "AutoencoderDC", "AutoencoderTiny")


def decoder(pipeline: Any, size: tuple[int, int] | None = None, side: int | None = None) -> Decode:
    """The function that takes a pipeline's latents, scheduler space, to images (B, 3, H, W), about [-1, 1], unclamped.

    pipeline: one whose `vae` is `_READABLE`: others normalise latents in ways of their own. size: (height, width) in
    pixels; only for latents that are packed into tokens (FLUX), and there a square if None. side: shrink the latents
    first, so that the images' shorter side is about so many pixels; never enlarged.
    """
    vae = autoencoder(pipeline)
    fine: list[Any] = []

    def decode(latents: Tensor) -> Tensor:
        if not fine:
            fine.append(_overflow_free(vae))
        grid = shrunk(pipeline, unpacked(pipeline, latents, size), side)
        images: Tensor = fine[0].decode(_descaled(vae, grid).to(fine[0].dtype)).sample
        return images.to(latents.dtype)

    return decode


def autoencoder(pipeline: Any) -> Any:
    """A pipeline's autoencoder, one of `_READABLE`; a ConcordError for any other."""
    vae: Any = getattr(pipeline, "vae", None)
    vae = getattr(vae, "_orig_mod", vae)  # what torch.compile wrapped
    if type(vae).__name__ not in _READABLE:
        raise ConcordError(
            f"{type(pipeline).__name__} decodes with {type(vae).__name__}, which is not one of {', '.join(_READABLE)}:"
            " no recipe informs it (informing.enabled=false makes images without); in Python, give decode= to"
            " concord.inform, a function from the scheduler's latents to images in [-1, 1]"
        )
    return vae


def _overflow_free(vae: Any) -> Any:
    """The autoencoder, or a float32 copy of it where it overflows in float16 (SDXL's says so: `force_upcast`)."""
    if vae.dtype != torch.float16 or not vae.config.get("force_upcast", False):
        return vae
    if any(weight.device.type == "meta" for weight in vae.parameters()):
        raise ConcordError(
            "this autoencoder overflows in float16 and is offloaded: load the pipeline in bfloat16, or give"
            " tiny=AutoencoderTiny for the gradient"
        )
    return copy.deepcopy(vae).float().requires_grad_(False)


def tiny_decoder(pipeline: Any, tiny: Any, size: tuple[int, int] | None = None, side: int | None = None) -> Decode:
    """As `decoder`, by an `AutoencoderTiny` of the same latents: it takes them in scheduler space, without a scale.

    It starts with tanh(x / 3) * 3, so gradients fade where |latents| > 4.
    """

    def decode(latents: Tensor) -> Tensor:
        grid = shrunk(pipeline, unpacked(pipeline, latents, size), side)
        images: Tensor = tiny.decode(grid.to(tiny.device, tiny.dtype)).sample
        return images.to(latents.device, latents.dtype)

    return decode


def shrunk(pipeline: Any, latents: Tensor, side: int | None) -> Tensor:
    """Latents (B, C, h, w) resized, antialiased, to those of images whose shorter side has about `side` pixels.

    An encoder that sees 224 pixels needs no image of 768; decoding costs by the pixel. The shorter side is rounded up
    to whole latents. Left alone where `side` is None or would enlarge; differentiable.
    """
    if side is None:
        return latents
    height, width = latents.shape[-2:]
    factor, short = vae_scale_factor(pipeline), min(height, width)
    target = math.ceil(side / factor)
    if target >= short:
        return latents
    size = (round(height * target / short), round(width * target / short))
    return F.interpolate(latents, size, mode="bilinear", align_corners=False, antialias=True)


def vae_scale_factor(pipeline: Any) -> int:
    """Pixels a latent, along a side: 8 for Stable Diffusion's autoencoder."""
    given = getattr(pipeline, "vae_scale_factor", None)
    return int(given) if given else 2 ** (len(pipeline.vae.config.block_out_channels) - 1)


def unpacked(pipeline: Any, latents: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Latents as a grid (B, C, h, w): FLUX and its relatives hold them as tokens (B, N, 4 C), two by two to a token."""
    if latents.dim() == 4:
        return latents
    unpack = getattr(pipeline, "_unpack_latents", None)
    if latents.dim() != 3 or unpack is None:
        raise ConcordError(
            f"{type(pipeline).__name__} samples latents of shape {tuple(latents.shape)}, which are no images' grid; "
            "give decode=, a function from these to images in [-1, 1]"
        )
    factor = int(pipeline.vae_scale_factor)
    tokens = latents.shape[1]
    if size is None:
        side = math.isqrt(tokens) * 2 * factor
        size = (side, side)
    height, width = size
    if (height // (2 * factor)) * (width // (2 * factor)) != tokens:
        raise ConcordError(
            f"{tokens} latent tokens do not make an image of {height} x {width} pixels; give size=(height, width)"
        )
    grid: Tensor = unpack(latents, height, width, factor)
    return grid


def latent_statistics(vae: Any, like: Tensor) -> tuple[Tensor | float, Tensor | float, float] | None:
    """What lies between the autoencoder's own latents z and the scheduler's, (z - mean) * scale / deviation.

    Mean and deviation are numbers, or (1, C, 1, 1) of the kind of `like`; None where both are the same.
    """
    config = vae.config
    if type(vae).__name__ == "AutoencoderTiny":
        return None
    scale, offset = float(config.scaling_factor), config.get("shift_factor")
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:  # Playground 2.5
        per_channel = [torch.tensor(v, dtype=like.dtype, device=like.device) for v in (mean, deviation)]
        m, s = (values.view(1, -1, 1, 1) for values in per_channel)
        return m, s, scale
    return (float(offset) if offset is not None else 0.0), 1.0, scale


def _descaled(vae: Any, latents: Tensor) -> Tensor:
    """From the scheduler's latents to the autoencoder's own."""
    if (statistics := latent_statistics(vae, latents)) is None:
        return latents
    mean, deviation, scale = statistics
    return latents * deviation / scale + mean
