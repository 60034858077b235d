"""Teachers trained here: hours of work that a kill must not lose, and classes that must not change places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_sets import SIDE, Heard, write_folders

from concord.data import ImageSet, open_data
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.evaluation import train_teacher as teaching
from concord.evaluation.train_teacher import TrainedTeacher, read_teacher_settings, teach
from concord.models.teachers import check_teacher, load_teacher

COUNTS = {"ant": 7, "bee": 6, "cat": 5}
QUICK = ["student=convnet-2", "width=8", f"size={SIDE}", "batch=6", "device=cpu", "dtype=float32"]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_data(str(write_folders(tmp_path_factory.mktemp("data") / "train", COUNTS)))


@pytest.fixture(scope="module")
def test(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    counts = dict.fromkeys(COUNTS, 8)
    return open_data(str(write_folders(tmp_path_factory.mktemp("data") / "test", counts, seed=1)))


def taught(out: Path, data: ImageSet, test: ImageSet | None, *texts: str, **more: Any) -> TrainedTeacher:
    return teach(data, test, *read_teacher_settings([*QUICK, *texts]), out, **more)


def test_a_teacher_is_saved_with_its_classes_and_is_one(data: ImageSet, test: ImageSet, tmp_path: Path) -> None:
    heard = Heard()
    out = tmp_path / "models" / "teacher.safetensors"
    made = taught(out, data, test, "epochs=11", progress=heard)
    assert (made.images, made.classes, made.size, made.epochs) == (18, 3, SIDE, 11)
    assert [fact["epoch"] for fact in heard.facts] == list(range(1, 12))
    assert {fact["epochs"] for fact in heard.facts} == {heard.total} == {11}
    assert [fact["epoch"] for fact in heard.facts if fact["accuracy"] is not None] == [10, 11]
    assert made.accuracy == heard.facts[-1]["accuracy"] == made.course.last
    assert [path.name for path in out.parent.iterdir()] == ["teacher.safetensors"]
    teacher = load_teacher(str(out), data.classes)
    assert teacher.labels == ("ant", "bee", "cat") and teacher.size == SIDE
    pixels = torch.stack(
        [torch.from_numpy(np.array(test.read(item))).permute(2, 0, 1) for c in range(3) for item in test.items(c)]
    )
    found = check_teacher(teacher, TensorSet(pixels, torch.arange(24) // 8))
    assert 100 * found.accuracy == pytest.approx(made.accuracy)
    assert found.accuracy > 0.6


def test_its_classes_are_found_by_name_in_another_order(data: ImageSet, test: ImageSet, tmp_path: Path) -> None:
    taught(tmp_path / "teacher.safetensors", data, test, "epochs=2")
    other = open_data(str(write_folders(tmp_path / "other", {"bee": 1, "dog": 1, "cat": 1})))
    with pytest.raises(ConcordError, match="has no class for dog of the data; its classes are ant, bee, cat"):
        load_teacher(str(tmp_path / "teacher.safetensors"), other.classes)


@pytest.mark.parametrize("after", [1, 3, 4])
def test_killed_it_goes_on_bit_for_bit(
    after: int, data: ImageSet, test: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teaching, "EVERY", -1.0)  # a checkpoint after every epoch
    monkeypatch.setattr("concord.evaluation.training.is_eval_epoch", lambda *_: True)
    heard = Heard()

    def stop(done: int) -> None:
        if done == after:
            raise Killed

    whole, torn = tmp_path / "whole.safetensors", tmp_path / "torn.safetensors"
    one = taught(whole, data, test, "epochs=5")
    with pytest.raises(Killed):
        taught(torn, data, test, "epochs=5", progress=Heard(stop))
    assert not torn.exists() and (tmp_path / ".torn.safetensors.checkpoint").exists()
    torch.rand(7)  # another process has another random state
    other = taught(torn, data, test, "epochs=5", progress=heard)
    assert (heard.begun, heard.done, heard.total) == (after, 5, 5)
    assert torn.read_bytes() == whole.read_bytes()
    assert one.course.accuracies == other.course.accuracies
    assert sorted(one.course.accuracies) == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["torn.safetensors", "whole.safetensors"]


def test_a_student_that_draws_in_training_goes_on_bit_for_bit(
    data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout draws from torch's global state, which a checkpoint does not hold."""
    monkeypatch.setattr(teaching, "EVERY", -1.0)
    monkeypatch.setattr("concord.models.students._timm", dropping)

    def stop(done: int) -> None:
        torch.rand(done)  # whatever the process draws beside it
        if tmp_path.joinpath("stop").exists():
            raise Killed

    def run(name: str) -> bytes:
        chosen = ["student=timm:resnet18", f"size={SIDE}", "epochs=2", "batch=9", "device=cpu", "dtype=float32"]
        teach(data, None, *read_teacher_settings(chosen), tmp_path / name, Heard(stop))
        return (tmp_path / name).read_bytes()

    whole = run("whole.safetensors")
    (tmp_path / "stop").touch()
    with pytest.raises(Killed):
        run("torn.safetensors")
    (tmp_path / "stop").unlink()
    assert run("torn.safetensors") == whole


