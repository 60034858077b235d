"""Float images under a protocol, held against plain loops: rounded, clamped or whitened otherwise it is another set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import CLASSES, colour_teacher, record, refused, sets, succeed
from PIL import Image
from small_sets import SIDE, write_folders
from torch import Tensor
from torch.nn import functional as F

from concord.data import ClassSpec, class_table
from concord.data.space import SPACES, Space
from concord.data.tensor_set import TensorForm, save_tensors
from concord.evaluation.augment import Augment, apply, draw
from concord.models.networks import ConvNet
from concord.models.students import build_student

LABELS = torch.arange(3).repeat_interleave(2)
DC = ("student=convnet-1", "width=4", "workers=1", "protocol=dc", "epochs=3", "seeds=2")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def peer(folder: Path, images: Tensor, labels: Tensor = LABELS) -> Path:
    """A file as DC's and DM's code leaves it, with the names of its classes beside it."""
    folder.mkdir(exist_ok=True)
    torch.save({"data": [[images, labels]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}, folder / "res_DM_own.pt")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder / "res_DM_own.pt"


def small(root: Path, images: int) -> tuple[Path, Path]:
    """Sets of 8 pixels a side, so that whitening is of 192 values."""
    train = write_folders(root / "train", dict.fromkeys(CLASSES, images), side=8)
    return train, write_folders(root / "test", dict.fromkeys(CLASSES, 6), side=8, seed=1)


def pictures(folder: Path) -> tuple[Tensor, Tensor]:
    """The pixels in [0, 1] of a folder's images, and their labels, by Pillow and NumPy alone."""
    files = sorted(folder.rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]).transpose(0, 3, 1, 2)
    return torch.from_numpy(pixels.copy()).float() / 255, torch.tensor([CLASSES.index(f.parent.name) for f in files])


def plain_loop(images: Tensor, labels: Tensor, test: Tensor, seed: int, lr: float = 0.01, epochs: int = 3) -> Tensor:
    """DC's evaluation as its code has it, on values as they are: logits of the test images."""
    torch.manual_seed(seed)
    net = ConvNet(1, 3, images.shape[-1], "instance", "avg", 4, images.shape[1])
    schedule = epochs // 2 + 1
    optimiser = torch.optim.SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    for epoch in range(epochs + 1):
        shuffle = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(len(images), generator=shuffle)
        loss = F.cross_entropy(net(images[order]), labels[order])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if epoch == schedule:
            optimiser = torch.optim.SGD(net.parameters(), lr * 0.1, momentum=0.9, weight_decay=5e-4)
    with torch.no_grad():
        return net.eval()(test)


def same(cell: dict[str, Any], loops: list[Tensor], truth: Tensor) -> None:
    """A cell's accuracies and confusions are those of some plain loops, exactly."""
    values = [100 * float((logits.argmax(1) == truth).double().mean()) for logits in loops]
    assert cell["top1"]["last"]["values"] == pytest.approx(values, abs=5e-5)
    confusion = np.zeros((3, 3), int)
    for logits in loops:
        np.add.at(confusion, (truth.numpy(), logits.argmax(1).numpy()), 1)
    assert cell["confusion"] == confusion.tolist()


def test_a_peers_file_trains_as_a_plain_loop_on_its_values(tmp_path: Path) -> None:
    _, test = sets(tmp_path)
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    images = 3 * noise(6, 3, SIDE, SIDE)  # far out of what eight bits hold
    path = peer(tmp_path / "dm", images)
    space = ("tensors.mean=0.4,0.5,0.6", "tensors.std=0.2,0.25,0.3")
    succeed("evaluate", path, "--test", test, *DC, *space, "metrics=nll")
    pixels, truth = pictures(test)
    loops = [plain_loop(images, LABELS, (pixels - mean) / std, seed) for seed in (0, 1)]
    [cell] = record(tmp_path / "dm")["cells"]
    same(cell, loops, truth)
    losses = [float(F.cross_entropy(logits.double(), truth)) for logits in loops]
    assert cell["metrics"]["nll"]["last"]["values"] == pytest.approx(losses, abs=2e-6)
    assert cell["tensors"] == {"space": "normalised", "channels": 3, "decode": 1, "rate": None, "soft": False}


def test_whitened_images_are_tested_on_images_whitened_alike(tmp_path: Path) -> None:
    train, test = small(tmp_path, 30)
    images = noise(6, 3, 8, 8)
    path = peer(tmp_path / "mtt", images)
    succeed("evaluate", path, "--test", test, *DC, f"tensors.zca={train}", "metrics=nll")
    rows = pictures(train)[0].flatten(1).double().numpy()
    variances, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    matrix = vectors @ np.diag(1 / np.sqrt(variances + 0.1)) @ vectors.T
    pixels, truth = pictures(test)
    white = torch.from_numpy((pixels.flatten(1).numpy() - rows.mean(0)) @ matrix).float().view_as(pixels)
    loops = [plain_loop(images, LABELS, white, seed) for seed in (0, 1)]
    [cell] = record(tmp_path / "mtt")["cells"]
    same(cell, loops, truth)
    losses = [float(F.cross_entropy(logits.double(), truth)) for logits in loops]
    assert cell["metrics"]["nll"]["last"]["values"] == pytest.approx(losses, abs=1e-5)
    assert cell["tensors"]["space"] == "zca"


