"""`concord evaluate` as its user meets it: what it trains, says and leaves, and how it goes on after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import CLASSES, HARD, NET, SOFT, colour_teacher, record, refused, sets, succeed, tops
from PIL import Image

from concord.evaluation import evaluate as evaluating
from concord.evaluation import evaluate as trials
from concord.storage import atomic

COMMAND = [sys.executable, "-c", "from concord.cli import main; main()"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


def test_students_protocols_and_ipcs_in_one_call_give_a_cell_each(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    more = ("student=convnet-1,conv2", "width=4", "workers=1", "epochs=2", "seeds=2", "protocol=hard,dc", "ipc=1,4")
    said, _ = succeed("evaluate", train, "--test", test, *more)
    found = record(train)
    assert found["schema"] == 1
    assert found["classes"] == list(CLASSES)
    assert found["test"] == str(test)
    assert found["notes"] == []
    places = [(cell["student"], cell["protocol"], cell["ipc"]) for cell in found["cells"]]
    assert sorted(places) == sorted(
        (student, way, ipc) for student in ("convnet-1", "convnet-2") for way in ("hard", "dc") for ipc in (1, 4)
    )
    for cell in found["cells"]:
        assert cell["seeds"] == [0, 1]
        assert cell["images"] == 3 * cell["ipc"]
        assert cell["changed"] == {"epochs": 2, "width": 4}
        assert cell["seconds"] > 0
        for which in ("last", "best"):
            top1 = cell["top1"][which]
            assert len(top1["values"]) == 2
            assert top1["mean"] == pytest.approx(np.mean(top1["values"]))
            assert top1["std"] == pytest.approx(np.std(top1["values"], ddof=1))
        confusion = np.array(cell["confusion"])
        assert confusion.sum(1).tolist() == [12, 12, 12], "6 test images of each class, twice"
        assert 100 * np.trace(confusion) / 36 == pytest.approx(cell["top1"]["last"]["mean"], abs=1e-3)
        assert cell["per_class"] == pytest.approx(100 * np.diag(confusion) / 12, abs=1e-2)
    assert found["coverage"]["all"]["made"] == 12
    assert found["coverage"]["all"]["real"] == 18
    for cell in found["cells"]:
        [row] = [line for line in said.splitlines() if line.split()[:2] == [cell["student"], cell["protocol"]]]
        which = cell["top1"][cell["reports"]]
        assert f"{which['mean']:.1f} ± {which['std']:.1f}" in row
    assert "IPC 1" in said
    assert str(train / "evaluation.json") in said


def test_json_stands_alone_quiet_is_quiet_and_nothing_is_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD, "seeds=2")
    text, said = succeed(*command, "--json")
    assert json.loads(text) == record(train)
    for seed, value in enumerate(record(train)["cells"][0]["top1"]["last"]["values"]):
        assert f"seed {seed}: {value:.1f} % last" in said
    before = record(train)
    for name in ("train_cell", "coverage"):
        monkeypatch.setattr(trials if name == "train_cell" else evaluating, name, None)
    text, said = succeed(*command, "--json")
    assert json.loads(text) == before
    assert "2 of 2 trainings are there already" in said
    assert succeed(*command, "--quiet") == ("", "")


def test_seeds_are_told_with_their_own_accuracy_in_whatever_order(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    _, said = succeed("evaluate", train, "--test", test, *HARD, "seeds=7,3,5", "epochs=1")
    [cell] = record(train)["cells"]
    assert cell["seeds"] == [3, 5, 7]
    for seed, value in zip(cell["seeds"], cell["top1"]["last"]["values"], strict=True):
        assert f"seed {seed}: {value:.1f} % last" in said


def test_results_go_where_they_are_asked_to(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    out = tmp_path / "results" / "a run"
    said, _ = succeed("evaluate", train, "--test", test, *HARD, "--out", out)
    assert str(out) in said
    assert len(record(out)["cells"]) == 1
    assert [path.name for path in out.parent.iterdir()] == ["a run"]
    assert {path.name for path in train.iterdir()} == set(CLASSES), "the set itself is left alone"
    (tmp_path / "dir").mkdir()
    assert "is a directory" in refused("evaluate", train, "--test", test, *HARD, "--out", tmp_path / "dir")


def test_uneven_classes_are_taken_whole(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    (train / "ash" / "000.png").unlink()
    said, _ = succeed("evaluate", train, "--test", test, *HARD)
    [cell] = record(train)["cells"]
    assert (cell["ipc"], cell["images"]) == (None, 11)
    assert "all images" in said


def test_shared_and_double_images_are_said_before_training_and_noted(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    (test / "ash" / "copy.png").write_bytes((train / "ash" / "001.png").read_bytes())
    (train / "birch" / "again.png").write_bytes((train / "birch" / "002.png").read_bytes())
    _, said = succeed("evaluate", train, "--test", test, *HARD)
    notes = record(train)["notes"]
    assert [text in said for text in notes] == [True, True]
    assert "ash/copy.png = ash/001.png" in notes[0]
    assert "birch/again.png" in notes[1]
    assert said.index(notes[0]) < said.index("seed 0")


# Going on


def test_cut_off_at_any_training_it_goes_on_and_comes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *NET, "protocol=hard,dc", "epochs=2", "seeds=2", "--out")
    succeed(*command, tmp_path / "whole.json")
    trained: list[tuple[str, int]] = []
    really = trials.train_cell

    def try_out(unit: trials.Unit) -> Any:
        trained.append((unit.cell.way.protocol.name, unit.seed))
        return really(unit)

    def cut(path: Path, values: Any) -> None:
        atomic.write_json(path, {key: value for key, value in values.items() if key != "schema"})
        raise KeyboardInterrupt

    monkeypatch.setattr(trials, "train_cell", try_out)
    with monkeypatch.context() as patched:
        patched.setattr(evaluating, "write_record", cut)
        for number in range(1, 5):
            with pytest.raises(AssertionError) as code:
                succeed(*command, tmp_path / "cut.json")
            assert "the same command goes on from there" in str(code.value)
            assert len(trained) == number
    succeed(*command, tmp_path / "cut.json")
    assert trained == [("hard", 0), ("hard", 1), ("dc", 0), ("dc", 1)], "each training once"
    assert tops(tmp_path / "cut.json") == tops(tmp_path / "whole.json")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_killed_it_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    arguments = ["evaluate", train, "--test", test, *NET, "protocol=dc", "epochs=2", "seeds=400"]
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not (train / "evaluation.json").is_file():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    [cell] = record(train)["cells"]
    there = len(cell["seeds"])
    assert 0 < there < 400
    arguments[-1] = f"seeds={there + 1}"
    _, said = succeed(*arguments)
    assert f"{there} of {there + 1} trainings are there already" in said
    succeed(*arguments, "--out", tmp_path / "whole.json")
    assert tops(train) == tops(tmp_path / "whole.json")


def test_more_seeds_and_ipcs_join_those_that_are_there(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD)
    succeed(*command, "ipc=1")
    before = tops(train)
    _, said = succeed(*command, "ipc=1,4", "seeds=2")
    assert "1 of 4 trainings are there already" in said
    [(key, (_, top1, _))] = before.items()
    assert tops(train)[key][1]["last"]["values"][0] == top1["last"]["values"][0]
    assert [cell["seeds"] for cell in record(train)["cells"]] == [[0, 1], [0, 1]]


def test_changed_settings_are_cells_of_their_own(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD)
    succeed(*command)
    succeed(*command, "epochs=3")
    said, _ = succeed(*command, "size=8")
    assert [(cell["epochs"], cell["size"]) for cell in record(train)["cells"]] == [(2, 16), (3, 16), (2, 8)]
    for row in ("convnet-1 at 16 px", "convnet-1 at 8 px", "epochs=3"):
        assert row in said


def test_a_changed_image_is_trained_anew(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD)
    succeed(*command, "ipc=2,4")
    before = [cell["settings"] for cell in record(train)["cells"]]
    Image.new("RGB", (16, 16), "white").save(train / "birch" / "003.png")
    _, said = succeed(*command, "ipc=2,4")
    assert "1 of 2 trainings are there already" in said, "IPC 2 has not seen it"
    after = [cell["settings"] for cell in record(train)["cells"]]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]
    Image.new("RGB", (16, 16), "white").save(test / "birch" / "003.png")
    _, said = succeed(*command, "ipc=2,4")
    assert "there already" not in said


def test_another_test_set_begins_a_record_of_its_own_and_the_first_is_kept(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    other = tmp_path / "other"
    for name, source in zip(CLASSES, ("birch", "cedar", "ash"), strict=True):
        (other / name).mkdir(parents=True)
        for file in (test / source).iterdir():
            (other / name / file.name).write_bytes(file.read_bytes())
    succeed("evaluate", train, "--test", test, *HARD, "ipc=1,4")
    first = tops(train)
    _, said = succeed("evaluate", train, "--test", other, *HARD, "ipc=4")
    assert "is of other images" in said
    assert list(tops(train)) == [("convnet-1", "hard", 4, '{"epochs": 2, "width": 4}')], "cells are never mixed"
    _, said = succeed("evaluate", train, "--test", test, *HARD, "ipc=1,4")
    assert "2 of 2 trainings are there already" in said
    assert tops(train) == first


def test_another_set_in_the_same_file_is_kept_apart(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    bare, _ = sets(tmp_path / "b", images=3)
    for folder in CLASSES:
        (bare / folder / "000.png").unlink()
    out = tmp_path / "r.json"
    succeed("evaluate", train, "--test", test, *HARD, "ipc=1", "--out", out)
    succeed("evaluate", bare, "--test", test, *HARD, "ipc=2", "--out", out)
    assert [cell["ipc"] for cell in record(out)["cells"]] == [2]
    assert len(list(tmp_path.glob("r-*.json"))) == 1


def test_another_teacher_is_trained_anew(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    teacher = colour_teacher(tmp_path / "t.safetensors")
    other = colour_teacher(tmp_path / "u.safetensors", sure=10)
    command = ("evaluate", train, "--test", test, *SOFT)
    succeed(*command, f"teacher={teacher}")
    _, said = succeed(*command, f"teacher={teacher}")
    assert "1 of 1 trainings are there already" in said
    said, _ = succeed(*command, f"teacher={other}")
    assert [cell["teacher"] for cell in record(train)["cells"]] == ["t.safetensors", "u.safetensors"]
    assert "u.safetensors" in said, "the table tells them apart"
    colour_teacher(teacher, sure=20)
    _, said = succeed(*command, f"teacher={teacher}")
    assert "there already" not in said, "a file that was overwritten is another teacher"


def test_the_three_regimes_of_labels_stand_side_by_side(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    teacher = colour_teacher(tmp_path / "t.safetensors")
    command = ("evaluate", train, "--test", test, *NET, "epochs=2", "seeds=1", f"teacher={teacher}")
    said, _ = succeed(*command, "protocol=fixed")
    assert "protocol=regimes" in said
    said, _ = succeed(*command, "protocol=regimes")
    assert "protocol=regimes" not in said
    cells = {cell["protocol"]: cell.get("teacher") for cell in record(train)["cells"]}
    assert cells == {"rded": "t.safetensors", "fixed": "t.safetensors", "hard": None}


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *NET, "epochs=2", "seeds=3", "protocol=hard,dc", "ipc=1,2")
    before = sorted(train.rglob("*"))
    found = json.loads(succeed(*command, "--dry-run", "--json")[0])
    assert sorted(train.rglob("*")) == before
    shown = [(c["protocol"], c["ipc"], c["epochs"], c["batch"], c["images"], c["lacking"]) for c in found["cells"]]
    assert shown == [
        (way, ipc, epochs, 3 * ipc, 3 * ipc, 3) for ipc in (1, 2) for way, epochs in (("hard", 2), ("dc", 3))
    ]
    for cell in found["cells"]:
        assert 0 < cell["seconds"][0] <= cell["seconds"][1] < 60
    low, high = found["seconds"]
    assert low == pytest.approx(sum(3 * cell["seconds"][0] for cell in found["cells"])) and low <= high
    said, _ = succeed(*command, "--dry-run")
    assert "12 trainings: " in said and "(dry run)" in said
    succeed(*command)
    said, _ = succeed(*command, "--dry-run")
    assert "nothing is left to train" in said
    said, _ = succeed(*command, "--dry-run", "seeds=4")
    assert "4 trainings: " in said


@pytest.mark.parametrize("command", ["evaluate", "labels"])
def test_what_cannot_be_trained_is_said_before_a_teacher_is_looked_for(tmp_path: Path, command: str) -> None:
    train, test = sets(tmp_path)
    beside = ("--out", tmp_path / "labels") if command == "labels" else ()
    for text, wrong in (
        ("student=convnte-3", 'unknown student "convnte-3"'),
        ("norm=layer", "it is batch or instance"),
    ):
        given = ("student=resnet-18", text, "teacher=/nowhere/t.safetensors", "epochs=1")
        assert wrong in refused(command, train, "--test", test, *given, *beside)


def test_a_sound_teacher_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *SOFT, f"teacher={colour_teacher(tmp_path / 't.safetensors')}")
    succeed(*command)
    before = record(train)
    monkeypatch.setattr("concord.evaluation.check_teacher.check_teacher", None)
    succeed(*command)
    assert record(train) == before


def test_two_at_once_in_one_directory_are_refused_and_files_of_their_own_are_not(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    with atomic.lock(train):
        assert "in use by another run" in refused("evaluate", train, "--test", test, *HARD)
        assert not (train / "evaluation.json").exists()
        succeed("evaluate", train, "--test", test, *HARD, "--out", tmp_path / "r.json")
    with atomic.lock(tmp_path, ".r.json.lock"):
        assert "in use" in refused("evaluate", train, "--test", test, *HARD, "--out", tmp_path / "r.json")


# With what `concord distill` left


def made(root: Path, photos: Path, name: str, *more: str) -> Path:
    succeed("distill", "photos", f"data={photos}", "method=random", "ipc=2", "size=16", "--out", root / name, *more)
    return root / name


def test_the_report_of_a_made_set_gets_its_accuracy_and_two_sets_are_compared(tmp_path: Path) -> None:
    photos, test = sets(tmp_path)
    a, b = made(tmp_path, photos, "a"), made(tmp_path, photos, "b", "seed=1")
    for out in (a, b):
        succeed("evaluate", out, "--test", test, *HARD, "seeds=2", "epochs=6")
    page = (a / "report.html").read_text()
    assert "Accuracy of classifiers trained on the set" in page
    assert "hard (epochs=6, width=4)" in page
    text, _ = succeed("compare", a, b, "--json")
    of = {row["name"]: row for row in json.loads(text)["measures"]}
    row = of["top1.best.convnet-1.hard (epochs=6, width=4).2"]
    means = [record(out)["cells"][0]["top1"]["best"]["mean"] for out in (a, b)]
    assert (row["a"], row["b"], row["difference"]["by"]) == (*means, "paired seeds")


def test_cells_of_other_settings_or_test_images_are_not_compared(tmp_path: Path) -> None:
    photos, test = sets(tmp_path)
    a, b = made(tmp_path, photos, "a"), made(tmp_path, photos, "b", "seed=1")
    succeed("evaluate", a, "--test", test, *HARD)
    succeed("evaluate", b, "--test", test, *HARD, "epochs=3")
    assert "top1" not in succeed("compare", a, b, "--json")[0]
    succeed("evaluate", b, "--test", photos, *HARD)
    text, _ = succeed("compare", a, b, "--json")
    assert "top1" not in text
    assert "other test images" in text or "different test images" in text


def test_a_set_that_is_not_finished_is_evaluated_all_the_same(tmp_path: Path) -> None:
    photos, test = sets(tmp_path)
    out = made(tmp_path, photos, "a")
    (out / "results.json").unlink()
    succeed("evaluate", out, "--test", test, *HARD)
    assert len(record(out)["cells"]) == 1


def test_the_teacher_of_the_recipe_is_taken(tmp_path: Path) -> None:
    photos, test = sets(tmp_path)
    out = made(tmp_path, photos, "a", f"teacher={colour_teacher(tmp_path / 't.safetensors')}")
    succeed("evaluate", out, "--test", test, *SOFT)
    assert record(out)["teacher"]["name"] == "t.safetensors"
    assert record(out)["teacher"]["accuracy"] == 100
    assert record(out)["teacher"]["images"] == 18
