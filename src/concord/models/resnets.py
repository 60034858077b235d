"""ResNets of the field that torchvision does not build: for small images, and with average pooling for strides."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from concord.errors import ConcordError, nearest


def modified_resnet(depth: int, classes: int) -> nn.Module:
    """torchvision's ResNet for images of 32 or 64 pixels: the first convolution is 3 x 3, and nothing is pooled after.

    RDED's ``resnet18_modified`` and ``resnet101_modified``.
    """
    net: nn.Module = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


class ResNetAP10(nn.Module):
    """ResNetAP-10 of IDC and Minimax: four basic blocks whose strides are average pooling instead.

    The stem follows the image: 7 x 7 and pooled by 4 above 128 pixels, 3 x 3 and pooled by 2 above 64, 3 x 3 up to 64.
    The names of layers are theirs (vimar-gu/MinimaxDiffusion, train_models/resnet_ap.py), so that checkpoints load.

    Raises:
        ConcordError: another norm than instance or batch, or images that pooling leaves nothing of.
    """

    def __init__(self, classes: int, size: int, norm: str = "instance") -> None:
        super().__init__()
        if norm not in ("instance", "batch"):
            raise ConcordError(
                f'resnetap-10 has no norm "{norm}"{nearest(norm, ("instance", "batch"))}; it is instance or batch'
            )
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
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


class _Stem(nn.Module):
    def __init__(self, kernel: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, kernel, padding=kernel // 2, bias=False)
        self.bn1 = _norm(norm, 64)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.bn1(self.conv1(x)).relu())
        return pooled


class _Block(nn.Module):
    """A basic block that pools by `pool` after its first convolution, and on the shortcut."""

    def __init__(self, into: int, out: int, pool: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(into, out, 3, padding=1, bias=False)
        self.bn1 = _norm(norm, out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = _norm(norm, out)
        self.pool = nn.AvgPool2d(pool) if pool > 1 else nn.Identity()
        self.downsample = (
            nn.Sequential(nn.Conv2d(into, out, 1, bias=False), nn.AvgPool2d(pool), _norm(norm, out))
            if pool > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.bn1(self.conv1(x)).relu())
        y = self.bn2(self.conv2(y)) + self.downsample(x)
        return y.relu()


def _norm(norm: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(channels, channels)
