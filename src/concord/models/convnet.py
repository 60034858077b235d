"""ConvNet, the student of the field's small-image tables: equal blocks of convolution, norm, ReLU and pooling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from concord.errors import ConcordError, nearest

Norm = Literal["batch", "instance", "layer", "group", "none"]
Pool = Literal["avg", "max", "none"]
WIDTH = 128


class ConvNet(nn.Module):
    """`depth` blocks of `width` channels on images of `size` pixels, flattened into one linear layer.

    The network of the dataset-condensation code (VICO-UoE/DatasetCondensation, networks.py), with its names of layers:
    ``layers.conv.N``, ``layers.norm.N`` and ``classifier``, so that its checkpoints and RDED's load as they are.
    Instance norm is group norm with a group a channel there, and group norm has four groups; both are learnt scales
    and have no running statistics.

    Raises:
        ConcordError: an unknown norm or pool, a width that has no four groups, or pooling that leaves no pixel.
    """

    def __init__(
        self, depth: int, classes: int, size: int, norm: str = "batch", pool: str = "avg", width: int = WIDTH
    ) -> None:
        super().__init__()
        for given, known, what in ((norm, get_args(Norm), "norm"), (pool, get_args(Pool), "pool")):
            if given not in known:
                raise ConcordError(f'unknown {what} "{given}"{nearest(given, known)}; there are {", ".join(known)}')
        if width < 1 or (norm == "group" and width % 4):
            raise ConcordError(f"width={width}: expected a positive number, and a multiple of 4 with norm=group")
        if pool != "none" and size < 2**depth:
            raise ConcordError(
                f"images of {size} pixels are too small for a convnet-{depth}, which halves them {depth} times; "
                f"give at least size={2**depth}, or a convnet of less depth"
            )
        sides = [size // 2**d if pool != "none" else size for d in range(depth + 1)]
        self.depth = depth
        self.layers = nn.ModuleDict(
            {
                "conv": nn.ModuleList(nn.Conv2d(width if d else 3, width, 3, padding=1) for d in range(depth)),
                "norm": nn.ModuleList(_norm(norm, width, sides[d]) for d in range(depth)),
            }
        )
        self.pool = {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pool]
        self.classifier = nn.Linear(width * sides[depth] ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, 3, size, size)."""
        convs, norms = self.layers["conv"], self.layers["norm"]
        for d in range(self.depth):
            x = self.pool(torch.relu(norms[d](convs[d](x))))  # type: ignore[index]
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def _norm(norm: str, width: int, side: int) -> nn.Module:
    if norm == "batch":
        return nn.BatchNorm2d(width)
    if norm == "layer":
        return nn.LayerNorm([width, side, side])
    return nn.Identity() if norm == "none" else nn.GroupNorm(width if norm == "instance" else 4, width)


def convnet_of(state: Mapping[str, Tensor]) -> tuple[int, str, int, int] | None:
    """Depth, norm, width and image side of the ConvNet that a state dict belongs to; None for other networks.

    What leaves no trace in the names and shapes is taken as the field has it: group norms are instance norms, and the
    side is one that `depth` halvings leave whole.
    """
    depth = sum(name.startswith("layers.conv.") and name.endswith(".weight") for name in state)
    first, last = state.get("layers.conv.0.weight"), state.get("classifier.weight")
    if first is None or last is None or first.ndim != 4 or last.ndim != 2:
        return None
    width = len(first)
    scale = state.get("layers.norm.0.weight")
    if scale is None:
        norm = "none"
    elif scale.ndim == 3:
        norm = "layer"
    else:
        norm = "batch" if "layers.norm.0.running_mean" in state else "instance"
    side = round((last.shape[1] / width) ** 0.5)
    return depth, norm, width, side * 2**depth
