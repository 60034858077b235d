"""SRe2L: another loss, another schedule or another cut of the batches would be another method under the same name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from concord.data import open_data
from concord.data.tensors import for_testing, load
from concord.errors import ConcordError
from concord.methods.settings import SRE2L_PRESETS, Sre2l
from concord.methods.sre2l import batch_norms, bn_loss, recover, statistics
from concord.models import teachers
from concord.models.students import Student, StudentForm, build_student
from concord.models.teachers import Teacher, load_teacher
from concord.plan import batches
from concord.recipe import Recipe, validate
from concord.recipe import load as load_recipe
from concord.runs.store import read_manifest
from concord.workflows.distill import distill

SIDE, CLASSES = 8, 3


def small_net(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two layers with batch norm whose running statistics are not those of a fresh one."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Softplus(),  # smooth, for finite differences
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.Flatten(),
        nn.Linear(5 * 36, CLASSES),
    ).to(dtype)
    for layer in batch_norms(net):
        layer.running_mean.normal_()
        layer.running_var.uniform_(0.5, 2)
    return net.eval()


def test_the_distance_of_statistics_is_as_by_hand() -> None:
    """Norms, not their squares; the biased variance; the first layer ten times."""
    net, images = small_net(), torch.randn(6, 3, SIDE, SIDE, dtype=torch.float64)
    layers = batch_norms(net)
    with statistics(layers) as distances:
        net(images)
    found = distances()
    given, expected = images, []
    for conv, norm in ((net[0], net[1]), (net[3], net[4])):
        given = conv(given)
        rows = given.detach().numpy().transpose(1, 0, 2, 3).reshape(given.shape[1], -1)
        of_mean = np.sqrt(((rows.mean(1) - norm.running_mean.numpy()) ** 2).sum())
        of_variance = np.sqrt(((rows.var(1) - norm.running_var.numpy()) ** 2).sum())
        expected.append(of_mean + of_variance)
        given = F.softplus(norm(given))
    assert [one.item() for one in found] == pytest.approx(expected, rel=1e-12)
    assert bn_loss(found, 10).item() == pytest.approx(10 * expected[0] + expected[1], rel=1e-12)
    assert not any(layer._forward_pre_hooks for layer in layers), "a hook is left in the teacher"


def test_its_gradient_is_that_of_finite_differences() -> None:
    net, images = small_net(), torch.randn(4, 3, SIDE, SIDE, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])

    def loss(images: Tensor) -> Tensor:
        with statistics(batch_norms(net)) as distances:
            entropy = F.cross_entropy(net(images), labels)
        return entropy + 0.3 * bn_loss(distances(), 10)

    [gradient] = torch.autograd.grad(loss(images.requires_grad_()), images)
    rng = np.random.default_rng(0)
    for place in rng.integers(0, images.numel(), 12):
        moved = torch.zeros(images.numel(), dtype=torch.float64)
        moved[place] = 1e-6
        up, down = (loss(images.detach() + sign * moved.view_as(images)) for sign in (1, -1))
        assert float(gradient.flatten()[place]) == pytest.approx(float(up - down) / 2e-6, rel=1e-6, abs=1e-8)


def test_real_images_are_ten_times_as_near_as_noise() -> None:
    """To a network whose running statistics are those of other real images."""
    data = open_data("reef")
    real = load(data, for_testing(32, 32), per_class=20)
    torch.manual_seed(0)
    student = build_student("convnet-3", 10, 32, norm="batch", width=16)
    layers = batch_norms(student)
    for layer in layers:
        layer.momentum = None  # the mean over all batches
    order = torch.randperm(200)
    with torch.no_grad():
        for some in order[100:].split(50):
            student.train()(real.pixels(some))
    teacher, near = Teacher("real", student, tuple(range(10))), []
    for pixels in (real.pixels(order[:100]), torch.randn(100, 3, 32, 32) * student.std + student.mean):
        with torch.no_grad(), statistics(layers) as distances:
            teacher.logits(pixels)
        near.append(float(bn_loss(distances(), 10)))
    assert near[1] > 10 * near[0]


class Colours(nn.Module):
    """Logits by how much red, green and blue there is, behind a batch norm; or without."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.norm: nn.Module = nn.BatchNorm2d(3) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return 4 * self.norm(x).mean((2, 3))


