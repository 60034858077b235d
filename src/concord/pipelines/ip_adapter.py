"""Real images as prompts of text-to-image models: IP-Adapter (Ye et al. 2023), loaded by diffusers."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from concord.errors import ConcordError
from concord.models.hub import model_path
from concord.models.pretrained import loading
from concord.recipe import IpAdapter

KEY = "pipeline.ip_adapter"
WIRED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
"""Classes whose own sampler takes image prompts here."""


def load_ip_adapter(pipeline: Any, adapter: IpAdapter) -> None:
    """Add an adapter's weights and image encoder to a pipeline, in place; a ConcordError names the recipe's key."""
    if type(pipeline).__name__ not in WIRED:
        found = type(pipeline).__name__
        raise ConcordError(f"`{KEY}` is for {' and '.join(WIRED)}, not for {found}; leave it out, or take start=real")
    file = PurePosixPath(adapter.weight_name)
    folder = "" if str(file.parent) == "." else str(file.parent)
    with loading(adapter.model, KEY):
        pipeline.load_ip_adapter(model_path(adapter.model), subfolder=folder, weight_name=file.name)
    pipeline.set_ip_adapter_scale(adapter.scale)


def image_prompts(pipeline: Any, images: Sequence[Image.Image], guided: bool) -> list[Tensor]:
    """What a UNet with one adapter takes as `image_embeds` of B images: [(nB, 1, ...)], n = 2 under guidance.

    The order is [uncond ; cond]; the unconditional half is what diffusers has: zeros, or the encoding of a black image.
    """
    from diffusers.models.embeddings import ImageProjection

    (projection,) = pipeline.unet.encoder_hid_proj.image_projection_layers
    hidden = not isinstance(projection, ImageProjection)
    with torch.no_grad():
        positive, negative = pipeline.encode_image(list(images), pipeline.unet.device, 1, hidden)
    return [torch.cat([negative, positive] if guided else [positive])[:, None]]
