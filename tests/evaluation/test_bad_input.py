"""Whatever is wrong with the images, the settings or the places is one line on stderr, and nothing is left behind."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import CLASSES, HARD, SOFT, colour_teacher, record, refused, run, sets, succeed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from small_sets import write_folders

from concord.evaluation import evaluate as evaluating
from concord.evaluation.protocols import Protocol
from concord.evaluation.settings import Settings
from concord.models.students import build_student
from concord.settings import keys

Spoil = Callable[[Path, Path], object]


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def gone(folder: Path) -> None:
    empty(folder)
    folder.rmdir()


IMAGES: dict[str, tuple[Spoil, str]] = {
    "a class that the test set lacks": (
        lambda train, test: gone(test / "birch"),
        'the test set lacks 1 of the 3 classes of the training set: "birch"; it has ',
    ),
    "a class under another name": (
        lambda train, test: (test / "cedar").rename(test / "larch"),
        'the test set lacks 1 of the 3 classes of the training set: "cedar"; it has ash, birch, larch',
    ),
    "numbers against names": (
        lambda train, test: [(train / name).rename(train / f"{i:05d}") for i, name in enumerate(CLASSES)],
        "the training set's classes are mere numbers (00000, 00001",
    ),
    "an empty class to train on": (
        lambda train, test: empty(train / "ash"),
        "the training set has no images in ash: put the images of that class there, or take the folder away",
    ),
    "an empty class to test on": (
        lambda train, test: empty(test / "ash"),
        'the test set lacks 1 of the 3 classes of the training set: "ash" (no images in its ash)',
    ),
    "a torn image to train on": (
        lambda train, test: (train / "birch" / "002.png").write_bytes((train / "birch" / "002.png").read_bytes()[:300]),
        "train/birch/002.png: ",
    ),
    "text to test on": (
        lambda train, test: (test / "cedar" / "001.png").write_text("no image"),
        "test/cedar/001.png: it is not an image, or damaged",
    ),
    "an empty file": (lambda train, test: (train / "ash" / "000.png").write_bytes(b""), "train/ash/000.png: "),
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_cannot_be_used_are_named(tmp_path: Path, name: str) -> None:
    train, test = sets(tmp_path)
    spoil, says = IMAGES[name]
    spoil(train, test)
    before = sorted(tmp_path.rglob("*"))
    assert says in refused("evaluate", train, "--test", test, *HARD, "-q")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != ".concord.lock"] == before


SETTINGS: dict[str, tuple[list[str], str]] = {
    "key": (["protcol=hard"], 'unknown key "protcol" (did you mean "protocol"?)'),
    "no value": (["hard"], 'expected key=value, as in ipc=10, got "hard"'),
    "protocol": (["protocol=rdde"], 'unknown protocol "rdde" (did you mean "rded"?); there are rded, paper, hard'),
    "student": (["student=resnet-81"], 'unknown student "resnet-81" (did you mean "resnet-18"?)'),
    "timm": (["student=timm:resnet81"], 'timm has no model "resnet81" (did you mean '),
    "ipc": (["ipc=1,5"], 'the class "ash" has 4 images, fewer than ipc=5'),
    "ipc of nothing": (["ipc=0"], "ipc.0: "),
    "depth": (
        ["student=convnet-1,convnet-5"],
        "images of 16 pixels are too small for a convnet-5, which halves them 5",
    ),
    "size": (["size=4"], "size: "),
    "dtype": (["dtype=float16"], "dtype: expected 'auto', 'float32' or 'bfloat16', got 'float16'"),
    "device": (["device=gpu"], "device: expected auto, cpu, mps, cuda or cuda:0, got 'gpu'"),
    "device not here": (["device=cuda:7"], 'device "cuda:7" is not available here'),
    "seeds": (["seeds=none"], "seeds"),
    "epochs": (["epochs=-1"], "epochs: "),
    "class": (["classes=ash,brich"], 'unknown class "brich" (did you mean "birch"?)'),
    "norm": (["norm=batchnorm"], "norm: expected "),
    "choice": (["student=resnet-18", "pool=max"], "resnet-18 has no choice of "),
    "random": (["--random", "{root}/nowhere"], "nowhere was not evaluated: no accuracies in "),
    "no teacher": (
        ["protocol=hard,rded"],
        "soft labels need a teacher: give teacher=FILE (`concord teacher DATA --out",
    ),
    "teacher not there": (["protocol=rded", "teacher={root}/t.pth"], "t.pth"),
    "labels not there": (["protocol=rded", "soft_labels={root}/l"], "l holds no soft labels"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_meant_are_named_before_anything_is_trained(tmp_path: Path, name: str) -> None:
    train, test = sets(tmp_path)
    more, says = SETTINGS[name]
    command = ("evaluate", train, "--test", test, *HARD, *(text.format(root=tmp_path) for text in more), "-q")
    assert says in refused(*command)
    assert not (train / "evaluation.json").exists()


def test_places_that_hold_no_set_are_named(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "bare").mkdir()
    for place, says in (
        ("nowhere", "there is no folder"),
        ("file.txt", "expected a folder with a folder of images for each class, or a .parquet file; got the file"),
        ("bare", "no images in"),
    ):
        assert says in refused("evaluate", tmp_path / place, "--test", test, *HARD, "-q")
        assert says in refused("evaluate", train, "--test", tmp_path / place, *HARD, "-q")
    assert "lie directly in" in refused("evaluate", train / "ash", "--test", test, *HARD, "-q")


def test_a_damaged_record_is_not_written_over(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    (train / "evaluation.json").write_text('{"cells": [')
    assert "evaluation.json is damaged" in refused("evaluate", train, "--test", test, *HARD, "-q")
    assert (train / "evaluation.json").read_text() == '{"cells": ['


TEACHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "other outputs": (
        lambda path: torch.save(build_student("convnet-1", 4, 16, width=4).net.state_dict(), path.with_suffix(".pth")),
        "the teacher t.pth has 4 outputs, the data have 3 classes; give a teacher that was trained on these classes",
    ),
    "other classes": (
        lambda path: colour_teacher(path, ("ash", "birch", "larch")),
        "the teacher t.safetensors has no class for cedar of the data; its classes are ash, birch, larch",
    ),
    "chance": (lambda path: colour_teacher(path, outputs=(0, 0, 0)), "33.3% right of 18 images of 3 classes"),
    "no teacher": (lambda path: path.write_bytes(b"text"), "t.safetensors is no safetensors file, or a torn one"),
}


@pytest.mark.parametrize("name", TEACHERS)
def test_a_teacher_that_does_not_fit_is_refused(tmp_path: Path, name: str) -> None:
    train, test = sets(tmp_path)
    make, says = TEACHERS[name]
    make(tmp_path / "t.safetensors")
    file = next(tmp_path.glob("t.*"))
    assert says in refused("evaluate", train, "--test", test, *SOFT, f"teacher={file}", "-q")
    assert not (train / "evaluation.json").exists()
    if name == "chance":
        again = ("evaluate", train, "--test", test, *SOFT, f"teacher={tmp_path / 't.safetensors'}", "-q", "--remap")
        assert "no order of its classes makes a teacher of t.safetensors" in refused(*again)


def test_a_teacher_knows_its_classes_by_name_whatever_their_order(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    teacher = colour_teacher(tmp_path / "t.safetensors", ("cedar", "ash", "birch"), (2, 0, 1))
    succeed("evaluate", train, "--test", test, *SOFT, f"teacher={teacher}")
    assert record(train)["teacher"]["accuracy"] == 100


def modes() -> Iterator[tuple[str, Callable[[np.ndarray], Image.Image], str]]:
    yield "grey", lambda rgb: Image.fromarray(rgb[..., 0]), "png"
    yield "grey and alpha", lambda rgb: Image.fromarray(rgb).convert("LA"), "png"
    yield "alpha", lambda rgb: Image.fromarray(rgb).convert("RGBA"), "png"
    yield "palette", lambda rgb: Image.fromarray(rgb).convert("P"), "png"
    yield "bits", lambda rgb: Image.fromarray(rgb).convert("1"), "png"
    yield "cmyk", lambda rgb: Image.fromarray(rgb).convert("CMYK"), "jpg"
    yield "16 bits", lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "png"
    yield "16-bit tiff", lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 257), "tif"
    yield "gif", lambda rgb: Image.fromarray(rgb).quantize(16), "gif"


def test_images_of_every_mode_are_trained_and_tested_on(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    for place, folder in itertools.product((train, test), CLASSES):
        for number, (_, form, suffix) in enumerate(modes()):
            pixels = np.random.default_rng(number + (place == test) * 100).integers(0, 256, (16, 20, 3), dtype=np.uint8)
            form(pixels).save(place / folder / f"x{number}.{suffix}")
    succeed("evaluate", train, "--test", test, *HARD)
    [cell] = record(train)["cells"]
    assert cell["images"] == 3 * (4 + 9)
    assert np.sum(cell["confusion"]) == 3 * (6 + 9)


# Any text

KEYS = st.sampled_from([*keys(Settings), *keys(Protocol), "seed", "", "ipc.0", "augment.x.y"])
VALUES = st.one_of(
    st.integers(-3, 40).map(str),
    st.lists(st.integers(-1, 5).map(str), max_size=3).map(",".join),
    st.floats(-2, 2).map(str),
    st.sampled_from(["null", "true", "no", "nan", "inf", "[]", "{}", "[1, [2]]", "hard,dc", "rded", "cuda", "mps"]),
    st.sampled_from(["convnet-2", "resnet-18", "batch", "none", "avg", "8/7", "size", "sgd", "cosine", "ipc", "soft"]),
    st.text(st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="\0"), max_size=8),
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return sets(tmp_path_factory.mktemp("any"), images=2, tests=2)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=2))
def test_any_settings_are_taken_or_refused_in_a_line(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, pairs: list[tuple[str, str]]
) -> None:
    """All but the training itself, for which 40 epochs of a ResNet would be long."""
    monkeypatch.setattr(evaluating, "run", lambda cells, settings, record, *_: record)
    texts = [f"{key}={value}" for key, value in pairs if key != "teacher"]
    base = ("student=convnet-1", "protocol=hard", "epochs=1")
    code, _, error = run("evaluate", places[0], "--test", places[1], *base, "-q", "--", *texts)
    assert (code, error.count("\n")) in ((0, 0), (2, 1)), (texts, code, error)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12), max_size=3))
def test_any_text_at_all_is_taken_or_refused_in_a_line(texts: list[str]) -> None:
    for command in ("evaluate", "labels", "teacher"):
        place = ("--test", "nowhere") if command == "evaluate" else ("--out", "nowhere.safetensors")
        code, said, error = run(command, "no such directory", *place, "-q", "--", *texts)
        assert (code, said) == (2, ""), (texts, error)
        assert error.count("\n") == 1, error


def test_names_of_classes_are_text_in_what_is_said(tmp_path: Path) -> None:
    bad = "esc\x1b[31mred"
    train = write_folders(tmp_path / "train", {bad: 1, "plain": 1})
    test = write_folders(tmp_path / "test", {"plain": 1})
    said = refused("evaluate", train, "--test", test, *HARD, "-q")
    assert "\x1b" not in said
    assert "esc" in said
