"""The field's networks that torchvision does not build: ConvNets, ResNets for small images and with average pooling."""

from collections.abc import Mapping
from functools import partial
from typing import Any, cast, get_args

import torch
from torch import Tensor, nn

from concord.choices import Norm, Pool
from concord.errors import ConcordError
from concord.text import nearest

WIDTH = 128


class ConvNet(nn.Module):
    """`depth` blocks of `width` channels on images of `size` pixels, flattened into one linear layer.

    The network of the dataset-condensation code (VICO-UoE/DatasetCondensation, networks.py), with its names of layers:
    ``layers.conv.N``, ``layers.norm.N`` and ``classifier``, so that its checkpoints and RDED's load as they are.
    Instance norm is group norm with a group a channel there, and group norm has four groups; both are learnt scales and
    have no running statistics. Images of one channel are padded by 3 at the first convolution, as there (28 px to 32).
    Raises ConcordError: an unknown norm or pool, a width that has no four groups, or pooling that leaves no pixel.
    """

    def __init__(
        self,
        depth: int,
        classes: int,
        size: int,
        norm: str = "batch",
        pool: str = "avg",
        width: int = WIDTH,
        channels: int = 3,
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
        first = size + 4 if channels == 1 else size
        sides = [first // 2**d if pool != "none" else first for d in range(depth + 1)]
        self.depth = depth
        convs = nn.ModuleList(
            nn.Conv2d(width if d else channels, width, 3, padding=3 if channels == 1 and not d else 1)
            for d in range(depth)
        )
        norms = nn.ModuleList(_norm(norm, width, sides[d]) for d in range(depth))
        self.layers = nn.ModuleDict({"conv": convs, "norm": norms})
        self.pool = {"avg": nn.AvgPool2d(2), "max": nn.MaxPool2d(2), "none": nn.Identity()}[pool]
        self.classifier = nn.Linear(width * sides[depth] ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, channels, size, size)."""
        return self.classifier(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the classifier is given of such images, (B, D): the last block's output, flattened."""
        for conv, norm in self.blocks:
            x = self.pool(torch.relu(norm(conv(x))))
        return x.flatten(1)

    @property
    def blocks(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each block's convolution and norm."""
        convolutions, norms = (cast(nn.ModuleList, self.layers[kind]) for kind in ("conv", "norm"))
        return list(zip(convolutions, norms, strict=True))


def _norm(norm: str, width: int, side: int = 1) -> nn.Module:
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
    norm = "batch" if "layers.norm.0.running_mean" in state else "instance"
    if (scale := state.get("layers.norm.0.weight")) is None or scale.ndim == 3:
        norm = "none" if scale is None else "layer"
    side = round((last.shape[1] / width) ** 0.5)
    return depth, norm, width, side * 2**depth


def with_channels(net: nn.Module, channels: int) -> nn.Module:
    """A ResNet in place, its first convolution drawn anew for images of other channels than three."""
    name, conv = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if channels != conv.in_channels:
        bias = conv.bias is not None
        new = nn.Conv2d(channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=bias)  # type: ignore[arg-type]
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        above, _, last = name.rpartition(".")
        setattr(net.get_submodule(above), last, new)
    return net


def _resnet(depth: int, classes: int, **how: Any) -> nn.Module:
    import torchvision  # which takes seconds to load, and ConvNets do without

    net: nn.Module = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=classes, **how)
    return net


def modified_resnet(depth: int, classes: int) -> nn.Module:
    """torchvision's ResNet for 32 or 64 pixels (RDED): its first convolution is 3 x 3, nothing is pooled after."""
    net = _resnet(depth, classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def instance_resnet(depth: int, classes: int, size: int) -> nn.Module:
    """torchvision's ResNet with instance norm, and a first layer that follows the image, as IDC and Minimax have it.

    7 x 7 and pooled above 128 pixels, 3 x 3 and pooled above 64, 3 x 3 alone up to 64 (vimar-gu/MinimaxDiffusion,
    train_models/resnet.py, whose names of layers are these behind a prefix ``layer0.``).
    """
    net = _resnet(depth, classes, norm_layer=partial(_norm, "instance"))
    if size <= 128:
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    if size <= 64:
        net.maxpool = nn.Identity()
    return net


class ResNetAP10(nn.Module):
    """ResNetAP-10 of IDC and Minimax: four basic blocks whose strides are average pooling instead.

    The stem follows the image: 7 x 7 and pooled by 4 above 128 pixels, 3 x 3 and pooled by 2 above 64, 3 x 3 up to 64.
    The names of layers are theirs (vimar-gu/MinimaxDiffusion, train_models/resnet_ap.py), so that checkpoints load.
    Raises ConcordError: another norm than instance or batch, or images that pooling leaves nothing of.
    """

    def __init__(self, classes: int, size: int, norm: str = "instance") -> None:
        super().__init__()
        if norm not in (known := ("instance", "batch")):
            raise ConcordError(f'resnetap-10 has no norm "{norm}"{nearest(norm, known)}; it is instance or batch')
        if size < 8:
            raise ConcordError(f"images of {size} pixels are too small for a resnetap-10; give at least size=8")
        kernel, pool = (7, 4) if size > 128 else (3, 2) if size > 64 else (3, 1)
        self.layer0 = _Stem(kernel, pool, norm)
        self.layer1 = nn.Sequential(_Block(64, 64, 1, norm))
        self.layer2 = nn.Sequential(_Block(64, 128, 2, norm))
        self.layer3 = nn.Sequential(_Block(128, 256, 2, norm))
        self.layer4 = nn.Sequential(_Block(256, 512, 2, norm))
        self.fc = nn.Linear(512, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, 3, size, size)."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.layer0(x)))))
        return self.fc(x.mean((2, 3)))


class _Stem(nn.Module):
    def __init__(self, kernel: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel, padding=kernel // 2, bias=False)
        self.bn1 = _norm(norm, 64)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.bn1(self.conv1(x)).relu())


class _Block(nn.Module):
    """A basic block that pools by `pool` after its first convolution, and on the shortcut."""

    def __init__(self, into: int, out: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, padding=1, bias=False)
        self.bn1 = _norm(norm, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, out)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        shortcut = (nn.Conv2d(into, out, 1, bias=False), nn.AvgPool2d(pool), _norm(norm, out)) if pool > 1 else ()
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.bn1(self.conv1(x)).relu())
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()