def dropping(model: str, classes: int, size: int, channels: int = 3) -> torch.nn.Module:
    nn = torch.nn
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 16), nn.Dropout(), nn.Linear(16, classes))


def test_the_seed_decides(data: ImageSet, tmp_path: Path) -> None:
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        taught(tmp_path / f"{name}.safetensors", data, None, "epochs=1", f"seed={seed}")
        weights = load_teacher(str(tmp_path / f"{name}.safetensors"), data.classes)
        found.append(weights.fingerprint)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("text", ["epochs=6", "seed=1", "lr=0.01", "width=16", "augment.flip=false"])
def test_a_checkpoint_of_something_else_is_refused(
    text: str, data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stopped(data, tmp_path, monkeypatch)
    with pytest.raises(ConcordError, match="is of a training with other settings or images; take it away, or give"):
        taught(out, data, None, "epochs=3", text)


def test_a_checkpoint_of_other_images_is_refused(
    data: ImageSet, test: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stopped(data, tmp_path, monkeypatch)
    with pytest.raises(ConcordError, match="other settings or images"):
        taught(out, test, None, "epochs=3")


@pytest.mark.parametrize("damage", [lambda whole: whole[:100], lambda whole: b"", lambda whole: b"no checkpoint"])
def test_a_damaged_checkpoint_is_named(
    damage: Any, data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stopped(data, tmp_path, monkeypatch)
    part = out.with_name(f".{out.name}.checkpoint")
    part.write_bytes(damage(part.read_bytes()))
    with pytest.raises(
        ConcordError, match=r"\.teacher\.safetensors\.checkpoint is damaged; take it away to begin anew"
    ):
        taught(out, data, None, "epochs=3")


def stopped(data: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(teaching, "EVERY", -1.0)

    def stop(done: int) -> None:
        raise Killed

    out = tmp_path / "teacher.safetensors"
    with pytest.raises(Killed):
        taught(out, data, None, "epochs=3", progress=Heard(stop))
    return out


def test_what_is_there_is_not_written_over(data: ImageSet, tmp_path: Path) -> None:
    out = tmp_path / "teacher.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(ConcordError, match=r"teacher\.safetensors is there already; take it away, or give another"):
        taught(out, data, None, "epochs=1")
    assert out.read_bytes() == b"mine"
    with pytest.raises(ConcordError, match=r"teacher\.pth: give a name that ends in \.safetensors"):
        taught(tmp_path / "teacher.pth", data, None)


@pytest.mark.parametrize("size", [8, SIDE])
def test_without_test_images_it_is_trained_alike_and_not_judged(size: int, data: ImageSet, tmp_path: Path) -> None:
    """Also where its images are larger than itself."""
    heard = Heard()
    made = taught(
        tmp_path / "teacher.safetensors", data, None, "epochs=2", f"size={size}",
        progress=heard,
    )  # fmt: skip
    assert (made.accuracy, [fact["accuracy"] for fact in heard.facts], made.size) == (None, [None, None], size)


def test_a_student_that_cannot_take_the_images_is_refused_at_once(data: ImageSet, tmp_path: Path) -> None:
    for texts, says in (
        (["student=convnet-5"], "images of 16 pixels are too small for a convnet-5"),
        (["student=resnet-18-modified", "norm=batch"], "has no choice of norm"),
        (["student=convnet-9"], 'unknown student "convnet-9"'),
    ):
        with pytest.raises(ConcordError, match=says):
            settings, protocol = read_teacher_settings([*texts, "epochs=1", "device=cpu"])
            teach(data, None, settings, protocol, tmp_path / "teacher.safetensors")
    (tmp_path / "one" / "a").mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE)).save(tmp_path / "one" / "a" / "0.png")
    alone = open_data(str(tmp_path / "one"))
    settings, protocol = read_teacher_settings(["student=resnet-18", "epochs=1", "device=cpu"])
    with pytest.raises(ConcordError, match="resnet-18 at 16 px cannot be trained on one image alone"):
        teach(alone, None, settings, protocol, tmp_path / "teacher.safetensors")
