"""Matching training trajectories (MTT; Cazenavette et al. 2022): one loss and its exact gradient, in constant memory.

A student begins at an expert's parameters theta_0, takes N steps of gradient descent on synthetic images with a learnt
rate, and should arrive where the expert was some epochs later, at theta*: the loss is ||theta_N - theta*||^2 /
||theta_0 - theta*||^2.

The gradient with respect to images and rate passes through all steps. Unrolled, their graphs are all held at once. Here
the steps are walked back instead, each computed anew from the parameters it began with: with a = dL / dtheta_{i+1} and
g_i the gradient of step i, a step adds -rate d(g_i a) / dx to its images' gradient, -g_i a to the rate's, and hands
a - rate d(g_i a) / dtheta_i on to the step before. That is the unrolled gradient, in the memory of one step and N + 1
vectors. TESLA (Cui et al. 2023) also needs one step's memory, but takes each g_i as a function of its own images alone,
as if theta_i did not come from those before: another gradient where N > 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from concord.data import dsa


@dataclass(frozen=True)
class Step:
    """A step of the student: int64 (B,), places of its images; and a draw of DSA, None for the images as they are."""

    index: Tensor
    view: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Matched:
    """The loss, (); its gradient with respect to the images, of their shape; and to the rate, ()."""

    loss: Tensor
    images: Tensor
    rate: Tensor


def parameters_of(net: nn.Module) -> Tensor:
    """All parameters of a network as one vector (P,), in the order of `named_parameters`."""
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def with_parameters(net: nn.Module, theta: Tensor, images: Tensor) -> Tensor:
    """Logits (B, K) of a network whose parameters are the vector theta, (P,); differentiable in both."""
    named = dict(net.named_parameters())
    parts = theta.split([p.numel() for p in named.values()])
    parameters = {name: part.view_as(p) for (name, p), part in zip(named.items(), parts, strict=True)}
    logits: Tensor = functional_call(net, parameters, (images,))
    return logits


def step_gradient(net: nn.Module, theta: Tensor, images: Tensor, labels: Tensor, again: bool = False) -> Tensor:
    """The gradient (P,) of the cross-entropy with respect to theta; `again`: differentiable itself."""
    loss = F.cross_entropy(with_parameters(net, theta, images), labels)
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=again)
    return gradient


def match(
    net: nn.Module,
    start: Tensor,
    target: Tensor,
    images: Tensor,
    labels: Tensor,
    steps: Sequence[Step],
    rate: Tensor,
) -> Matched:
    """Let a student take steps from start towards target.

    Args:
        net: a network without buffers that training changes, as of instance norm; its own parameters are not read.
        start, target: (P,), an expert's parameters.
        images: (N, C, S, S); labels: int64 (N,).
        rate: (), the student's learning rate.
    """
    path = [start]
    for step in steps:
        theta, seen = path[-1].detach().requires_grad_(), _seen(images[step.index], step)
        path.append((theta - rate * step_gradient(net, theta, seen, labels[step.index])).detach())
    scale = (start - target).square().sum()
    far = path[-1] - target
    adjoint, of_images, of_rate = 2 * far / scale, torch.zeros_like(images), torch.zeros_like(rate)
    for step, theta in zip(reversed(steps), reversed(path[:-1]), strict=True):
        theta, some = theta.detach().requires_grad_(), images[step.index].detach().requires_grad_()
        gradient = step_gradient(net, theta, _seen(some, step), labels[step.index], again=True)
        along = gradient @ adjoint
        back, to_images = torch.autograd.grad(along, (theta, some))
        of_images.index_add_(0, step.index, to_images * -rate)
        of_rate -= along.detach()
        adjoint = adjoint - rate * back
    return Matched((far.square().sum() / scale).detach(), of_images, of_rate)


def _seen(some: Tensor, step: Step) -> Tensor:
    return some if step.view is None else dsa.apply(some, step.view, None, None)
