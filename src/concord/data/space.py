"""Spaces of float images: pixels less a mean and divided by a deviation, or whitened (ZCA), as matching methods work.

Facts from GeorgeCazenavette/mtt-distillation, `utils.py` (ZCA on pixels in [0, 1], kornia's with eps 0.1) and
VICO-UoE/DatasetCondensation, `utils.py` (mean and deviation of each data set).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from concord.errors import ConcordError
from concord.storage.images import to_pil
from concord.text import nearest

SPACES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashionmnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "pixels": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and deviation of the channels, of pixels in [0, 1], as DC's and MTT's code has them by data set."""
SPACES["tiny"] = SPACES["imagenet"]
EPS = 0.1
"""What MTT adds to the variances that it whitens by."""
_AT_ONCE = 2000


@dataclass(frozen=True, eq=False)
class Space:
    """How values of float images come from pixels in [0, 1].

    mean, std: float32 (C,) of the channels. Whitened: mean (D,) of all D = C x H x W pixels, `matrix` (D, D) that rows
    of pixels less it are multiplied by, and no std.
    """

    mean: Tensor
    std: Tensor | None = None
    matrix: Tensor | None = None

    @classmethod
    def normalised(cls, mean: Sequence[float], std: Sequence[float]) -> Self:
        """By a mean and a deviation of each channel, the deviation above 0. Raises ConcordError: they are not so."""
        if len(mean) != len(std) or len(mean) not in (1, 3) or not all(s > 0 for s in std):
            given = f"mean {[*mean]} and std {[*std]}"
            raise ConcordError(f"expected a mean and a std above 0 of each of one or three channels, got {given}")
        return cls(torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32))

    @classmethod
    def named(cls, name: str) -> Self:
        """One of `SPACES`. Raises ConcordError: there is none of that name."""
        if name not in SPACES:
            raise ConcordError(f'unknown space "{name}"{nearest(name, SPACES)}; there are {", ".join(SPACES)}')
        return cls.normalised(*SPACES[name])

    @property
    def whitened(self) -> bool:
        return self.matrix is not None

    @property
    def is_pixels(self) -> bool:
        """Whether values are pixels in [0, 1], so that students normalise them as they do pictures."""
        return self.std is not None and bool((self.mean == 0).all()) and bool((self.std == 1).all())

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) in [0, 1] as values of this space, float32."""
        mean = self.mean.to(pixels)
        if self.matrix is None:
            return (pixels - mean.view(-1, 1, 1)) / self._deviation.to(pixels).view(-1, 1, 1)
        return ((pixels.flatten(1) - mean) @ self.matrix.to(pixels)).view_as(pixels)

    def pixels(self, values: Tensor) -> Tensor:
        """The way back, float32 (N, C, H, W); values that no picture has come out of [0, 1]."""
        mean = self.mean.to(values)
        if self.matrix is None:
            return values * self._deviation.to(values).view(-1, 1, 1) + mean.view(-1, 1, 1)
        return (values.flatten(1) @ self._inverse.to(values) + mean).view_as(values)

    def picture(self, values: Tensor) -> Image.Image:
        """One image (C, H, W) as 8-bit RGB, what is out of range clamped: a preview."""
        rgb = self.pixels(values[None].float()).expand(-1, 3, -1, -1)
        return to_pil(rgb * 2 - 1)[0]

    @property
    def _deviation(self) -> Tensor:
        return self.mean if self.std is None else self.std

    @cached_property
    def _inverse(self) -> Tensor:
        assert self.matrix is not None
        return torch.linalg.inv(self.matrix)

    def to(self, device: torch.device | str) -> "Space":
        moved = (None if tensor is None else tensor.to(device) for tensor in (self.mean, self.std, self.matrix))
        return Space(*moved)  # type: ignore[arg-type]

    def tensors(self) -> dict[str, Tensor]:
        """What a file of tensors holds of it, by name; `of_tensors` reads it."""
        if self.matrix is not None:
            return {"zca.mean": self.mean, "zca.matrix": self.matrix}
        return {"mean": self.mean, "std": self._deviation}

    @classmethod
    def of_tensors(cls, tensors: dict[str, Tensor]) -> Self | None:
        """What `tensors` gave, taken out of a file's; None where there is neither, or not as expected."""
        found = {name: tensors[name].float() for name in ("mean", "std", "zca.mean", "zca.matrix") if name in tensors}
        mean, std = found.get("mean"), found.get("std")
        if (
            mean is not None
            and std is not None
            and mean.shape == std.shape
            and mean.ndim == 1
            and bool((std > 0).all())
        ):
            return cls(mean, std)
        mean, matrix = found.get("zca.mean"), found.get("zca.matrix")
        if mean is not None and matrix is not None and mean.ndim == 1 and matrix.shape == (len(mean), len(mean)):
            return cls(mean, matrix=matrix)
        return None


def fit_zca(images: Tensor, eps: float = EPS) -> Space:
    """Whiten as training images are: uint8 (N, C, H, W), N above 1.

    With mean m and covariance U diag(s) U' (divided by N - 1) of the pixels in [0, 1], x becomes (x - m) U diag(1 /
    sqrt(s + eps)) U', as kornia's `ZCAWhitening` has it. The eigendecomposition is in float64.
    """
    rows = images.flatten(1)
    mean = torch.stack([part.double().sum(0) for part in rows.split(_AT_ONCE)]).sum(0) / len(rows) / 255
    covariance = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64)
    for part in rows.split(_AT_ONCE):
        centred = part.float() / 255 - mean.float()
        covariance += (centred.T @ centred).double()
    variances, vectors = torch.linalg.eigh(covariance / (len(rows) - 1))
    matrix = (vectors * (variances.clamp(min=0) + eps).rsqrt()) @ vectors.T
    return Space(mean.float(), matrix=matrix.float())