def colours(norm: bool = True, order: tuple[int, ...] = (0, 1, 2)) -> Teacher:
    form = StudentForm("colours", CLASSES, SIDE, mean=(0.5, 0.4, 0.3), std=(0.2,) * 3)
    return Teacher("colours", Student(Colours(norm), form), order, size=SIDE)


def test_steps_are_those_of_adam_written_out_under_a_cosine_and_clamped() -> None:
    """Without crops and shifts: a loop of numbers in float64, with Adam's update as its paper has it."""
    teacher, steps = colours(), 5
    labels, noise = torch.arange(3), torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    settings = Sre2l(preset="cifar", iterations=steps, lr=0.3, bn=0.5, roll=(0, 0))
    found = recover([teacher], labels, noise, settings)
    x, mean = noise.double().numpy(), np.array([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1)
    m, v = np.zeros_like(x), np.zeros_like(x)
    n = x.shape[0] * SIDE * SIDE
    for step in range(steps):
        logits = 4 * x.mean((2, 3)) / math.sqrt(1 + 1e-5)
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        of_logits = (shares - np.eye(3)) / 3
        gradient = np.broadcast_to((4 / math.sqrt(1 + 1e-5) * of_logits / SIDE**2)[:, :, None, None], x.shape).copy()
        mu, var = x.mean((0, 2, 3)), x.var((0, 2, 3))  # the running ones are 0 and 1
        far_mu, far_var = np.sqrt((mu**2).sum()), np.sqrt(((var - 1) ** 2).sum())
        of_mu = (mu / far_mu).reshape(1, 3, 1, 1) / n
        of_var = ((var - 1) / far_var).reshape(1, 3, 1, 1) * 2 * (x - mu.reshape(1, 3, 1, 1)) / n
        gradient += 0.5 * 10 * (of_mu + of_var)
        m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
        rate = 0.3 * (1 + math.cos(math.pi * step / steps)) / 2
        x = x - rate * (m / (1 - 0.5 ** (step + 1))) / (np.sqrt(v / (1 - 0.9 ** (step + 1))) + 1e-8)
        x = np.clip(x, (0 - mean) / 0.2, (1 - mean) / 0.2)
    np.testing.assert_allclose(found.numpy(), x * 0.2 + mean, atol=2e-5)
    assert float(found.min()) >= 0 and float(found.max()) <= 1


def test_two_teachers_alike_recover_what_one_does() -> None:
    noise, labels = torch.randn(3, 3, SIDE, SIDE), torch.arange(3)
    settings = Sre2l(iterations=4, roll=(0, 2))
    found = []
    for some in ([colours()], [colours(), colours()]):
        torch.manual_seed(5)
        found.append(recover(some, labels, noise, settings))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("preset", "published"),
    [  # recover.sh, recover_tiny and recover_cifar of VILA-Lab/SRe2L: lr, iterations, r_bn
        ("imagenet", (0.25, 4000, 0.01)),
        ("tiny", (0.1, 4000, 1.0)),
        ("cifar", (0.25, 1000, 0.01)),
    ],
)
def test_presets_are_the_published_settings(preset: str, published: tuple[float, int, float]) -> None:
    own = load_recipe("reef", ["method=sre2l", f"sre2l.preset={preset}"])
    assert (own.sre2l.lr, own.sre2l.iterations, own.sre2l.bn) == published
    changed = load_recipe("reef", ["method=sre2l", f"sre2l.preset={preset}", "sre2l.lr=0.5"]).sre2l
    assert changed == own.sre2l.model_copy(update={"lr": 0.5})
    assert set(SRE2L_PRESETS[preset]) < set(Sre2l.model_fields)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["sre2l.roll=[4, 0]"], "roll: expected the least shift before the most"),
        (["sre2l.bn=0", "sre2l.first=3"], "first: bn is 0"),
        (["sre2l.preset=food"], "sre2l.preset"),
        (["teacher=null"], "teacher is missing"),
    ],
)
def test_settings_that_cannot_act_are_refused(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError) as caught:
        load_recipe("reef", ["method=sre2l", "data=reef", "teacher=x", *typed])
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("typed", ["informing.strength=0.3", "dtype=float16", "uninformed=true", "rded.factor=3"])
def test_what_a_recovery_does_not_read_is_refused(typed: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("method: sre2l\ndata: reef\nteacher: reef:teacher\n")
    with pytest.raises(ConcordError, match=rf"{typed.partition('=')[0]}: method sre2l does not read it"):
        load_recipe(str(path), [typed])


# --- runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Red, green and blue images, and the teacher that tells them apart."""
    draw = np.random.default_rng(1)
    for channel, folder in enumerate(("a red", "b green", "c")):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(10):
            pixels = draw.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., channel] += 120
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i}.png")
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: colours())
    return tmp_path / "photos"


