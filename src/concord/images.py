"""Between PIL images and tensors of pixels in [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_pixels(image: Image.Image) -> Tensor:
    """A PIL image as pixels (3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(127.5).sub(1)


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] as PIL images, rounded as diffusers rounds; values outside are clamped."""
    array = (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(a) for a in (array * 255).round().astype(np.uint8)]


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image with a shorter side of at most `side` pixels, its aspect kept; smaller ones are left as they are."""
    short = min(image.size)
    if short <= side:
        return image
    width, height = (round(edge * side / short) for edge in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def batches(images: Sequence[Image.Image], size: int = 64) -> Iterator[Tensor]:
    """Pixels (B, 3, H, W) of images in their order; a batch ends where the image size changes."""
    start = 0
    for end in range(1, len(images) + 1):
        if end == len(images) or end - start == size or images[end].size != images[start].size:
            yield torch.stack([to_pixels(image) for image in images[start:end]])
            start = end
