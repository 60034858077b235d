"""Several teachers by one command: the files of each alone, whoever trains them, and nothing trained twice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import open_data
from concord.errors import ConcordError
from concord.evaluation.train_teacher import read_teacher_settings, teach
from concord.workflows import teachers
from concord.workflows.teachers import teach_all, trainings

QUICK = ["width=4", "size=8", "epochs=1", "batch=8", "device=cpu", "dtype=float32"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for label, name in enumerate(("ash", "birch")):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(128 * label, 128 * label + 127, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "photos" / split / name / f"{i}.png")
    return tmp_path / "photos"


def test_trainings_are_named_by_what_varies() -> None:
    swept = trainings(["student=convnet-3,resnet-18", "epochs=3", "seed=0,1,1"])
    assert list(swept) == [
        *("convnet-3-seed-0", "convnet-3-seed-1"),
        *("resnet-18-seed-0", "resnet-18-seed-1"),
    ]
    assert swept["resnet-18-seed-1"] == ["student=resnet-18", "epochs=3", "seed=1"]
    assert list(trainings(["lr=0.1,0.01"])) == ["lr-0.1", "lr-0.01"]
    # A key that takes a list is one value; so is what has no comma.
    assert trainings(["student=convnet-3", "classes=[ash,birch]"]) == {"": ["student=convnet-3", "classes=[ash,birch]"]}
    with pytest.raises(ConcordError, match="renset-18"):
        trainings(["student=convnet-3,renset-18"])


def test_files_are_those_of_each_alone_and_are_not_trained_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, test = tmp_path / "teachers", str(photos / "val")
    swept = trainings(["student=convnet-1,convnet-2", *QUICK])
    made = teach_all(str(photos), test, swept, out, workers=1)
    assert [Path(one.file).name for one in made] == ["convnet-1.safetensors", "convnet-2.safetensors"]
    alone = teach(
        open_data(str(photos)), open_data(test), *read_teacher_settings(swept["convnet-2"]), tmp_path / "a.safetensors"
    )
    assert (out / "convnet-2.safetensors").read_bytes() == alone.path.read_bytes()
    assert made[1].accuracy == alone.accuracy

    def trains(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr(teachers, "teach", trains)
        again = teach_all(str(photos), test, swept, out, workers=1)
    assert [(one.file, one.accuracy, one.seconds) for one in again] == [(one.file, one.accuracy, None) for one in made]
    # More of them are added; the same name by other settings is refused, and leaves what is there.
    more = teach_all(str(photos), test, trainings(["student=convnet-2,convnet-1", "seed=0,1", *QUICK]), out, workers=1)
    assert len(more) == 4 and len(json.loads((out / "teachers.json").read_text())["teachers"]) == 6
    with pytest.raises(ConcordError, match=r"convnet-1\.safetensors is there already, trained by other settings"):
        teach_all(str(photos), test, trainings(["student=convnet-1,convnet-2", *QUICK, "lr=0.5"]), out, workers=1)
    assert (out / "convnet-2.safetensors").read_bytes() == alone.path.read_bytes()


def test_processes_train_the_same_files(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teachers, "cores", lambda: 2)
    swept = trainings(["student=convnet-1", "seed=0,1", *QUICK])
    both = teach_all(str(photos), None, swept, tmp_path / "two", workers=2)
    one = teach_all(str(photos), None, swept, tmp_path / "one", workers=1)
    for a, b in zip(both, one, strict=True):
        assert Path(a.file).read_bytes() == Path(b.file).read_bytes()
        assert a.accuracy == b.accuracy is not None  # a split beside the training split judges them


def test_the_command_prints_a_row_a_teacher(photos: Path, tmp_path: Path) -> None:
    words = ["teacher", str(photos), "--out", str(tmp_path / "teachers"), "student=convnet-1,convnet-2", *QUICK]
    done = CliRunner().invoke(app, [*words, "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert "convnet-1  " in done.stdout and "convnet-2  " in done.stdout and "% of the test images" in done.stdout
    assert f"use one: teacher={tmp_path / 'teachers' / 'convnet-1.safetensors'}" in done.stdout
    again = CliRunner().invoke(app, [*words, "--json"])
    rows = json.loads(again.stdout)["teachers"]
    assert [row["student"] for row in rows] == ["convnet-1", "convnet-2"]
    for wrong, said in (
        (["--out", str(tmp_path / "t.safetensors"), "seed=0,1"], "give a directory"),
        (["--out", str(tmp_path / "t"), "seed=0,1", "--dry-run"], "--dry-run times one training"),
        (["--out", str(tmp_path / "t.safetensors"), "seed=0", "--workers", "2"], "--workers shares out several"),
    ):
        refused = CliRunner().invoke(app, ["teacher", str(photos), *wrong])
        assert refused.exit_code == 2 and said in refused.output.replace("\n", " "), refused.output