def test_decoded_images_are_what_is_trained_on(tmp_path: Path) -> None:
    _, test = sets(tmp_path)
    images = noise(6, 3, SIDE, SIDE)
    path = peer(tmp_path / "idm", images)
    succeed("evaluate", path, "--test", test, *DC, "tensors.space=pixels", "tensors.decode=2", "ipc=1,2")
    half = SIDE // 2
    parts = [images[:, :, i : i + half, j : j + half] for i in (0, half) for j in (0, half)]
    shown = torch.stack([F.interpolate(part, scale_factor=2, mode="bilinear") for part in parts], 1).flatten(0, 1)
    pixels, truth = pictures(test)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in SPACES["cifar10"])  # what `dc` normalises pixels with
    first, both = record(tmp_path / "idm")["cells"]
    assert (first["images"], both["images"]) == (12, 24)
    for cell, kept in ((first, [0, 2, 4]), (both, [*range(6)])):
        index = torch.cat([torch.arange(4 * k, 4 * k + 4) for k in kept])
        labels = LABELS.repeat_interleave(4)[index]
        loops = [plain_loop((shown[index] - mean) / std, labels, (pixels - mean) / std, seed) for seed in (0, 1)]
        same(cell, loops, truth)


def test_soft_labels_and_the_learnt_rate_of_a_set_are_used(tmp_path: Path) -> None:
    _, test = sets(tmp_path)
    images, soft = noise(6, 3, SIDE, SIDE), (4 * F.one_hot(LABELS, 3) + noise(6, 3)).softmax(1)
    table = class_table(ClassSpec(name) for name in CLASSES)
    form = TensorForm(Space.normalised([0.5] * 3, [0.5] * 3), rate=0.03)
    path = tmp_path / "own" / "tensors.safetensors"
    path.parent.mkdir()
    save_tensors(path, images, soft.argmax(1), table, form, soft)
    succeed("evaluate", path.parent, "--test", test, *DC)
    order = soft.argmax(1).argsort(stable=True)
    pixels, truth = pictures(test)
    [cell] = record(path.parent)["cells"]
    assert cell["changed"]["lr"] == 0.03
    loops = [plain_loop(images[order], soft[order], pixels * 2 - 1, seed, lr=0.03) for seed in (0, 1)]
    same(cell, loops, truth)
    assert "leave it out" in refused("evaluate", path, "--test", test, *DC, "tensors.space=pixels")
    assert "leave classes= out" in refused("evaluate", path, "--test", test, *DC, "classes=ash,birch")
    succeed("evaluate", path, "--test", test, *DC, "lr=0.01", "--out", tmp_path / "slow.json")
    assert "lr" not in record(tmp_path / "slow.json")["cells"][0]["changed"], "the preset's, asked for by hand"


def test_grey_images_of_28_pixels(tmp_path: Path) -> None:
    """DC's ConvNet pads one channel to 32 pixels; coloured test images are seen grey."""
    test = write_folders(tmp_path / "test", dict.fromkeys(CLASSES, 4), side=28, seed=1)
    images = noise(6, 1, 28, 28)
    path = peer(tmp_path / "mnist", images)
    space = ("tensors.mean=0.13", "tensors.std=0.31")
    succeed("evaluate", path, "--test", test, *DC, "epochs=1", "seeds=1", *space)
    files = sorted(test.rglob("*.png"))
    grey = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])[:, None]
    truth = torch.arange(3).repeat_interleave(4)
    [cell] = record(tmp_path / "mnist")["cells"]
    shown = (torch.from_numpy(grey).float() / 255 - 0.13) / 0.31
    same(cell, [plain_loop(images, LABELS, shown, 0, epochs=1)], truth)
    assert cell["size"] == 28 and cell["tensors"]["channels"] == 1


@pytest.mark.parametrize("name", ["convnet-3", "resnet-18-modified", "resnetap-10", "timm:resnet10t"])
def test_students_of_one_channel(name: str) -> None:
    student = build_student(name, 4, 28, mean=(0.0,), std=(1.0,)).eval()
    assert student(torch.zeros(2, 1, 28, 28)).shape == (2, 4)
    if name == "convnet-3":
        assert student.net.get_submodule("classifier").in_features == 128 * 4 * 4


