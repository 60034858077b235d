"""Real images as prompts of text-to-image models: IP-Adapter (Ye et al. 2023), loaded by diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from concord.errors import ConcordError
from concord.models.hub import model_path
from concord.models.pretrained import loading
from concord.recipe import IpAdapter

if TYPE_CHECKING:
    from torch import Tensor

KEY = "pipeline.ip_adapter"
SAMPLED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")
"""Classes whose own sampler takes image prompts."""
BESIDE = SAMPLED[:2]
"""Those whose adapters always bring the image encoder, in a folder beside the weights."""
CALLED = ("FluxPipeline",)
"""Classes whose own call takes them; their adapters bring no image encoder."""
WIRED = (*SAMPLED, *CALLED)


def load_ip_adapter(pipeline: Any, adapter: IpAdapter) -> None:
    """Add an adapter's weights and image encoder to a pipeline, in place; a ConcordError names the recipe's key."""
    if unfit := unfitting(type(pipeline).__name__, adapter):
        raise ConcordError(unfit)
    file = PurePosixPath(adapter.weight_name)
    folder = "" if str(file.parent) == "." else str(file.parent)
    options: dict[str, Any] = {"subfolder": folder, "weight_name": file.name}
    with loading(adapter.model, KEY):
        path = model_path(adapter.model)
        encoder = model_path(adapter.image_encoder) if adapter.image_encoder else None
        if type(pipeline).__name__ in CALLED:
            options["image_encoder_pretrained_model_name_or_path"] = encoder
            options["image_encoder_dtype"] = pipeline.transformer.dtype
        elif type(pipeline).__name__ not in BESIDE:  # SD 3 looks for a folder from the working directory
            options["image_encoder_folder"] = encoder or str(PurePosixPath(path) / folder / "image_encoder")
        pipeline.load_ip_adapter(path, **options)
    pipeline.set_ip_adapter_scale(adapter.scale)
    if type(pipeline).__name__ in CALLED:
        pipeline.prepare_ip_adapter_image_embeds = _an_image_each


def _an_image_each(images: Any, embeds: Sequence[Tensor], device: Any, batch: int) -> list[Tensor]:
    """In place of FLUX's own, which repeats what it is given for every prompt: all prompts would see all images."""
    if any(len(one) != batch for one in embeds):
        raise ValueError(f"expected embeddings of {batch} images, one for each prompt")
    return [one.to(device) for one in embeds]


def unfitting(kind: str, adapter: IpAdapter) -> str | None:
    """Why a pipeline of this class cannot take an adapter so described; None where it can."""
    if kind not in WIRED:
        return f"`{KEY}` is for {', '.join(WIRED)}, not for {kind}; leave it out, or take start=real"
    if kind in CALLED and adapter.image_encoder is None:
        return f"`{KEY}.image_encoder`: adapters of a {kind} bring no image encoder; name a CLIP vision model"
    if kind in BESIDE and adapter.image_encoder is not None:
        return f"`{KEY}.image_encoder`: a {kind} takes the encoder that lies beside the weights; leave it out"
    return None


def image_prompts(pipeline: Any, images: Sequence[Image.Image], guided: bool) -> list[Tensor]:
    """What a UNet with one adapter takes as `image_embeds` of B images: [(nB, 1, ...)], n = 2 under guidance.

    The order is [uncond ; cond]; the unconditional half is what diffusers has: zeros, or the encoding of a black image.
    """
    import torch
    from diffusers.models.embeddings import ImageProjection

    (projection,) = pipeline.unet.encoder_hid_proj.image_projection_layers
    hidden = not isinstance(projection, ImageProjection)
    with torch.no_grad():
        positive, negative = pipeline.encode_image(list(images), pipeline.unet.device, 1, hidden)
    return [torch.cat([negative, positive] if guided else [positive])[:, None]]


def image_prompts_sd3(pipeline: Any, images: Sequence[Image.Image], guided: bool) -> Tensor:
    """What SD 3's transformer takes as `ip_adapter_image_embeds` of B images, (nB, S, D), in the same order."""
    import torch

    with torch.no_grad():
        positive: Tensor = pipeline.encode_image(list(images), pipeline.transformer.device)
    return torch.cat([torch.zeros_like(positive), positive]) if guided else positive


def call_options(pipeline: Any, images: Sequence[Image.Image]) -> dict[str, Any]:
    """Arguments of a FLUX pipeline's call for B images, one for each prompt: (B, 1, D) of them, and of black ones."""
    import torch

    black = Image.fromarray(np.zeros((64, 64, 3), dtype=np.uint8))
    device = pipeline.transformer.device
    with torch.no_grad():
        positive, negative = (
            pipeline.encode_image(list(of), device, 1)[:, None].to(pipeline.transformer.dtype)
            for of in (images, [black] * len(images))
        )
    return {"ip_adapter_image_embeds": [positive], "negative_ip_adapter_image_embeds": [negative]}
