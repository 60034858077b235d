"""A trained student as a file: it is shared, and loaded years later by someone who has the file alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from concord.errors import ConcordError
from concord.models.classifier_file import load_classifier, save_classifier
from concord.models.students import Student, build_student

LABELS = ("n02086240", "Großer Fisch", "eel/moray")


def trained() -> Student:
    """A student whose running statistics are not those of a new one."""
    torch.manual_seed(0)
    student = build_student("convnet-2", 3, 8, width=4, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    student(torch.rand(16, 3, 8, 8))
    return student


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    student, path = trained(), tmp_path / "teacher.safetensors"
    save_classifier(path, student.to(memory_format=torch.channels_last), LABELS, epochs=300, accuracy=0.5, seed=1)
    saved = load_classifier(path)
    assert saved.labels == LABELS
    assert saved.facts == {"epochs": 300, "accuracy": 0.5, "seed": 1}
    assert saved.student.form == student.form
    pixels = torch.rand(2, 3, 8, 8)
    assert not saved.student.training
    torch.testing.assert_close(saved.student(pixels), student.eval()(pixels))


@pytest.mark.parametrize(("name", "size"), [("resnetap-10", 16), ("timm:resnet10t", 32), ("resnet-18-modified", 8)])
def test_every_kind_of_student_comes_back(tmp_path: Path, name: str, size: int) -> None:
    student = build_student(name, 3, size).eval()
    save_classifier(tmp_path / "s.safetensors", student, LABELS)
    pixels = torch.rand(1, 3, size, size)
    assert torch.equal(load_classifier(tmp_path / "s.safetensors").student(pixels), student(pixels))


def test_the_bytes_are_a_function_of_the_contents(tmp_path: Path) -> None:
    """The library shuffles a header of several entries."""
    for name in ("a", "b"):
        save_classifier(tmp_path / f"{name}.safetensors", trained(), LABELS, epochs=1, accuracy=0.5, seed=1)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["concord"])
    assert (header["schema"], header["student"], header["classes"]) == (1, "convnet-2", list(LABELS))


def test_loading_leaves_the_random_state_alone(tmp_path: Path) -> None:
    """Or a student's start would depend on whether its teacher was loaded before it."""
    save_classifier(tmp_path / "t.safetensors", trained(), LABELS)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    load_classifier(tmp_path / "t.safetensors")
    assert torch.equal(torch.rand(3), expected)


def test_labels_are_one_a_class(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="2 labels for a student of 3 classes"):
        save_classifier(tmp_path / "t.safetensors", trained(), LABELS[:2])


def test_files_that_are_not_ours_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    with pytest.raises(ConcordError, match="no such file"):
        load_classifier(path)
    weights = dict(trained().net.state_dict())
    save_file(weights, path)
    with pytest.raises(ConcordError, match="names no student"):
        load_classifier(path)
    header = {"schema": 1, "student": "convnet-2", "classes": LABELS, "size": 8, "norm": "batch", "pool": "avg"}
    header |= {"width": 4, "mean": [0.5] * 3, "std": [0.5] * 3}
    for change, message in (
        ({"schema": 2}, "schema 2"),
        ({"size": "big"}, "damaged"),
        ({"student": "convnet-9"}, rf"{re.escape(str(path))}: .*unknown student"),
        ({"norm": " atch"}, rf"{re.escape(str(path))}: .*unknown norm"),
        ({"classes": LABELS[:2]}, "of another shape"),
        ({"student": "convnet-1"}, "unknown"),
        ({"student": "convnet-3"}, "missing"),
    ):
        save_file(weights, path, metadata={"concord": json.dumps(header | change)})
        with pytest.raises(ConcordError, match=message):
            load_classifier(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000), at=st.integers(0, 600), byte=st.integers(0, 255))
def test_a_damaged_file_is_refused_or_whole(tmp_path: Path, cut: int, at: int, byte: int) -> None:
    path = tmp_path / "t.safetensors"
    save_classifier(path, trained(), LABELS)
    data = bytearray(path.read_bytes())
    torn, flipped = bytes(data[: min(cut, len(data) - 1)]), data
    flipped[at] = byte
    path.write_bytes(torn)
    with pytest.raises(ConcordError):
        load_classifier(path)
    path.write_bytes(flipped)
    try:
        load_classifier(path)
    except ConcordError as error:
        assert str(path) in str(error) or "convnet" in str(error) or "student" in str(error)
