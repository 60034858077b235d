"""Teachers write the soft labels: a column in the wrong place teaches every student a wrong class, silently."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from concord.data import ClassSpec, ClassTable, class_table
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.models.classifier import Classifier
from concord.models.classifier_file import save_classifier
from concord.models.students import IMAGENET_MEAN, IMAGENET_STD, Student, StudentForm, build_student
from concord.models.teachers import Check, Teacher, check_teacher, load_teacher, remap, require_sound

NAMES = ["ant", "bee", "cat", "dog"]


def table(*names: str) -> ClassTable:
    return class_table(ClassSpec(name) for name in names)


def numbered(k: int) -> ClassTable:
    return table(*(f"c{i:04d}" for i in range(k)))


def convnet(classes: int = 4, size: int = 8, **choices: Any) -> Student:
    """A convnet-2 whose running statistics are not those of a new one."""
    torch.manual_seed(1)
    student = build_student("convnet-2", classes, size, width=4, **choices)
    student(torch.rand(16, 3, size, size))
    return student.eval()


class Marks(nn.Module):
    """Reads the class from a pixel: an image of class c has the red c / 255."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.marks = torch.arange(classes)

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, 0, 0, 0, None] * 255 - self.marks).square()


def reader(k: int, columns: tuple[int, ...] | None = None) -> Teacher:
    """A teacher that is always right, or whose outputs are in another order."""
    form = StudentForm("marks", k, 1, mean=(0.0,) * 3, std=(1.0,) * 3)
    return Teacher("marks", Student(Marks(k), form), columns or tuple(range(k)))


def marked(k: int, each: int, seen: float = 1.0) -> TensorSet:
    """Images of k classes; only a share of them bears its own class's mark, the others a class's by lot."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(k), each)
    marks = np.where(rng.random(len(labels)) < seen, labels, rng.integers(0, k, len(labels)))
    images = torch.from_numpy(marks.astype(np.uint8)).view(-1, 1, 1, 1).expand(-1, 3, 1, 1).contiguous()
    return TensorSet(images, torch.from_numpy(labels))


# Loading


def test_our_own_file_gives_the_students_logits(tmp_path: Path) -> None:
    student = convnet()
    save_classifier(tmp_path / "t.safetensors", student, NAMES)
    teacher = load_teacher(str(tmp_path / "t.safetensors"), table(*NAMES))
    pixels = torch.rand(3, 3, 8, 8, requires_grad=True)
    torch.testing.assert_close(teacher.logits(pixels), student(pixels))
    torch.testing.assert_close(teacher.features(pixels), student.features(pixels))
    assert (teacher.name, teacher.labels, teacher.size) == ("t.safetensors", tuple(NAMES), 8)
    assert not any(p.requires_grad for p in teacher.network.parameters())
    (g,) = torch.autograd.grad(teacher.logits(pixels).sum(), pixels)
    assert g.abs().max() > 0


def test_images_of_another_size_are_resized_to_the_teachers(tmp_path: Path) -> None:
    save_classifier(tmp_path / "t.safetensors", convnet(), NAMES)
    teacher = load_teacher(str(tmp_path / "t.safetensors"), table(*NAMES))
    pixels = torch.rand(2, 3, 20, 20)
    small = torchvision.transforms.v2.functional.resize(pixels, [8, 8], antialias=True)
    torch.testing.assert_close(teacher.logits(pixels), teacher.logits(small))


def test_labels_in_another_order_reorder_the_columns(tmp_path: Path) -> None:
    """By folder, class name or WordNet id, whichever the teacher's file has."""
    student = convnet()
    save_classifier(tmp_path / "t.safetensors", student, ["dog", "terrier", "n02086240", "ant"])
    classes = class_table(
        [ClassSpec("ant"), ClassSpec("n02086240"), ClassSpec("bee", class_name="terrier"), ClassSpec("dog")]
    )
    assert [e.key for e in classes] == ["ant", "bee", "dog", "n02086240"]
    teacher = load_teacher(str(tmp_path / "t.safetensors"), classes)
    pixels = torch.rand(2, 3, 8, 8)
    assert teacher.columns == (3, 1, 0, 2)
    assert teacher.labels == ("ant", "terrier", "dog", "n02086240")
    torch.testing.assert_close(teacher.logits(pixels), student(pixels)[:, [3, 1, 0, 2]])


