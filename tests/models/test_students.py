"""Students are compared across papers: another stem, norm or normalisation is another row of the table."""

from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from concord.data.classes import ClassSpec, class_table
from concord.errors import ConcordError
from concord.models.students import IMAGENET_MEAN, IMAGENET_STD, NAMES, build_student, canonical, default_size
from concord.models.teachers import load_teacher


def normalised(pixels: Tensor) -> Tensor:
    return torchvision.transforms.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convnet_parameters(depth: int, classes: int, size: int, width: int = 128) -> int:
    """Weights and biases of the convolutions, scale and shift of the norms, one linear layer."""
    convs = (27 + 1) * width + (depth - 1) * (9 * width + 1) * width
    return convs + depth * 2 * width + (width * (size // 2**depth) ** 2 + 1) * classes


@pytest.mark.parametrize(
    ("depth", "size", "classes", "parameters"), [(3, 32, 10, 320_010), (4, 64, 10, None), (6, 128, 100, None)]
)
def test_convnets_have_the_fields_number_of_parameters(
    depth: int, size: int, classes: int, parameters: int | None
) -> None:
    """320,010 is the figure of the dataset-condensation papers for ConvNet-3 on CIFAR-10."""
    assert convnet_parameters(3, 10, 32) == 320_010
    student = build_student(f"convnet-{depth}", classes, size)
    assert count(student) == (parameters or convnet_parameters(depth, classes, size))
    assert student(torch.rand(2, 3, size, size)).shape == (2, classes)


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "group", "none"])
@pytest.mark.parametrize("pool", ["avg", "max", "none"])
def test_a_convnet_is_its_formula(norm: str, pool: str) -> None:
    """Convolution, norm, ReLU, pooling, in this order, written out with functions; the instance norm is torch's."""
    torch.manual_seed(0)
    student = build_student("convnet-2", 3, 8, norm=norm, pool=pool, width=8)
    for p in student.parameters():
        nn.init.normal_(p, std=0.3)
    state, pixels = student.net.state_dict(), torch.rand(2, 3, 8, 8)
    x = normalised(pixels)
    for d in range(2):
        x = F.conv2d(x, state[f"layers.conv.{d}.weight"], state[f"layers.conv.{d}.bias"], padding=1)
        w, b = state.get(f"layers.norm.{d}.weight"), state.get(f"layers.norm.{d}.bias")
        if norm == "batch":
            x = F.batch_norm(x, None, None, w, b, training=True)
        elif norm == "instance":
            x = F.instance_norm(x, weight=w, bias=b)
        elif norm == "layer":
            x = F.layer_norm(x, list(x.shape[1:]), w, b)
        elif norm == "group":
            x = F.group_norm(x, 4, w, b)
        x = x.relu()
        x = F.avg_pool2d(x, 2) if pool == "avg" else F.max_pool2d(x, 2) if pool == "max" else x
    features = x.flatten(1)
    logits = features @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(student(pixels), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(student.features(pixels), features, rtol=1e-4, atol=1e-4)


def test_batch_norm_is_the_default_of_a_convnet_and_instance_norm_of_a_resnetap() -> None:
    assert build_student("conv3", 10, 32).form.norm == "batch"
    assert any(isinstance(m, nn.BatchNorm2d) for m in build_student("conv3", 10, 32).modules())
    assert build_student("resnetap-10", 10, 64).form.norm == "instance"
    assert any(isinstance(m, nn.BatchNorm2d) for m in build_student("resnetap-10", 10, 64, norm="batch").modules())


@pytest.mark.parametrize("depth", [18, 50])
def test_resnets_are_torchvisions(depth: int) -> None:
    student = build_student(f"resnet-{depth}", 7, 64).eval()
    theirs = torchvision.models.get_model(f"resnet{depth}", weights=None, num_classes=7).eval()
    theirs.load_state_dict(student.net.state_dict())  # strict: the same names and shapes
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(student(pixels), theirs(normalised(pixels)))
    theirs.fc = nn.Identity()
    torch.testing.assert_close(student.features(pixels), theirs(normalised(pixels)))


def test_a_modified_resnet_keeps_the_resolution_up_to_its_second_stage() -> None:
    student = build_student("resnet18_modified", 10, 32)
    assert count(student) == count(build_student("resnet-18", 10, 32)) - 64 * 3 * (49 - 9)
    assert sides(student, "conv1", "layer1", "layer2", "layer4") == [32, 32, 16, 4]


def sides(student: nn.Module, *layers: str) -> list[int]:
    """Sides of what the layers of a student's net give."""
    seen: list[int] = []
    for layer in layers:
        student.net.get_submodule(layer).register_forward_hook(lambda *hooked: seen.append(hooked[2].shape[-1]))
    student(torch.rand(2, 3, student.size, student.size))
    return seen


@pytest.mark.parametrize(
    ("size", "kernel", "expected"),
    [
        (64, 3, [64, 64, 64, 32, 16, 8]),
        (65, 3, [65, 32, 32, 16, 8, 4]),
        (128, 3, [128, 64, 64, 32, 16, 8]),
        (132, 7, [132, 33, 33, 16, 8, 4]),
    ],
)
def test_a_resnetap_pools_where_others_stride(size: int, kernel: int, expected: list[int]) -> None:
    student = build_student("resnet_ap10", 10, size)
    convs = [m for m in student.modules() if isinstance(m, nn.Conv2d)]
    assert {m.stride for m in convs} == {(1, 1)}
    assert convs[0].kernel_size == (kernel, kernel)
    assert sides(student, "layer0.conv1", "layer0", "layer1", "layer2", "layer3", "layer4") == expected
    assert student.net.fc.in_features == 512


def test_a_resnetap_block_pools_between_its_convolutions_and_on_the_shortcut() -> None:
    torch.manual_seed(0)
    block = build_student("resnetap-10", 10, 64).net.layer2[0]
    x, state = torch.randn(2, 64, 8, 8), block.state_dict()
    y = F.instance_norm(F.conv2d(x, state["conv1.weight"], padding=1)).relu()
    y = F.instance_norm(F.conv2d(F.avg_pool2d(y, 2), state["conv2.weight"], padding=1))
    shortcut = F.instance_norm(F.avg_pool2d(F.conv2d(x, state["downsample.0.weight"]), 2))
    torch.testing.assert_close(block(x), (y + shortcut).relu(), rtol=1e-4, atol=1e-4)


def test_a_resnetaps_convolutions_start_he_normal_by_their_outputs() -> None:
    torch.manual_seed(0)
    for conv in (m for m in build_student("resnetap-10", 10, 64).modules() if isinstance(m, nn.Conv2d)):
        expected = (2 / (conv.out_channels * conv.kernel_size[0] ** 2)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("timm:resnet10t", 32, 512),
        ("timm:vit_tiny_patch16_224", 32, 192),  # its size is fixed when it is built
        ("mobilenet_v2", 32, 1280),
        ("torchvision:squeezenet1_1", 32, 512),  # its last layer is a convolution
    ],
)
def test_models_of_the_libraries_take_our_size_and_classes(name: str, size: int, width: int) -> None:
    student = build_student(name, 5, size).eval()
    pixels = torch.rand(2, 3, size, size, requires_grad=True)
    assert student(pixels).shape == (2, 5)
    assert student.features(pixels).shape == (2, width)


