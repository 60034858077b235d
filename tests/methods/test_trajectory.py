"""Trajectories matched: a wrong gradient still lowers the loss for a while, so it is held against three references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data import dsa
from concord.methods.trajectory import Step, match, parameters_of, step_gradient, with_parameters
from concord.models.networks import ConvNet

SIDE, WIDTH, CLASSES, STEPS = 8, 8, 3, 3
LABELS = torch.tensor([0, 0, 1, 1, 2, 2])
STRATEGY = "color_crop_cutout_flip_scale_rotate"


def problem(augmented: bool) -> tuple[ConvNet, Tensor, Tensor, Tensor, list[Step]]:
    """A network, where a student begins and should arrive, images, and steps of four of them, in float64."""
    torch.manual_seed(0)
    net = ConvNet(2, CLASSES, SIDE, "instance", width=WIDTH).double()
    start = parameters_of(net)
    target = start + 0.05 * torch.randn_like(start)
    images = torch.randn(6, 3, SIDE, SIDE, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    steps = []
    for family in ("scale", "color", "crop")[:STEPS]:
        index = torch.randperm(6, generator=generator)[:4]
        view = dsa.draw(family, 4, generator)
        steps.append(Step(index, {**view, "dsa": view["dsa"].double()} if augmented else None))
    return net, start, target, images, steps


def unrolled(
    net: ConvNet, start: Tensor, target: Tensor, images: Tensor, steps: list[Step], rate: Tensor, tesla: bool = False
) -> Tensor:
    """The loss with the graph of all steps; of TESLA, each gradient is one of its own images alone."""
    theta = start.clone().requires_grad_()
    for step in steps:
        some = images[step.index]
        seen = some if step.view is None else dsa.apply(some, step.view, None, None)
        at = theta.detach().requires_grad_() if tesla else theta
        loss = F.cross_entropy(with_parameters(net, at, seen), LABELS[step.index])
        (gradient,) = torch.autograd.grad(loss, at, create_graph=True)
        theta = theta - rate * gradient
    return (theta - target).square().sum() / (start - target).square().sum()


def test_parameters_as_a_vector_give_the_logits_of_the_network() -> None:
    net, start, _, images, _ = problem(False)
    torch.testing.assert_close(with_parameters(net, start, images), net(images), atol=0, rtol=0)
    loss = F.cross_entropy(net(images), LABELS)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])
    torch.testing.assert_close(step_gradient(net, start.requires_grad_(), images, LABELS), expected)


@pytest.mark.parametrize("augmented", [False, True])
def test_walked_back_it_is_the_unrolled_gradient(augmented: bool) -> None:
    net, start, target, images, steps = problem(augmented)
    rate = torch.tensor(0.2, dtype=torch.float64)
    found = match(net, start, target, images, LABELS, steps, rate)
    images.requires_grad_(), rate.requires_grad_()
    loss = unrolled(net, start, target, images, steps, rate)
    of_images, of_rate = torch.autograd.grad(loss, (images, rate))
    torch.testing.assert_close(found.loss, loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.images, of_images, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(found.rate, of_rate, rtol=1e-9, atol=1e-14)


def test_teslas_own_gradient_is_another_but_for_one_step() -> None:
    net, start, target, images, steps = problem(False)
    rate = torch.tensor(0.2, dtype=torch.float64)
    for count, alike in ((1, True), (STEPS, False)):
        found = match(net, start, target, images.detach(), LABELS, steps[:count], rate)
        images.requires_grad_()
        loss = unrolled(net, start, target, images, steps[:count], rate, tesla=True)
        torch.testing.assert_close(found.loss, loss.detach())
        (of_images,) = torch.autograd.grad(loss, images)
        far = (found.images - of_images).norm() / of_images.norm()
        assert (far < 1e-9) if alike else (far > 1e-3)


@pytest.mark.parametrize("augmented", [False, True])
def test_gradients_are_those_of_finite_differences(augmented: bool) -> None:
    net, start, target, images, steps = problem(augmented)
    rate, tiny = torch.tensor(0.2, dtype=torch.float64), 1e-5

    def loss(images: Tensor, rate: Tensor) -> Tensor:
        return match(net, start, target, images, LABELS, steps, rate).loss

    found = match(net, start, target, images, LABELS, steps, rate)
    directions = torch.randn(4, *images.shape, dtype=torch.float64)
    for direction in directions:
        up, down = (loss(images + sign * tiny * direction, rate) for sign in (1, -1))
        expected = float((up - down) / (2 * tiny))
        assert float((found.images * direction).sum()) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    up, down = (loss(images, rate + sign * tiny) for sign in (1, -1))
    assert float(found.rate) == pytest.approx(float((up - down) / (2 * tiny)), rel=1e-6)


def test_at_rate_0_the_loss_is_exactly_1() -> None:
    net, start, target, images, steps = problem(True)
    found = match(net, start, target, images, LABELS, steps, torch.tensor(0.0, dtype=torch.float64))
    assert float(found.loss) == 1 and not found.images.any()


def test_on_the_experts_own_batches_it_is_0() -> None:
    """The student's steps are an epoch of an expert: plain SGD on batches in its order."""
    net, start, _, images, _ = problem(False)
    batches = [torch.tensor([0, 2, 4]), torch.tensor([5, 3, 1])]
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1)
    for index in batches:
        optimiser.zero_grad()
        F.cross_entropy(net(images[index]), LABELS[index]).backward()
        optimiser.step()
    found = match(
        net,
        start,
        parameters_of(net),
        images,
        LABELS,
        [Step(index) for index in batches],
        torch.tensor(0.1, dtype=torch.float64),
    )
    assert float(found.loss) < 1e-25