def test_labels_differ_from_classes_by_case_where_nothing_fits_better(tmp_path: Path) -> None:
    save_classifier(tmp_path / "t.safetensors", convnet(), ["Cardigan", "cardigan", "DOG", "Cardigan"])
    classes = class_table([ClassSpec("cardigan"), ClassSpec("dog")])
    assert load_teacher(str(tmp_path / "t.safetensors"), classes).columns == (1, 2)


def test_classes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    save_classifier(path, convnet(), NAMES)
    torch.save(convnet().net.state_dict(), tmp_path / "t.pth")
    with pytest.raises(ConcordError, match="4 outputs, the data have 3 classes"):
        load_teacher(str(tmp_path / "t.pth"), table(*NAMES[:3]))
    assert load_teacher(str(path), table(*NAMES[1:])).columns == (1, 2, 3), "a part of the classes that it names"
    with pytest.raises(ConcordError, match=r"no class for eel of the data; its classes are ant, bee, cat, dog"):
        load_teacher(str(path), table("ant", "bee", "dog", "eel"))


@pytest.mark.parametrize("norm", ["batch", "instance", "layer", "none"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_checkpoint_of_rded_loads_by_its_keys(tmp_path: Path, norm: str, wrapped: bool) -> None:
    """A state dict as their ConvNet has it, written out by hand, and their forward pass."""
    torch.manual_seed(0)
    state: dict[str, Tensor] = {}
    for d in range(3):
        side = 16 // 2**d
        state[f"layers.conv.{d}.weight"] = torch.randn(6, 6 if d else 3, 3, 3) * 0.3
        state[f"layers.conv.{d}.bias"] = torch.randn(6)
        if norm != "none":
            shape = (6, side, side) if norm == "layer" else (6,)
            state[f"layers.norm.{d}.weight"], state[f"layers.norm.{d}.bias"] = torch.rand(shape), torch.randn(shape)
        if norm == "batch":
            state[f"layers.norm.{d}.running_mean"] = torch.randn(6)
            state[f"layers.norm.{d}.running_var"] = torch.rand(6) + 0.5
            state[f"layers.norm.{d}.num_batches_tracked"] = torch.tensor(7)
    state["classifier.weight"], state["classifier.bias"] = torch.randn(4, 6 * 4), torch.randn(4)
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}} if wrapped else state, tmp_path / "conv3.pth")

    teacher = load_teacher(str(tmp_path / "conv3.pth"), table(*NAMES))
    pixels = torch.rand(2, 3, 16, 16)
    x = torchvision.transforms.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))
    for d in range(3):
        x = F.conv2d(x, state[f"layers.conv.{d}.weight"], state[f"layers.conv.{d}.bias"], padding=1)
        w, b = state.get(f"layers.norm.{d}.weight"), state.get(f"layers.norm.{d}.bias")
        if norm == "batch":
            x = F.batch_norm(x, state[f"layers.norm.{d}.running_mean"], state[f"layers.norm.{d}.running_var"], w, b)
        elif norm == "instance":
            x = F.instance_norm(x, weight=w, bias=b)
        elif norm == "layer":
            x = F.layer_norm(x, [6, 16 // 2**d, 16 // 2**d], w, b)
        x = F.avg_pool2d(x.relu(), 2)
    expected = x.flatten(1) @ state["classifier.weight"].T + state["classifier.bias"]
    torch.testing.assert_close(teacher.logits(pixels), expected, rtol=1e-3, atol=1e-3)
    assert (teacher.size, teacher.labels) == (16, None)


@pytest.mark.parametrize("name", ["resnet18", "resnet18_modified"])
def test_a_resnet_of_rded_loads_by_its_keys_and_takes_images_as_they_come(tmp_path: Path, name: str) -> None:
    student = build_student(name, 4, 32).eval()
    torch.save({"model": student.net.state_dict()}, tmp_path / "r.pth")
    teacher = load_teacher(str(tmp_path / "r.pth"), table(*NAMES))
    pixels = torch.rand(2, 3, 40, 40)
    torch.testing.assert_close(teacher.logits(pixels), student(pixels))
    assert teacher.size is None
    assert load_teacher(str(tmp_path / "r.pth"), table(*NAMES), size=32).size == 32


def test_a_resnetap_of_minimax_needs_its_size(tmp_path: Path) -> None:
    student = build_student("resnetap-10", 4, 80).eval()
    save_file(student.net.state_dict(), tmp_path / "ap.safetensors")
    with pytest.raises(ConcordError, match=r"64 or for 128 pixels; give teacher_size"):
        load_teacher(str(tmp_path / "ap.safetensors"), table(*NAMES))
    teacher = load_teacher(str(tmp_path / "ap.safetensors"), table(*NAMES), size=80)
    pixels = torch.rand(1, 3, 80, 80)
    torch.testing.assert_close(teacher.logits(pixels), student(pixels))


@pytest.mark.parametrize("size", [48, 160])
def test_a_resnet_of_minimax_loads_by_its_keys(tmp_path: Path, size: int) -> None:
    student = build_student("resnet-18", 4, size, norm="instance").eval()
    state = student.net.state_dict()
    theirs = {f"layer0.{key}" if key.startswith(("conv1", "bn1")) else key: value for key, value in state.items()}
    save_file(theirs, tmp_path / "in.safetensors")
    teacher = load_teacher(str(tmp_path / "in.safetensors"), table(*NAMES), size=size)
    pixels = torch.rand(1, 3, size, size)
    torch.testing.assert_close(teacher.logits(pixels), student(pixels))
    if size <= 128:
        with pytest.raises(ConcordError, match=r"resnet-18 is for 64 or for 128 pixels; give teacher_size"):
            load_teacher(str(tmp_path / "in.safetensors"), table(*NAMES))


def test_arch_names_the_network_of_a_file(tmp_path: Path) -> None:
    net = timm.create_model("resnet10t", num_classes=4).eval()
    torch.save(net.state_dict(), tmp_path / "t.pt")
    with pytest.raises(ConcordError, match="name it with arch=NAME"):
        load_teacher(str(tmp_path / "t.pt"), table(*NAMES))
    teacher = load_teacher(str(tmp_path / "t.pt"), table(*NAMES), arch="timm:resnet10t", size=32)
    pixels = torch.rand(1, 3, 32, 32)
    x = torchvision.transforms.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(teacher.logits(pixels), net(x))
    with pytest.raises(ConcordError, match=r"does not fit a resnet-18 .*missing.*unknown.*of another shape"):
        load_teacher(str(tmp_path / "t.pt"), table(*NAMES), arch="resnet18")
    with pytest.raises(ConcordError, match="4 outputs, the data have 3 classes"):
        load_teacher(str(tmp_path / "t.pt"), table(*NAMES[:3]), arch="timm:resnet10t", size=32)


def test_files_that_hold_no_teacher_are_one_line(tmp_path: Path) -> None:
    for name, content, message in (
        ("torn.pth", b"PK\x03\x04 torn", "torn"),
        ("text.safetensors", b"hello", "torn"),
        ("empty.pt", b"", "torn"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConcordError, match=message):
            load_teacher(str(tmp_path / name), table(*NAMES))
    with pytest.raises(ConcordError, match="no such file"):
        load_teacher(str(tmp_path / "none.pth"), table(*NAMES))
    odd = {"layers.conv.0.weight": torch.tensor(1.0), "classifier.weight": torch.tensor(1.0)}
    torch.save(odd, tmp_path / "odd.pth")
    with pytest.raises(ConcordError, match="do not tell the network"):
        load_teacher(str(tmp_path / "odd.pth"), table(*NAMES))
    with pytest.raises(ConcordError, match="does not fit a convnet-3"):
        load_teacher(str(tmp_path / "odd.pth"), table(*NAMES), arch="conv3")


def test_a_convnet_at_a_size_that_it_does_not_take_is_one_line(tmp_path: Path) -> None:
    save_classifier(tmp_path / "t.safetensors", convnet(), NAMES)
    with pytest.raises(ConcordError, match="does not take images of 32 pixels"):
        load_teacher(str(tmp_path / "t.safetensors"), table(*NAMES), size=32)


def test_a_transformers_classifier_goes_by_its_labels(tmp_path: Path) -> None:
    """Its own preprocessing, with the labels that its config names; cat, dog, eel."""
    folder = tiny.save_classifier(tmp_path)
    classes = class_table([ClassSpec("1", "eel"), ClassSpec("2", "cat"), ClassSpec("3", "dog")])
    teacher = load_teacher(str(folder), classes)
    pixels = torch.rand(2, 3, tiny.PIXELS, tiny.PIXELS)
    expected = Classifier.from_pretrained(str(folder)).logits(pixels * 2 - 1)[:, [2, 0, 1]]
    torch.testing.assert_close(teacher.logits(pixels), expected)
    assert (teacher.labels, teacher.size) == (("eel", "cat", "dog"), tiny.PIXELS)
    assert teacher.features(pixels).shape == (2, 8)


def test_the_packages_own_teacher_knows_reef() -> None:
    """Sorted folders are not the order of its logits."""
    from concord.data.tensors import for_testing, load
    from concord.reef.dataset import test_set

    data = test_set(6)
    teacher = load_teacher("reef:teacher", data.classes)
    check = check_teacher(teacher, load(data, for_testing(64, 64)))
    require_sound(check, teacher)
    assert check.accuracy > 0.8
    assert teacher.columns != tuple(range(10))


def imagenet_head(monkeypatch: pytest.MonkeyPatch, model: str) -> nn.Module:
    """Let a torchvision model's download give random weights, which are returned as a network."""
    torch.manual_seed(0)
    net: nn.Module = torchvision.models.get_model(model, weights=None).eval()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: net.state_dict())
    return net


@pytest.mark.parametrize("spec", ["torchvision:mobilenet_v3_small", "mobilenet_v3_small"])
def test_an_imagenet_teacher_gives_the_classes_of_a_subset(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    net = imagenet_head(monkeypatch, "mobilenet_v3_small")
    classes = table("n02099601", "n01440764", "n15075141")  # golden retriever, tench and toilet tissue: 207, 0, 999
    teacher = load_teacher(spec, classes)
    assert teacher.columns == (0, 207, 999)
    assert (teacher.size, teacher.labels) == (224, None)
    pixels = torch.rand(1, 3, 224, 224)
    x = torchvision.transforms.functional.normalize(pixels, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(teacher.logits(pixels), net(x)[:, [0, 207, 999]])
    with pytest.raises(ConcordError, match="1000 outputs, the data have 4 classes"):
        load_teacher(spec, table(*NAMES))


def test_a_timm_teacher_brings_its_own_normalisation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.models._builder.load_pretrained", lambda *_, **__: None)
    torch.manual_seed(0)
    teacher = load_teacher("timm:vit_tiny_patch16_224", table("n02099601", "n01440764"))
    assert (teacher.size, teacher.columns) == (224, (0, 207))
    assert teacher.network.mean.unique().tolist() == [0.5]  # not ImageNet's


def test_weights_that_cannot_be_had_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    for spec in ("resnet18", "resnet-18", "torchvision:resnet18", "timm:resnet10t"):
        with pytest.raises(ConcordError, match=r"cannot load the model .*no route to host.*set `teacher`"):
            load_teacher(spec, table(*NAMES))
    with pytest.raises(ConcordError, match="no pretrained weights of convnet-3"):
        load_teacher("conv3", table(*NAMES))
    with pytest.raises(ConcordError, match="no model"):
        load_teacher("torchvision:resnet17", table(*NAMES))
    with pytest.raises(ConcordError, match="arch=conv3 is for a file"):
        load_teacher("resnet18", table(*NAMES), arch="conv3")


def test_the_fingerprint_follows_weights_and_order(tmp_path: Path) -> None:
    """Stored soft labels name it: equal for the same file, another for anything that changes a logit."""
    student = convnet()
    save_classifier(tmp_path / "a.safetensors", student, NAMES)
    save_classifier(tmp_path / "b.safetensors", student, ["bee", "ant", "cat", "dog"])
    a, b = (load_teacher(str(tmp_path / f"{n}.safetensors"), table(*NAMES)) for n in "ab")
    assert a.fingerprint == load_teacher(str(tmp_path / "a.safetensors"), table(*NAMES)).fingerprint
    with torch.no_grad():
        student.net.classifier.bias[0] += 1e-3
    save_classifier(tmp_path / "c.safetensors", student, NAMES)
    save_classifier(
        tmp_path / "d.safetensors", Student(student.net, StudentForm("convnet-2", 4, 8, "batch", "avg", 4)), NAMES
    )
    d = Student(student.net, StudentForm("convnet-2", 4, 8, "batch", "avg", 4, mean=(0.5, 0.5, 0.5)))
    save_classifier(tmp_path / "e.safetensors", d, NAMES)
    others = [load_teacher(str(tmp_path / f"{n}.safetensors"), table(*NAMES)).fingerprint for n in "ce"]
    assert len({a.fingerprint, b.fingerprint, *others}) == 4


# The check


def test_the_check_counts_true_rows_and_predicted_columns() -> None:
    teacher, test = reader(3, (1, 0, 2)), marked(3, 7)
    check = check_teacher(teacher, test, batch=4)
    assert check.confusion.tolist() == [[0, 7, 0], [7, 0, 0], [0, 0, 7]]
    assert check.accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("k", [2, 3, 10, 100])
@pytest.mark.parametrize("seen", [1.0, 0.5])
def test_a_permuted_teacher_is_refused_and_remapped_exactly(k: int, seen: float) -> None:
    """At 50 % of marks, as at 100 %: users had 8 % for 40 %."""
    test = marked(k, 40, seen)
    sound = check_teacher(reader(k), test)
    require_sound(sound, reader(k))
    order = tuple(int(i) for i in np.roll(np.arange(k), 1))
    wrong = reader(k, order)
    check = check_teacher(wrong, test)
    with pytest.raises(ConcordError, match=rf"{check.accuracy:.1%} .*chance: {1 / k:.1%}.*class order.*--remap"):
        require_sound(check, wrong)
    right = remap(wrong, check)
    again = check_teacher(right, test)
    assert again.accuracy == sound.accuracy
    assert torch.equal(again.confusion, sound.confusion)
    assert right.remapped is not None
    assert tuple(order[i] for i in right.remapped) == tuple(range(k)) == right.columns
    require_sound(again, right)
    assert wrong.remapped is None
    assert right.fingerprint != wrong.fingerprint


def test_two_exchanged_classes_of_ten_are_found_far_above_chance() -> None:
    wrong = reader(10, (1, 0, *range(2, 10)))
    check = check_teacher(wrong, marked(10, 30, seen=0.9))
    assert check.accuracy > 0.6
    with pytest.raises(ConcordError, match="another order"):
        require_sound(check, wrong)


def test_an_order_that_is_right_is_left_alone() -> None:
    check = check_teacher(reader(5), marked(5, 20, seen=0.6))
    assert remap(reader(5), check).remapped == (0, 1, 2, 3, 4)


@pytest.mark.parametrize("k", [2, 10, 100])
def test_a_teacher_that_guesses_is_refused_and_no_remap_hides_it(k: int) -> None:
    """The best order of a guess is well above chance on the images that it was fitted to."""
    check = check_teacher(reader(k), marked(k, 40, seen=0.0))
    with pytest.raises(ConcordError, match="or it was not trained on these classes"):
        require_sound(check, reader(k))
    with pytest.raises(ConcordError, match="no order of its classes"):
        remap(reader(k), check)


@pytest.mark.parametrize(
    ("k", "each", "seen"), [(2, 5, 0.8), (2, 100, 0.5), (3, 2, 1.0), (10, 1, 0.5), (10, 100, 0.15), (250, 1, 0.1)]
)
def test_a_weak_teacher_and_a_handful_of_images_are_no_fault(k: int, each: int, seen: float) -> None:
    """A false alarm would stop a run that is right."""
    check = check_teacher(reader(k), marked(k, each, seen))
    require_sound(check, reader(k))


def test_false_alarms_are_rare() -> None:
    """Teachers that are right for 30 % by weights and guess the rest with a bias: a hundred draws, no alarm."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        k, each = int(rng.integers(3, 20)), int(rng.integers(20, 60))
        bias = rng.dirichlet(np.ones(k))
        rows = [rng.multinomial(each, 0.3 * np.eye(k)[c] + 0.7 * bias) for c in range(k)]
        confusion = torch.tensor(np.array(rows))
        require_sound(Check(float(confusion.trace() / confusion.sum()), confusion), reader(k))


def test_a_thousand_classes_take_seconds() -> None:
    rng = np.random.default_rng(2)
    order = rng.permutation(1000)
    confusion = torch.zeros(1000, 1000, dtype=torch.int64)
    confusion[torch.arange(1000), torch.from_numpy(order)] = 30
    for _ in range(20):
        confusion[torch.arange(1000), torch.from_numpy(rng.permutation(1000))] += 1
    check = Check(float(confusion.trace() / confusion.sum()), confusion)
    with pytest.raises(ConcordError, match="another order"):
        require_sound(check, reader(1000))
    assert remap(reader(1000), check).remapped == tuple(order.tolist())