@pytest.mark.parametrize("name", ["convnet-1", "convnet-3", "resnet-18-modified", "resnetap-10", "timm:resnet10t"])
def test_every_weight_learns(name: str) -> None:
    """A layer that the forward pass leaves out would train to nothing, silently."""
    torch.manual_seed(0)
    student = build_student(name, 3, 16)
    F.cross_entropy(student(torch.rand(4, 3, 16, 16)), torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in student.parameters())
    first = next(p for n, p in student.named_parameters() if "conv" in n)
    assert first.grad is not None and first.grad.abs().max() > 0


def test_the_form_is_all_that_a_student_is_built_from() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)
    student = build_student("ConvNet2", 3, 8, norm="instance", width=4, mean=mean, std=std)
    form = student.form
    assert (student.name, student.size) == ("convnet-2", 8)
    again = build_student(
        form.name,
        form.classes,
        form.size,
        norm=form.norm,
        pool=form.pool or "avg",
        width=form.width,
        mean=mean,
        std=std,
    )
    again.load_state_dict(student.state_dict())
    pixels = torch.rand(2, 3, 8, 8)
    assert torch.equal(again(pixels), student(pixels))
    assert torch.equal(student.net((pixels - student.mean) / student.std), student(pixels))


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("conv3", "convnet-3"),
        ("ConvNet3", "convnet-3"),
        ("CONVNET-6", "convnet-6"),
        ("convnet_5", "convnet-5"),
        ("ConvNetD4", "convnet-4"),
        ("resnet18", "resnet-18"),
        ("ResNet-101", "resnet-101"),
        ("resnet18_modified", "resnet-18-modified"),
        ("resnet101-modified", "resnet-101-modified"),
        ("resnet_ap10", "resnetap-10"),
        ("resnet_ap", None),
        ("ResNetAP-10", "resnetap-10"),
        ("efficientnet_b0", "torchvision:efficientnet_b0"),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k"),
    ],
)
def test_aliases(alias: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ConcordError, match="did you mean"):
            canonical(alias)
    else:
        assert canonical(alias) == name
        assert canonical(name) == name


