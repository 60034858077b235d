"""`concord teacher`: from photographs to a file that `teacher=FILE` takes, and through a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commanding import CLASSES, SOFT, colour_teacher, record, refused, run, sets, succeed
from small_sets import write_folders

from concord.evaluation import train_teacher as teaching
from concord.models.classifier_file import load_classifier
from concord.storage import atomic

SMALL = ("student=convnet-1", "width=4", "epochs=4", "lr=0.02")


def test_a_teacher_is_trained_judged_and_taken_by_evaluate(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    out = tmp_path / "new" / "t.safetensors"
    said, _ = succeed("teacher", train, "--out", out, *SMALL, "epochs=12", "--test", test)
    made = load_classifier(out)
    assert made.labels == CLASSES
    assert said.startswith("convnet-1 on 12 images of 3 classes at 16 px, 12 epochs in ")
    assert f", {made.facts['accuracy']:.1f} % of the test images" in said
    assert f"use it: teacher={out}" in said
    assert [path.name for path in out.parent.iterdir()] == ["t.safetensors"], "no lock and no checkpoint stay"
    assert made.facts["accuracy"] > 60
    succeed("evaluate", train, "--test", test, *SOFT, f"teacher={out}")
    assert record(train)["teacher"]["accuracy"] == made.facts["accuracy"]


def test_json_stands_alone_and_quiet_is_quiet(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    text, said = succeed("teacher", train, "--out", tmp_path / "a.safetensors", *SMALL, "--json")
    found = json.loads(text)
    assert "its accuracy is not read" in said
    assert (found["schema"], found["images"], found["epochs"], found["accuracy"]) == (1, 12, 4, None)
    assert succeed("teacher", train, "--out", tmp_path / "b.safetensors", *SMALL, "--quiet") == ("", "")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_it_is_judged_on_a_split_beside_the_training_split(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_folders(photos / "train", dict.fromkeys(CLASSES, 4))
    write_folders(photos / "validation", dict.fromkeys(CLASSES, 2), seed=1)
    out = tmp_path / "t.safetensors"
    _, said = succeed("teacher", photos, "--out", out, *SMALL)
    assert "train/ is the data" in said
    assert load_classifier(out).facts["images"] == 12
    assert load_classifier(out).facts["accuracy"] is not None


def test_test_images_without_labels_beside_it_do_not_stop_a_teacher(tmp_path: Path) -> None:
    """So competitions hand out their data."""
    photos = tmp_path / "photos"
    write_folders(photos / "train", dict.fromkeys(CLASSES, 4))
    write_folders(photos, {"test": 5}, seed=1)
    out = tmp_path / "t.safetensors"
    _, said = succeed("teacher", photos, "--out", out, *SMALL)
    assert "its accuracy is not read" in said
    assert load_classifier(out).labels == CLASSES


def test_larger_images_than_the_teachers_are_no_hindrance(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    succeed("teacher", train, "--out", tmp_path / "t.safetensors", *SMALL, "size=8")


def test_cut_off_it_goes_on_and_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = sets(tmp_path)
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    succeed("teacher", train, "--out", whole, *SMALL)
    monkeypatch.setattr(teaching, "EVERY", -1.0)
    really, epochs = teaching.write_checkpoint, []

    def write(part: Path, identity: str, values: dict[str, Any]) -> None:
        really(part, identity, values)
        epochs.append(values["epoch"])
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching, "write_checkpoint", write)
    for number in range(1, 4):
        code, _, error = run("teacher", train, "--out", cut, *SMALL)
        assert (code, epochs) == (130, list(range(1, number + 1)))
        assert "the same command goes on from there" in error
    succeed("teacher", train, "--out", cut, *SMALL)
    assert cut.read_bytes() == whole.read_bytes()


def test_a_full_disk_at_the_very_end_costs_no_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = sets(tmp_path)
    out = tmp_path / "t.safetensors"
    monkeypatch.setattr(teaching, "EVERY", -1.0)

    def full(name: str) -> None:
        if (tmp_path / f".{out.name}.part").exists() and name == "opened":
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "failpoint", full)
        assert "the disk is full" in refused("teacher", train, "--out", out, *SMALL, "--quiet")
    said: list[int] = []
    really = teaching.train
    monkeypatch.setattr(
        teaching, "train", lambda *given, start, **more: said.append(start) or really(*given, start=start, **more)
    )
    succeed("teacher", train, "--out", out, *SMALL)
    assert said == [3], "only what came after the last checkpoint"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.safetensors", "test", "train"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--out", "{there}"], "there.safetensors is there already; take it away, or give another --out"),
        (["--out", "{root}/t.pth"], "give a name that ends in .safetensors"),
        (["--out", "{new}", "student=convnt-3"], 'unknown student "convnt-3" (did you mean "convnet-3"?)'),
        (["--out", "{new}", "epoch=3"], 'unknown key "epoch" (did you mean "epochs"?)'),
        (["--out", "{new}", "labels=soft"], "a teacher is trained with the set's own labels"),
        (["--out", "{new}", "student=convnet-5"], "images of 16 pixels are too small for a convnet-5"),
        (["--out", "{new}", "classes=ash,birhc"], 'unknown class "birhc" (did you mean "birch"?)'),
        (["--out", "{new}", "--test", "{root}/nowhere"], "there is no folder"),
        (
            ["--out", "{new}", "--test", "{lacking}"],
            'the test set lacks 1 of the 3 classes of the training set: "cedar"',
        ),
        (["--out", "{new}", "device=cuda:9"], 'device "cuda:9" is not available here'),
        (["--out", "{new}", "width=many"], "width: expected a whole number, got 'many'"),
    ],
)
def test_what_cannot_be_done_is_one_line(tmp_path: Path, more: list[str], says: str) -> None:
    train, _ = sets(tmp_path)
    lacking = write_folders(tmp_path / "lacking", {"ash": 1, "birch": 1})
    there, new = tmp_path / "there.safetensors", tmp_path / "new.safetensors"
    there.write_bytes(b"x")
    filled = [text.format(root=tmp_path, there=there, new=new, lacking=lacking) for text in more]
    assert says in refused("teacher", train, "student=convnet-1", "width=4", "epochs=1", "-q", *filled)
    assert there.read_bytes() == b"x"
    assert not new.exists()


def test_two_at_once_on_one_file_are_refused(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    with atomic.lock(tmp_path, ".t.safetensors.lock"):
        assert "in use" in refused("teacher", train, "--out", tmp_path / "t.safetensors", *SMALL, "-q")


def test_a_teacher_in_another_class_order_is_named_and_put_right(tmp_path: Path) -> None:
    """RDED's ImageWoof and ImageNette checkpoints are of this kind: no names, and an order that nobody wrote down."""
    train, test = sets(tmp_path, tests=8)
    state = load_classifier(colour_teacher(tmp_path / "t.safetensors", outputs=(2, 0, 1))).student.net.state_dict()
    torch.save({"model": state}, tmp_path / "t.pth")
    command = ("evaluate", train, "--test", test, *SOFT, f"teacher={tmp_path / 't.pth'}", "--out", tmp_path / "r.json")
    said = refused(*command)
    assert "0.0% right of 24 images of 3 classes (chance: 33.3%)" in said
    assert "its class order is not that of the data's sorted folders" in said
    assert "--remap puts it right" in said
    assert not (tmp_path / "r.json").exists()
    _, said = succeed(*command, "--remap")
    assert "its classes were put in order by its confusions on these test images" in said
    found = record(tmp_path / "r.json")
    assert found["teacher"]["remapped"] == [1, 2, 0]
    assert found["teacher"]["accuracy"] == 100
    _, said = succeed(*command, "--remap")
    assert "1 of 1 trainings are there already" in said
    named = ("evaluate", train, "--test", test, *SOFT, f"teacher={colour_teacher(tmp_path / 'n.safetensors')}")
    succeed(*named, "--out", tmp_path / "n.json")
    accuracies = [record(tmp_path / name)["cells"][0]["top1"] for name in ("r.json", "n.json")]
    assert accuracies[0] == accuracies[1], "in order, it teaches what the one with names does"
