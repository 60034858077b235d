"""DM's and IDM's step against plain torch in float64: another loss or another gradient would be another method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data import dsa
from concord.methods.idm import accuracy, coast, push
from concord.methods.matching import descend, match
from concord.models.features import features
from concord.models.networks import ConvNet

CLASSES, IPC, SIDE = 3, 2, 16


def network(norm: str = "instance", pool: str = "avg", width: int = 8) -> ConvNet:
    torch.manual_seed(0)
    net = ConvNet(2, CLASSES, SIDE, norm, pool, width)
    for parameter in net.parameters():  # as after some training: scales and shifts that say something
        parameter.data += 0.1 * torch.randn_like(parameter)
    return net.requires_grad_(False)


def batches() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(1)
    real = [torch.randn(n, 3, SIDE, SIDE, generator=generator, dtype=torch.float64) for n in (5, 40, 7)]
    return real, torch.randn(CLASSES, IPC, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)


def views(strategy: str = "color_crop_cutout_flip_scale_rotate") -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [dsa.draw(strategy, 1, generator) for _ in range(CLASSES)]


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_loss_and_its_gradient_are_those_of_the_definition(factor: int, weight: float) -> None:
    net, (real, images), drawn = network().double(), batches(), views()
    losses, gradient = match(net, real, images, drawn, factor, weight)
    pixels, half = images.clone().requires_grad_(), SIDE // 2
    expected = []
    for label in range(CLASSES):
        family = list(dsa.FAMILIES.values())[int(drawn[label]["dsa_family"])]
        u = drawn[label]["dsa"].double()
        seen = pixels[label]
        if factor == 2:
            corners = [seen[..., a : a + half, b : b + half] for a in (0, half) for b in (0, half)]
            seen = torch.cat([F.interpolate(one, scale_factor=2, mode="bilinear") for one in corners])
        seen, those = family(seen, u.repeat(len(seen), 1)), family(real[label], u.repeat(len(real[label]), 1))
        distance = (net.features(those).mean(0) - net.features(seen).mean(0)).pow(2).sum()
        entropy = -net(seen).log_softmax(1)[:, label].mean()
        expected.append(distance + weight * entropy)
    (plain,) = torch.autograd.grad(torch.stack(expected).sum(), pixels)
    torch.testing.assert_close(losses, torch.stack(expected).detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradient, plain, rtol=1e-6, atol=1e-9)
    assert plain.abs().amax(dim=(2, 3, 4)).min() > 0
    single = match(net.float(), [one.float() for one in real], images.float(), drawn, factor, weight)[1]
    torch.testing.assert_close(single.double(), plain, rtol=1e-3, atol=1e-5)


def test_the_gradient_through_decoding_is_that_of_finite_differences() -> None:
    net, (real, images) = network().double(), batches()
    _, gradient = match(net, real, images, views("scale_color"), 2, 0.3)
    generator, step = torch.Generator().manual_seed(2), 1e-5
    for _ in range(3):
        towards = torch.randn(images.shape, generator=generator, dtype=torch.float64)
        ahead, behind = (match(net, real, images + s * towards, views("scale_color"), 2, 0.3)[0] for s in (step, -step))
        slope = (ahead - behind).sum() / (2 * step)
        torch.testing.assert_close((gradient * towards).sum(), slope, rtol=1e-5, atol=1e-7)


def test_classes_beyond_what_is_worked_out_at_once_are_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (real, images) = network().double(), batches()
    whole = match(net, real, images, views())
    monkeypatch.setitem(match.__globals__["AT_ONCE"], "cpu", 1)
    alone = match(net, real, images, views())
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_features_are_the_networks_own_with_and_without_gradients(norm: str, pool: str) -> None:
    net = network(norm, pool).eval()
    images = 3 + 2 * torch.randn(40, 3, SIDE, SIDE)
    plain = net.double().features(images.double())
    torch.testing.assert_close(features(net, images.double()), plain, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        torch.testing.assert_close(features(net, images.double()), plain, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(features(net.float(), images).double(), plain, rtol=1e-3, atol=1e-4)
        half = features(net.bfloat16(), images.bfloat16()).double()
    assert (half - plain).norm() < 0.05 * plain.norm()


def test_a_step_is_torchs_own() -> None:
    ours = torch.randn(4, 3, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    velocity, optimiser = torch.zeros_like(ours), torch.optim.SGD([theirs], lr=0.3, momentum=0.5)
    for _ in range(4):
        theirs.grad = torch.randn_like(ours)
        descend(ours, theirs.grad, velocity, 0.3, 0.5)
        optimiser.step()
    torch.testing.assert_close(ours, theirs.detach())


def test_steps_for_each_class_in_turn_move_the_others_by_momentum_as_torchs_do() -> None:
    """One tensor of all images and a step a class: the published code's optimiser moves all of them each time."""
    ours = torch.randn(CLASSES, 5, dtype=torch.float64)
    theirs = ours.clone().requires_grad_()
    velocity, optimiser = torch.zeros_like(ours), torch.optim.SGD([theirs], lr=0.3, momentum=0.5)
    before = torch.arange(CLASSES)
    for _ in range(3):
        for label in range(CLASSES):
            optimiser.zero_grad()
            theirs[label].pow(3).sum().backward()  # the gradient is taken where the class's images are by then
            optimiser.step()
        coast(ours, velocity, before, 0.3, 0.5)
        descend(ours, 3 * ours.pow(2), velocity, 0.3, 0.5)
        coast(ours, velocity, before.flip(0), 0.3, 0.5)
    torch.testing.assert_close(ours, theirs.detach())


def test_the_queue_is_first_in_first_out() -> None:
    queue: list[dict[str, int]] = []
    for number in range(5):
        push(queue, {"number": number}, 3)
    assert [one["number"] for one in queue] == [2, 3, 4]


def test_the_accuracy_is_in_per_cent_and_nothing_before_any_training() -> None:
    assert accuracy({"seen": 0, "right": 0}) == 0
    assert accuracy({"seen": 80, "right": 20}) == 25
