"""Square crops of real images as RDED has them: drawn at random, ranked by loss, put together. All but `amid` NumPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from concord.runs.plan import Crop

if TYPE_CHECKING:
    from torch import Tensor

SCALE = (0.08, 1.0)
"""A crop's share of its image's area, uniform between these."""
ATTEMPTS = 10
"""Draws of a share before the middle is taken: a large square does not fit into a long image."""


def random_square(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a square of an image: left, top and side in pixels, as torchvision's RandomResizedCrop at ratio (1, 1)."""
    for _ in range(ATTEMPTS):
        side = round(math.sqrt(width * height * rng.uniform(*SCALE)))
        if 0 < side <= min(width, height):
            return int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1)), side
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def cut(image: Image.Image, crop: Crop, side: int) -> np.ndarray:
    """A crop of an image at `side` pixels: uint8 (side, side, 3); bilinear, antialiased."""
    # Cropped before it is scaled: with `box`, Pillow would let pixels from beyond the crop in at its edges.
    return np.asarray(image.crop(crop.box).resize((side, side), Image.Resampling.BILINEAR))


def ranks(losses: np.ndarray) -> list[tuple[int, int]]:
    """Put the crops of some images in the order in which they are taken, as pairs (image, crop).

    The best crop of each image goes first, those with the lowest loss in front; then the second-best of each, and so
    on. What is as good keeps its order.

    losses: (images, crops).
    """
    best = np.argsort(losses, axis=1, kind="stable")
    ranked = np.take_along_axis(losses, best, axis=1)
    rounds = (np.argsort(column, kind="stable") for column in ranked.T)
    return [(int(image), int(best[image, nth])) for nth, images in enumerate(rounds) for image in images]


def mosaic(crops: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Put f x f crops together, row by row, to one image: uint8 (size, size, 3).

    Where `size` is no multiple of f, the first rows and columns of cells are a pixel larger, and a crop fills its cell
    by the nearest of its pixels.
    """
    factor = math.isqrt(len(crops))
    edges = [size // factor + (i < size % factor) for i in range(factor)]

    def fill(crop: np.ndarray, height: int, width: int) -> np.ndarray:
        rows, columns = (np.arange(n) * crop.shape[0] // n for n in (height, width))
        return crop[rows][:, columns]

    cells = [[fill(crops[i * factor + j], h, w) for j, w in enumerate(edges)] for i, h in enumerate(edges)]
    return np.concatenate([np.concatenate(row, axis=1) for row in cells])


def amid(crops: Tensor, size: int, mean: Tensor) -> Tensor:
    """Crops (B, 3, s, s) in [0, 1] in the middle of images (B, 3, size, size) of one colour.

    mean: of the network's normalisation, three values in [0, 1]; after it, what surrounds a crop is 0, as in RDED.
    """
    s = crops.shape[-1]
    start = (size - s) // 2
    canvas = mean.to(crops).view(1, 3, 1, 1).expand(len(crops), 3, size, size).clone()
    canvas[..., start : start + s, start : start + s] = crops
    return canvas
