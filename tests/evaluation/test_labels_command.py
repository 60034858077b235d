"""`concord labels`, then `concord evaluate soft_labels=`: the same training without the teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commanding import SOFT, colour_teacher, record, refused, run, sets, succeed

from concord.evaluation.training import Drawn


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    return f"teacher={colour_teacher(tmp_path / 't.safetensors')}"


def test_whole_labels_give_exactly_the_accuracies_of_the_teacher_online(
    tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = sets(tmp_path)
    more = (*SOFT, "epochs=4", "protocol=rded,paper")
    succeed("evaluate", train, "--test", test, *more, teacher)
    for name in ("rded", "paper"):
        said, _ = succeed("labels", train, "--out", tmp_path / name, *more, f"protocol={name}", teacher)
        assert said.startswith("12 images x 4 epochs labelled by t.safetensors, all classes, float32: ")
        assert f"use them: soft_labels={tmp_path / name}" in said
    monkeypatch.setattr("concord.evaluation.check_teacher.load_teacher", None)
    for name in ("rded", "paper"):
        said, _ = succeed(
            "evaluate", train, "--test", test, *more, f"protocol={name}", f"soft_labels={tmp_path / name}"
        )
        assert "labels stored in float32" in said
    cells = record(train)["cells"]
    for name in ("rded", "paper"):
        online, stored = (cell for cell in cells if cell["protocol"] == name)
        assert [cell.get("soft_labels") for cell in (online, stored)] == [None, {"top_k": None, "bits": "float32"}]
        assert stored["top1"] == online["top1"]
        assert stored["confusion"] == online["confusion"]
        assert stored["teacher"] == online["teacher"] == "t.safetensors"


def test_fewer_bits_cost_little_and_are_recorded(tmp_path: Path, teacher: str) -> None:
    train, test = sets(tmp_path)
    more = (*SOFT, "epochs=6")
    succeed("evaluate", train, "--test", test, *more, teacher)
    text, _ = succeed("labels", train, "--out", tmp_path / "l", *more, teacher, "top_k=2", "bits=uint8", "--json")
    head = json.loads(text)
    assert (head["schema"], head["top_k"], head["bits"], head["teacher_accuracy"]) == (1, 2, "uint8", 100)
    assert head["bytes"] == sum(file.stat().st_size for file in (tmp_path / "l").glob("epoch-*"))
    said, _ = succeed("evaluate", train, "--test", test, *more, f"soft_labels={tmp_path / 'l'}", teacher)
    found = record(train)
    facts = found["soft_labels"]
    assert facts["store_bytes"] == head["bytes"]
    assert (facts["top_k"], facts["bits"], facts["teacher_name"], facts["images"]) == (2, "uint8", "t.safetensors", 12)
    online, stored = (cell["top1"]["last"]["mean"] for cell in found["cells"])
    assert abs(online - stored) < 12, "two or three of 18 test images"
    assert "top 2 of labels stored in uint8" in said


def test_labels_that_were_stored_anew_are_trained_with_anew(tmp_path: Path, teacher: str) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *SOFT, f"soft_labels={tmp_path / 'l'}")
    succeed("labels", train, "--out", tmp_path / "l", *SOFT, teacher, "-q")
    succeed(*command)
    assert "there already" in succeed(*command)[1]
    (tmp_path / "l").rename(tmp_path / "moved")
    assert "there already" in succeed(*command[:-1], f"soft_labels={tmp_path / 'moved'}")[1], "a place is no content"
    other = colour_teacher(tmp_path / "t.safetensors", sure=10)
    succeed("labels", train, "--out", tmp_path / "l", *SOFT, f"teacher={other}", "-q")
    assert "there already" not in succeed(*command)[1]
    assert len(record(train)["cells"]) == 1


def test_cut_off_the_same_command_goes_on(tmp_path: Path, teacher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = sets(tmp_path)
    command = ("labels", train, *SOFT, "epochs=3", teacher, "--out")
    succeed(*command, tmp_path / "whole")
    really, made = Drawn.epoch, []

    def epoch_of(self: Drawn, number: int) -> Any:
        made.append(number)
        if len(made) == 2:
            raise KeyboardInterrupt
        return really(self, number)

    monkeypatch.setattr(Drawn, "epoch", epoch_of)
    code, _, error = run(*command, tmp_path / "cut")
    assert (code, "the same command goes on from there" in error) == (130, True)
    said = refused("evaluate", train, "--test", test, *SOFT, "epochs=3", f"soft_labels={tmp_path / 'cut'}", "-q")
    assert "is not finished: give the same `concord labels` command again" in said
    assert not (train / "evaluation.json").exists()
    succeed(*command, tmp_path / "cut")
    assert made == [0, 1, 1, 2], "a finished epoch is not labelled twice"
    for epoch in range(3):
        one, other = (tmp_path / name / f"epoch-{epoch:05d}.safetensors" for name in ("whole", "cut"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["ipc=1,4"], "ipc: soft labels are stored for one at a time, got [1, 4]"),
        (["protocol=rded,paper"], "protocol: soft labels are stored for one at a time"),
        (["student=convnet-1,convnet-2"], "student: soft labels are stored for one at a time"),
        (["seeds=3"], "seeds: soft labels are stored for one at a time, got [0, 1, 2]"),
        (["protocol=hard"], 'protocol "hard" has no soft labels; give protocol=rded or protocol=paper'),
        (["bits=int4"], "bits: expected 'float32', 'float16' or 'uint8', got 'int4'"),
        (["top_k=0"], "top_k: expected"),
        (["topk=3"], 'unknown key "topk"'),
        (["teacher=nowhere.safetensors"], "nowhere.safetensors: there is no such file"),
        (["ipc=9"], "fewer than ipc=9"),
    ],
)
def test_what_cannot_be_stored_is_one_line(tmp_path: Path, teacher: str, more: list[str], says: str) -> None:
    train, _ = sets(tmp_path)
    assert says in refused("labels", train, "--out", tmp_path / "l", *SOFT, teacher, *more, "-q")
    assert not (tmp_path / "l").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["ipc=2"], "are of other images (or another IPC)"),
        (["epochs=3"], "are of the protocol rded with another epochs"),
        (["temperature=4"], "are of the protocol rded with another temperature"),
        (["protocol=paper"], "are of the protocol rded, not paper"),
        (["size=8"], "are of size=16, not 8"),
        (["ipc=2,4"], "are of other images (or another IPC)"),
        (["soft_labels=nowhere"], "nowhere holds no soft labels: expected labels.json"),
    ],
)
def test_labels_of_something_else_are_refused_before_anything_is_trained(
    tmp_path: Path, teacher: str, more: list[str], says: str
) -> None:
    train, test = sets(tmp_path)
    succeed("labels", train, "--out", tmp_path / "l", *SOFT, teacher, "-q")
    command = ("evaluate", train, "--test", test, *SOFT, f"soft_labels={tmp_path / 'l'}", "-q")
    assert says in refused(*command, *more)
    assert not (train / "evaluation.json").exists()