def test_another_library_student_of_one_channel_is_refused(tmp_path: Path) -> None:
    _, test = sets(tmp_path)
    path = peer(tmp_path / "set", noise(6, 1, SIDE, SIDE))
    said = refused("evaluate", path, "--test", test, "tensors.space=pixels", "protocol=dc", "student=mobilenet_v2")
    assert "takes images of three channels" in said


def test_colours_are_changed_where_they_are_colours() -> None:
    """Jitter and lighting by way of pixels, which an affine space and its pixels have in common; DSA on the values."""
    space = Space.named("imagenet")
    settings = Augment(color=0.4, lighting=0.1, flip=True)
    view = draw(settings, 5, SIDE, SIDE, torch.Generator().manual_seed(0))
    pixels = torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    shown = apply(settings, space.of_pixels(pixels), view, SIDE, space=space)
    torch.testing.assert_close(space.pixels(shown), apply(settings, pixels, view, SIDE), atol=2e-6, rtol=0)
    grey = pixels.mean(1, keepdim=True)
    rgb = apply(settings, grey.expand(-1, 3, -1, -1), view, SIDE)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    one = apply(settings, grey, view, SIDE)
    torch.testing.assert_close(one, (rgb * weights).sum(1, keepdim=True), atol=2e-6, rtol=0)
    dsa = Augment(dsa="color_cutout")
    view = draw(dsa, 5, SIDE, SIDE, torch.Generator().manual_seed(0))
    mean, std = space.mean, space.std
    expected = space.of_pixels(apply(dsa, pixels, view, SIDE, mean, std))
    torch.testing.assert_close(
        apply(dsa, space.of_pixels(pixels), view, SIDE, space=space), expected, atol=1e-5, rtol=0
    )


def test_a_teacher_sees_the_pixels_and_its_stored_labels_train_alike(tmp_path: Path) -> None:
    """The same picture as bytes and as values of a space gets the same labels, online, fixed and stored."""
    train, test = sets(tmp_path, images=2)
    pixels, labels = pictures(train)
    space = Space.normalised([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    table = class_table(ClassSpec(name) for name in CLASSES)
    path = tmp_path / "floats" / "tensors.safetensors"
    path.parent.mkdir()
    save_tensors(path, space.of_pixels(pixels), labels, table, TensorForm(space))
    teacher = f"teacher={colour_teacher(tmp_path / 'teacher.safetensors')}"
    quick = ("student=convnet-1", "width=4", "workers=1", "epochs=2", "seeds=1", teacher)
    soft = ("labels", path.parent, "--test", test, *quick)
    said, _ = succeed(*soft, "--out", tmp_path / "labels", "--json")
    succeed("labels", train, "--test", test, *quick, "--out", tmp_path / "of-bytes")
    from safetensors.torch import load_file

    mine, theirs = (load_file(tmp_path / name / "epoch-00001.safetensors") for name in ("labels", "of-bytes"))
    torch.testing.assert_close(mine["soft.values"], theirs["soft.values"], atol=2e-4, rtol=0)
    assert json.loads(said)["images"] == 6
    succeed("evaluate", path.parent, "--test", test, *quick, "protocol=regimes")
    online = {cell["protocol"]: cell["top1"] for cell in record(path.parent)["cells"]}
    assert [*online] == ["rded", "fixed", "hard"]
    stored = f"soft_labels={tmp_path / 'labels'}"
    succeed("evaluate", path.parent, "--test", test, *quick, stored, "--out", tmp_path / "stored.json")
    assert record(tmp_path / "stored.json")["cells"][0]["top1"] == online["rded"]


def test_what_cannot_be_done_with_whitened_images_is_said_before_training(tmp_path: Path) -> None:
    train, test = small(tmp_path, 4)
    path = peer(tmp_path / "mtt", noise(6, 3, 8, 8))
    quick = ("evaluate", path, "--test", test, "student=convnet-1", "width=4", f"tensors.zca={train}")
    teacher = f"teacher={colour_teacher(tmp_path / 'teacher.safetensors')}"
    assert "does not know; give protocol=fixed" in refused(*quick, "protocol=rded", teacher)
    succeed(*quick, "protocol=fixed", teacher, "epochs=1", "seeds=1", "workers=1")
    assert record(path.parent)["cells"][0]["teacher"] == "teacher.safetensors"
    assert "give augment.color=0 augment.lighting=0" in refused(*quick, "protocol=hard")
    assert "cannot be shown at 12; give size=8" in refused(*quick, "protocol=dc", "size=12")
    for text, said in (
        ("tensors.space=pixels", "give one of them"),
        ("tensors.mean=0.5", "belong together"),
        ("tensors.decode=0", "tensors.decode"),
        ("tensors.decod=2", 'did you mean "tensors.decode"'),
    ):
        assert said in refused(*quick, "protocol=dc", text)


def test_settings_of_tensors_are_refused_of_pictures(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    said = refused("evaluate", train, "--test", test, *DC, "tensors.decode=2")
    assert "holds no float images" in said and "leave it out" in said
