"""Differentiable Siamese augmentation (Zhao and Bilen 2021), as condensation matches with it and evaluates with it.

Facts from github.com/VICO-UoE/DatasetCondensation, `utils.py`: of the strategy's families one is chosen for each batch
(mode ``S``). In an evaluation each image draws its own parameters; where real and synthetic images are matched, all of
both batches share one draw (Siamese): ``draw(strategy, 1, generator)``, applied to both. Everything acts on normalised
pixels, where a blank is 0, the mean colour, and gradients pass through it.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from concord.choices import DSA

_BRIGHTNESS = 1.0
_SATURATION = 2.0
_CONTRAST = 0.5
_CROP = 0.125
_CUTOUT = 0.5
_SCALE = 1.2
_DEGREES = 15.0


def draw(strategy: str, n: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Draw `dsa_family`, () its place in `FAMILIES`, and `dsa`, (n, 3) in [0, 1): they fit any size of image."""
    names = strategy.split("_")
    place = list(FAMILIES).index(names[int(torch.randint(len(names), (), generator=generator))])
    return {"dsa_family": torch.tensor(place, dtype=torch.uint8), "dsa": torch.rand(n, 3, generator=generator)}


def apply(images: Tensor, view: dict[str, Tensor], mean: Tensor | None, std: Tensor | None) -> Tensor:
    """Apply the drawn family to (N, C, H, W) in [0, 1], normalised by mean and std (C,) meanwhile where given.

    view: a draw for each image, or one for all.
    """
    family, u = list(FAMILIES.values())[int(view["dsa_family"])], view["dsa"].to(images).expand(len(images), -1)
    if mean is None or std is None:
        return family(images, u)
    mean, std = mean.to(images).reshape(3, 1, 1), std.to(images).reshape(3, 1, 1)
    return family((images - mean) / std, u) * std + mean


def _color(images: Tensor, u: Tensor) -> Tensor:
    """Brightness, then saturation about each pixel's mean of channels, then contrast about the image's mean."""
    brightness, saturation, contrast = (column[:, None, None, None] for column in u.unbind(1))
    images = images + _BRIGHTNESS * (brightness - 0.5)
    middle = images.mean(dim=1, keepdim=True)
    images = (images - middle) * (_SATURATION * saturation) + middle
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - middle) * (contrast + _CONTRAST) + middle


def _crop(images: Tensor, u: Tensor) -> Tensor:
    """A crop of the same size, shifted by up to an eighth of each side, with blanks outside."""
    for axis, column in ((2, u[:, 0]), (3, u[:, 1])):
        side = images.shape[axis]
        reach = int(side * _CROP + 0.5)
        seen = torch.arange(side, device=u.device) + _whole(column, 2 * reach + 1)[:, None] - reach
        shape = (len(u), 1, side, 1) if axis == 2 else (len(u), 1, 1, side)
        inside = ((seen >= 0) & (seen < side)).view(shape)
        images = images.take_along_dim(seen.clamp(0, side - 1).view(shape), dim=axis) * inside
    return images


def _cutout(images: Tensor, u: Tensor) -> Tensor:
    """A blank box of half of each side, whose middle is anywhere, cut off at the image's border."""
    hit = []
    for side, column in zip(images.shape[2:], (u[:, 0], u[:, 1]), strict=True):
        cut = int(side * _CUTOUT + 0.5)
        start = _whole(column, side + 1 - cut % 2)[:, None] - cut // 2
        pixel = torch.arange(side, device=u.device)
        hit.append((pixel >= start) & (pixel < start + cut))
    return images * ~(hit[0][:, None, :, None] & hit[1][:, None, None, :])


def _flip(images: Tensor, u: Tensor) -> Tensor:
    return torch.where(u[:, 0, None, None, None] < 0.5, images.flip(3), images)


def _scale(images: Tensor, u: Tensor) -> Tensor:
    """Width and height by factors of their own; a factor above 1 makes the image smaller."""
    factors = 1 / _SCALE + u[:, :2] * (_SCALE - 1 / _SCALE)
    return _affine(images, torch.diag_embed(factors))


def _rotate(images: Tensor, u: Tensor) -> Tensor:
    angle = (2 * u[:, 0] - 1) * math.radians(_DEGREES)
    cos, sin = angle.cos(), angle.sin()
    return _affine(images, torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2))


def _affine(images: Tensor, matrix: Tensor) -> Tensor:
    """See (N, 3, H, W) through matrices (N, 2, 2), from a pixel's place to where its colour comes from (x, y)."""
    theta = torch.cat([matrix, torch.zeros_like(matrix[:, :, :1])], dim=2)
    grid = affine_grid(theta, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _whole(u: Tensor, count: int) -> Tensor:
    """(n,) uniform in [0, 1) to whole numbers from 0 to count - 1; float32 never rounds the product up to count."""
    return (u * count).long()


FAMILIES = dict(zip(DSA, (_color, _crop, _cutout, _flip, _scale, _rotate), strict=True))
"""The families by name, each from normalised (N, 3, H, W) and uniform numbers (N, 3)."""
