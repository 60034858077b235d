"""Before it costs hours: what `concord teacher` and `concord labels` would do, and how long it would take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commanding import SOFT, colour_teacher, refused, sets, succeed

SMALL = ("student=convnet-1", "width=4", "epochs=4", "batch=5")


def test_a_teachers_dry_run_says_epochs_steps_and_times_and_writes_nothing(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("teacher", train, "--out", tmp_path / "new" / "t.safetensors", *SMALL)
    before = sorted(tmp_path.rglob("*"))
    found = json.loads(succeed(*command, "--dry-run", "--json")[0])
    assert (found["images"], found["classes"], found["size"], found["epochs"], found["batch"]) == (12, 3, 16, 4, 5)
    assert found["steps"] == 4 * 3, "twelve images are two batches of five and one of two"
    assert 0 < found["seconds"][0] <= found["seconds"][1] < 60
    said, noted = succeed(*command, "--dry-run", "--test", test)
    assert "(dry run)" in said and "12: 4 epochs in batches of 5" in said and "here" in said
    assert "accuracy is not read" not in noted
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_of_labels_counts_what_lacks_and_knows_the_stores_size(tmp_path: Path) -> None:
    train, _ = sets(tmp_path)
    teacher = f"teacher={colour_teacher(tmp_path / 't.safetensors')}"
    command = ("labels", train, "--out", tmp_path / "l", *SOFT, "epochs=6", "batch=5", teacher, "bits=float16")
    found = json.loads(succeed(*command, "--dry-run", "--json")[0])
    assert not (tmp_path / "l").exists()
    assert (found["images"], found["epochs"], found["steps"]) == (12, 6, 6 * 3)
    assert 0 < found["seconds"][0] <= found["seconds"][1] < 60
    succeed(*command)
    tensors = sum(file.stat().st_size for file in (tmp_path / "l").glob("*.safetensors"))
    headers = sum(
        int.from_bytes(file.read_bytes()[:8], "little") + 8 for file in (tmp_path / "l").glob("*.safetensors")
    )
    assert found["store_bytes"] == pytest.approx(tensors - headers, rel=0.3)
    (tmp_path / "l" / "epoch-00003.safetensors").unlink()
    assert "3: 6 epochs in batches of 5" in succeed(*command, "--dry-run")[0]
    succeed(*command)
    assert "nothing is left to do" in succeed(*command, "--dry-run")[0]
    assert "hold" in refused(*command[:-1], "bits=uint8", "--dry-run"), "as the command itself would refuse it"


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("command", "key", "said"),
    [
        ("teacher", "student=resnet-181", "unknown student"),
        ("teacher", "stduent=resnet-18", 'did you mean "student"'),
        ("labels", "student=resnet-181", "unknown student"),
        ("labels", "protocol=rdde", 'did you mean "rded"'),
        ("labels", "tpo_k=1", "unknown key"),
    ],
)
def test_what_there_is_not_is_refused_before_data_are_looked_for(
    tmp_path: Path, command: str, key: str, said: str, more: tuple[str, ...]
) -> None:
    error = refused(command, tmp_path / "no-photos", "--out", tmp_path / "t.safetensors", key, *more)
    assert said in error and "no-photos" not in error