def recipe(photos: Path, **values: Any) -> Recipe:
    plain = {"method": "sre2l", "data": str(photos), "teacher": "reef:teacher", "device": "cpu", "workers": 1}
    return validate({**plain, "sre2l": {"iterations": 6, "roll": [0, 2]}, **values})


def pictures(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted((out / "images").rglob("*.png"))}


@pytest.mark.parametrize("batch", [100, 2])
def test_a_set_that_grows_and_one_that_was_stopped_are_the_set_made_at_once(
    photos: Path, tmp_path: Path, batch: int
) -> None:
    distill(recipe(photos, ipc=3, batch_size=batch), tmp_path / "whole")
    whole = pictures(tmp_path / "whole")
    assert len(whole) == 9 and len(set(whole.values())) == 9
    distill(recipe(photos, ipc=1, batch_size=batch), tmp_path / "grown")
    first = pictures(tmp_path / "grown")
    assert first == {name: whole[name] for name in first} and len(first) == 3
    lost = sorted((tmp_path / "grown" / "images").rglob("*.png"))[1]
    lost.unlink()
    distill(recipe(photos, ipc=3, batch_size=batch), tmp_path / "grown")
    assert pictures(tmp_path / "grown") == whole
    other = recipe(photos, ipc=1, batch_size=batch, seed=1)
    distill(other, tmp_path / "other")
    assert pictures(tmp_path / "other").items().isdisjoint(whole.items())


def test_a_batch_has_each_class_once(photos: Path) -> None:
    from concord.methods import build

    for size, expected in ((100, 3), (2, 2)):
        method = build(recipe(photos, batch_size=size), open_data(str(photos)))
        assert method.batch_size == expected
        for batch in batches(method.sample, [4, 4, 4], method.batch_size):
            assert len({sample.class_index for sample in batch.samples}) == len(batch.samples)
    assert recipe(photos).batch_size == 100


def test_teachers_that_cannot_serve_are_refused_before_anything_is_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: colours(norm=False))
    with pytest.raises(ConcordError, match=r"^teacher: reef:teacher has no batch norm[^\n]*$"):
        distill(recipe(photos), tmp_path / "out")
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: colours(order=(1, 2, 0)))
    with pytest.raises(ConcordError, match="in another order"):
        distill(recipe(photos), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_on_reef_the_teacher_gives_the_class_that_was_asked_for(tmp_path: Path) -> None:
    small = ["method=sre2l", "ipc=1", "sre2l.preset=cifar", "sre2l.iterations=60", "workers=1", "device=cpu"]
    out = tmp_path / "out"
    distill(load_recipe("reef", small), out)
    assert json.loads((out / "results.json").read_text())["images"] == 10
    assert all(row["scores"]["teacher_loss"] < 0.5 for row in read_manifest(out / "images"))
    made = open_data(str(out / "images"))
    teacher = load_teacher("reef:teacher", open_data("reef-test").classes)
    images = load(made, for_testing(64, 64))
    assert (teacher.logits(images.pixels(slice(None))).argmax(1) == images.labels).all(), "10 of 10"
    with torch.no_grad(), statistics(batch_norms(teacher.network)) as distances:
        teacher.logits(images.pixels(slice(None)))
    now = float(bn_loss(distances(), 10))
    with torch.no_grad(), statistics(batch_norms(teacher.network)) as distances:
        teacher.logits((torch.randn(10, 3, 64, 64) / 2 + 0.5).clamp(0, 1))
    assert 3 * now < float(bn_loss(distances(), 10))
