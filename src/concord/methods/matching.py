"""Distributions matched: the mean feature of a class's images brought to that of its real images (DM, IDM)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data import dsa
from concord.data.tensor_set import decoded
from concord.models.features import features
from concord.models.networks import ConvNet

View = dict[str, Tensor]
AT_ONCE = {"cpu": 16, "cuda": 2048}
"""Synthetic images whose gradients are worked out at once: a CPU's cache holds the activations of few."""


def match(
    net: ConvNet, real: Sequence[Tensor], images: Tensor, views: Sequence[View], factor: int = 1, ce: float = 0.0
) -> tuple[Tensor, Tensor]:
    """What a class's images lack, and the gradient of it.

    The loss of a class is ||mean f(real) - mean f(images)||^2, with f the flattened features of the network, over both
    after one shared draw of augmentation; and `ce` times the cross-entropy of its images, where that is not 0.

    Args:
        net: in train or eval mode alike, since instance norm has no statistics; features are in its dtype.
        real: of each class (n, C, S, S), values of a space.
        images: (classes, IPC, C, S, S) in that space.
        views: a shared draw of DSA a class; empty, no augmentation.
        factor: each image is decoded to factor x factor first (IDM).

    Returns:
        Losses (classes,) and the gradient of their sum with respect to the images.
    """
    dtype, classes = net.classifier.weight.dtype, len(images)
    exact = torch.promote_types(dtype, torch.float32)
    with torch.no_grad():
        wanted = [
            features(net, _seen(of_class, views, label).to(dtype)).mean(0, dtype=exact)
            for label, of_class in enumerate(real)
        ]
    losses, gradient = [], torch.empty_like(images)
    chunk = max(1, AT_ONCE.get(images.device.type, 256) // (images.shape[1] * factor**2))
    for start in range(0, classes, chunk):
        labels = range(start, min(start + chunk, classes))
        some = images[labels.start : labels.stop].detach().requires_grad_()
        seen = [_seen(decoded(some[n], factor), views, label) for n, label in enumerate(labels)]
        found = features(net, torch.cat(seen).to(dtype))
        means = found.view(len(labels), len(seen[0]), -1).mean(1, dtype=exact)
        loss = (torch.stack(wanted[labels.start : labels.stop]) - means).square().sum(1)
        if ce:
            targets = torch.tensor(labels, device=images.device).repeat_interleave(len(seen[0]))
            entropy = F.cross_entropy(net.classifier(found).to(exact), targets, reduction="none")
            loss = loss + ce * entropy.view(len(labels), -1).mean(1)
        (gradient[labels.start : labels.stop],) = torch.autograd.grad(loss.sum(), some)
        losses.append(loss.detach())
    return torch.cat(losses), gradient


def _seen(images: Tensor, views: Sequence[View], label: int) -> Tensor:
    return dsa.apply(images, views[label], None, None) if views else images


def descend(images: Tensor, gradient: Tensor, velocity: Tensor, lr: float, momentum: float) -> None:
    """A step of stochastic gradient descent with momentum, in place, as torch's SGD takes it."""
    velocity.mul_(momentum).add_(gradient)
    images.sub_(velocity, alpha=lr)
