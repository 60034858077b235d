"""Views of a decoded image, for gradients that hold of it however it is looked at."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST, NOISE = 0.85, 0.03
"""The shortest side of a crop, as a share of the image's; the standard deviation of the noise, of pixels in [-1, 1]."""


def view(pixels: Tensor, draws: Sequence[torch.Generator]) -> Tensor:
    """Each image (B, 3, H, W), about [-1, 1], cropped at a random place, back at its size, under faint noise.

    draws: a CPU generator an image, so that a view does not depend on what else is in the batch. Differentiable.
    """
    rows, noise = [], []
    for draw in draws:
        size, x, y = torch.rand(3, generator=draw).tolist()
        share = SMALLEST + (1 - SMALLEST) * size
        # The crop's middle, in coordinates where the image is [-1, 1].
        rows.append([[share, 0.0, (2 * x - 1) * (1 - share)], [0.0, share, (2 * y - 1) * (1 - share)]])
        noise.append(torch.randn(pixels.shape[1:], generator=draw))
    grid = F.affine_grid(torch.tensor(rows).to(pixels), list(pixels.shape), align_corners=False)
    seen = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return seen + NOISE * torch.stack(noise).to(pixels)


def draws(seeds: Sequence[int], *place: int) -> list[torch.Generator]:
    """A generator an image for one view: of its seed and where in the sampling the view is taken."""
    mixed = 0
    for number in place:
        mixed = (mixed * 1009 + number + 1) % 2**31
    return [torch.Generator().manual_seed((seed * 1000003 + mixed) % 2**63) for seed in seeds]
