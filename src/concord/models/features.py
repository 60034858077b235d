"""The features of a ConvNet, as fast as a CPU gives them: what matching spends its time on."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concord.models.networks import ConvNet

_AT_ONCE = 16
"""Images whose activations stay in a core's cache."""


def features(net: ConvNet, images: Tensor) -> Tensor:
    """What the classifier of a network is given, (B, D), of normalised images (B, C, S, S) in the network's dtype.

    On a CPU, instance norm is worked out channels-last, where convolution and pooling are fast and torch's own kernel
    is not; with gradients, it is torch's, and the layout changes around it. The values differ in their last bits.
    """
    if images.device.type != "cpu" or not _instance_and_average(net):
        return net.features(images)
    if torch.is_grad_enabled():
        return _differentiable(net, images)
    return torch.cat([_channels_last(net, part) for part in images.split(_AT_ONCE)])


def _instance_and_average(net: ConvNet) -> bool:
    norms = [norm for _, norm in net.blocks]
    instance = all(isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels for norm in norms)
    return instance and isinstance(net.pool, nn.AvgPool2d)


def _channels_last(net: ConvNet, x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    for conv, norm in net.blocks:
        assert isinstance(norm, nn.GroupNorm)
        x = F.avg_pool2d(_normalised(conv(x), norm).relu_(), 2)
    return x.flatten(1)


def _normalised(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Instance norm as one scale and one shift of each channel of an image."""
    exact = torch.promote_types(x.dtype, torch.float32)
    mean = x.mean((2, 3), keepdim=True, dtype=exact)
    variance = (x * x).mean((2, 3), keepdim=True, dtype=exact) - mean * mean
    scale = norm.weight.view(1, -1, 1, 1) * (variance.clamp_(min=0) + norm.eps).rsqrt_()
    shift = norm.bias.view(1, -1, 1, 1) - mean * scale
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def _differentiable(net: ConvNet, x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    for conv, norm in net.blocks:
        seen = norm(conv(x).contiguous()).relu()
        x = F.avg_pool2d(seen.contiguous(memory_format=torch.channels_last), 2)
    return x.flatten(1)