@given(st.text())
def test_any_text_is_a_student_or_one_clear_line(text: str) -> None:
    try:
        name = canonical(text)
    except ConcordError as error:
        assert "student" in str(error) or "has no model" in str(error)
    else:
        assert canonical(name) == name


def test_sizes_are_those_of_rdeds_code() -> None:
    sizes = {name: default_size(name) for name in NAMES}
    assert {sizes[n] for n in ("convnet-4", "resnet-18", "resnet-50", "resnet-101", "resnetap-10")} == {224}
    assert (sizes["convnet-3"], sizes["convnet-5"], sizes["convnet-6"]) == (32, 128, 128)
    assert default_size("timm:resnet10t") == 224


def test_what_cannot_be_built_is_one_line() -> None:
    for message, name, size, choices in (
        ("did you mean", "resnet19", 32, {}),
        ("timm has no model .*did you mean", "timm:resnet10", 32, {}),
        ("timm:NAME or torchvision:NAME", "keras:resnet", 32, {}),
        ("too small for a convnet-4.*size=16", "convnet-4", 15, {}),
        ("too small for a resnetap-10", "resnetap-10", 7, {}),
        ("does not take images of 8 pixels", "torchvision:alexnet", 8, {}),
        ("unknown norm", "convnet-3", 32, {"norm": "instence"}),
        ("unknown pool", "convnet-3", 32, {"pool": "mean"}),
        ("multiple of 4", "convnet-3", 32, {"norm": "group", "width": 6}),
        ("it is batch or instance", "resnet-18", 32, {"norm": "layer"}),
        ("no choice of norm", "resnet-18-modified", 32, {"norm": "instance"}),
        ("no choice of pool", "resnetap-10", 32, {"pool": "max"}),
        ("no choice of width", "timm:resnet10t", 32, {"width": 64}),
        ("it is instance or batch", "resnetap-10", 32, {"norm": "layer"}),
    ):
        with pytest.raises(ConcordError, match=message):
            build_student(name, 10, size, **choices)
    build_student("convnet-4", 10, 4, pool="none", width=4)  # without pooling any size goes


def test_a_missing_timm_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConcordError, match=r"^timm:NAME needs .*: pip install 'concord-distill\[timm\]'$"):
        build_student("timm:resnet10t", 10, 32)
    with pytest.raises(ConcordError, match=r"^timm:NAME needs .*: pip install 'concord-distill\[timm\]'$"):
        load_teacher("timm:resnet10t", class_table([ClassSpec("a")]))


def residual(x: torch.Tensor, state: dict[str, torch.Tensor], stride: int) -> torch.Tensor:
    """A basic block with instance norm, by the equations."""

    def normed(y: torch.Tensor, name: str) -> torch.Tensor:
        return F.instance_norm(y, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])

    y = normed(F.conv2d(x, state["conv1.weight"], stride=stride, padding=1), "bn1").relu()
    y = normed(F.conv2d(y, state["conv2.weight"], padding=1), "bn2")
    if "downsample.0.weight" in state:
        x = normed(F.conv2d(x, state["downsample.0.weight"], stride=stride), "downsample.1")
    return (x + y).relu()


@pytest.mark.parametrize(("size", "stride", "pooled"), [(48, 1, False), (96, 1, True), (160, 2, True)])
def test_a_resnet_with_instance_norm_follows_the_size(size: int, stride: int, pooled: bool) -> None:
    """As Minimax's ResNet-18 does: first layer by the image, then torchvision's blocks, then the mean over pixels."""
    torch.manual_seed(0)
    student = build_student("resnet-18", 7, size, norm="instance")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    state, pixels = student.net.state_dict(), torch.rand(2, 3, size, size)
    first = F.conv2d(
        normalised(pixels), state["conv1.weight"], stride=stride, padding=state["conv1.weight"].shape[-1] // 2
    )
    x = F.instance_norm(first, weight=state["bn1.weight"], bias=state["bn1.bias"]).relu()
    x = F.max_pool2d(x, 3, 2, 1) if pooled else x
    for layer in range(1, 5):
        for block in range(2):
            name = f"layer{layer}.{block}."
            part = {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}
            x = residual(x, part, 2 if layer > 1 and block == 0 else 1)
    logits = x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"]
    torch.testing.assert_close(student(pixels), logits, rtol=1e-3, atol=1e-4)
    assert not any("running" in name for name in state)


@pytest.mark.parametrize("size", [64, 128, 224])
def test_its_convolutions_start_he_normal_by_their_outputs(size: int) -> None:
    torch.manual_seed(0)
    conv = build_student("resnet-18", 10, size, norm="instance").net.conv1
    assert conv.weight.std().item() == pytest.approx((2 / (64 * conv.kernel_size[0] ** 2)) ** 0.5, rel=0.05)
