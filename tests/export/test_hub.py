"""A set that goes to the hub must come back as it was: to the byte, private unless asked, whatever was killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from fake_hub import TOKEN, FakeHub, Repository, commit_id
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.runs.verify import verify
from concord.storage.atomic import write_json

NAME = "me/reef-2"


@pytest.fixture(scope="module")
def run(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with an evaluation, concepts and near copies."""
    place = tmp_path_factory.mktemp("secret-home") / "run"
    shutil.copytree(finished, place)
    top1 = {"seeds": [1, 2], "last": {"mean": 61.25, "std": 1.5, "values": [60.0, 62.5]}}
    cell = {"student": "convnet-3", "protocol": "rded", "ipc": 2, "seeds": [1, 2], "reports": "last", "top1": top1}
    told = {"test": f"{place}/my test", "notes": [f"the teacher {place}/t.pt was trained here"], "of": "a-b"}
    write_json(place / "evaluation.json", {**told, "cells": [{**cell, "teacher": "someone/teacher", "settings": "x"}]})
    concept = {"phrase": "a striped tail", "activation": 0.3, "kept": True}
    write_json(place / "concepts.json", {"bank": "b", "classes": {"train": {"concepts": [concept]}}})
    image = {"nearest": "train/0.png", "similarity": 0.99, "flagged": True}
    write_json(place / "near_copies.json", {"threshold": {}, "images": {"images/train/00000.png": image}})
    return place


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("layout", ["parquet", "folder"])
def test_a_set_comes_back_as_it_was(layout: str, run: Path, hub: FakeHub, tmp_path: Path) -> None:
    hub.models["someone/teacher"] = "apache-2.0"
    said = call("export", run, "--layout", layout, "--push", NAME)
    assert "private" in said and f"concord fetch {NAME}" in said
    assert hub.repositories[NAME].private
    pushed = hub.repositories[NAME].files
    assert not [name for name, data in pushed.items() if b"secret-home" in data or TOKEN.encode() in data]

    call("fetch", NAME, "--out", tmp_path / "back")
    back = tree(tmp_path / "back")
    assert {name: data for name, data in back.items() if name.startswith("images/") and name.endswith(".png")} == {
        name: data for name, data in tree(run).items() if name.startswith("images/") and name.endswith(".png")
    }
    assert verify(tmp_path / "back").faults == ()
    assert not [name for name, data in back.items() if b"secret-home" in data or TOKEN.encode() in data]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back"], "nothing is left beside it"

    call("report", tmp_path / "back")
    assert "61.2" in (tmp_path / "back" / "report.html").read_text(encoding="utf-8")
    compared = json.loads(call("compare", tmp_path / "back", run, "--json"))
    assert compared["samples"]["common"] == compared["samples"]["identical"] == 8


def test_the_card_says_what_was_used_and_measured(run: Path, hub: FakeHub) -> None:
    hub.models["someone/teacher"] = "cc-by-4.0"
    call("export", run, "--layout", "parquet", "--push", NAME)
    _, front, body = hub.repositories[NAME].files["README.md"].decode().split("---\n", 2)
    columns = {one["name"]: one for one in yaml.safe_load(front)["dataset_info"]["features"]}
    assert list(columns["label"]["dtype"]["class_label"]["names"]) == ["0", "1", "2", "3"]
    assert "| someone/teacher | teacher of the evaluation | cc-by-4.0, by its page on the hub |" in body
    assert "| convnet-3 | rded | 2 | 61.2 ± 1.5 over 2 seeds | someone/teacher |" in body
    assert "| train | a striped tail |" in body
    assert f'load_dataset("{NAME}", split="train")' in body
    assert {"recipe.yaml", "concepts.json", "evaluation.json", "near_copies.json", "results.json"} <= {
        *hub.repositories[NAME].files
    }


def test_datasets_loads_it_from_the_hub(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    """By its name alone, with the names of the classes, from either layout."""
    script = (
        "import datasets, sys\n"
        "for name in sys.argv[1:]:\n"
        "    rows = datasets.load_dataset(name, split='train')\n"
        "    print(len(rows), rows.features['label'].names, rows[0]['image'].size)\n"
    )
    for layout in ("parquet", "folder"):
        call("export", run, "--layout", layout, "--push", f"me/{layout}")
    done = subprocess.run(
        [sys.executable, "-c", script, "me/parquet", "me/folder"],
        env={**environment(hub, tmp_path), "HF_DATASETS_CACHE": str(tmp_path / "d"), "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = ["<script>alert(1)<", "tail", "straße 東京", "<script>alert(1)</script>/../x"]
    assert done.stdout.splitlines() == [f"8 {names} (12, 12)"] * 2


def environment(hub: FakeHub, home: Path) -> dict[str, str]:
    more = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    return {**os.environ, **more, "HF_HUB_OFFLINE": "0", "TMPDIR": str(home)}


def test_a_killed_push_goes_on_and_shows_nothing_before_it_is_whole(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    hub.hold = 3
    command = [sys.executable, "-m", "concord.cli", "export", str(run), "--layout", "folder", "--push", NAME]
    process = subprocess.Popen(command, env=environment(hub, tmp_path), stderr=subprocess.PIPE)
    assert hub.held.wait(300)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [*hub.repositories[NAME].files] == [".gitattributes"] and len(hub.objects) == 3
    assert "was not put there by `concord export --push`" in refused("fetch", NAME, "--out", tmp_path / "o")

    hub.hold, before = None, set(hub.objects)
    hub.freed.set()
    hub.asked.clear()
    call("export", run, "--layout", "folder", "--push", NAME)
    assert len(hub.puts()) == 8 - 3 and not {one.rpartition("/")[2] for one in hub.puts()} & before
    call("fetch", NAME, "--out", tmp_path / "o")
    assert verify(tmp_path / "o").faults == ()


def test_a_push_again_replaces_what_was_there(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    call("export", run, "--layout", "parquet", "--push", NAME, "--shard-size", 3)
    call("export", run, "--layout", "parquet", "--push", NAME)
    data = [name for name in hub.repositories[NAME].files if name.startswith("data/")]
    assert data == ["data/train-00000-of-00001.parquet"], "a reader would take a left shard for part of the set"
    call("fetch", NAME, "--out", tmp_path / "old", "--revision", commit_id(1))
    assert tree(tmp_path / "old").keys() >= {"images/train/00000.png", "recipe.yaml"}


def test_public_is_asked_for_first(run: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    push = ("export", run, "--layout", "parquet", "--push", NAME)
    assert "Nobody is here to agree: add --yes" in refused(*push, "--public")
    assert hub.repositories == {}, "nothing was made before"
    call(*push)
    assert hub.repositories[NAME].private
    call(*push, "--public", "--yes")
    assert not hub.repositories[NAME].private
    assert "me/reef-2 is public: add --public" in refused(*push)

    from concord.errors import ConcordError
    from concord.export.hub import push as pushed

    asked: list[str] = []
    with pytest.raises(ConcordError, match="nothing was sent"):
        pushed(run, "parquet", "me/other", public=True, agreed=lambda question: bool(asked.append(question)))
    assert "Anybody will be able to read and copy me/other" in asked[0] and "me/other" not in hub.repositories


def test_what_cannot_be_pushed_is_one_line(
    run: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push(*more: object, layout: str = "folder") -> str:
        return refused("export", run, "--layout", layout, *more)

    hub.repositories["me/theirs"] = Repository(True, [{"train.csv": b"1"}])
    assert "me/theirs holds something else (train.csv)" in push("--push", "me/theirs")
    assert "expected ORG/NAME" in push("--push", "reef")
    assert "expected ORG/NAME" in push("--push", "../x/y")
    assert "expected --layout folder or parquet" in push("--push", NAME, layout="webdataset")
    assert "one of the two" in push()
    assert "one of the two" in push("--push", NAME, "--out", tmp_path / "o")
    assert "--push is of the set itself" in push("--push", NAME, "--variant", "uninformed")
    assert "--public is for --push" in push("--out", tmp_path / "o", "--public")
    assert "--yes answers what --public asks" in push("--push", NAME, "--yes")
    assert "the token in HF_TOKEN may not do that (You don't have the rights" in push("--push", "others/reef")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "wrong" * 6)
    said = push("--push", NAME)
    assert "the hub does not know the token" in said and "wrong" not in said
    monkeypatch.delenv("HF_TOKEN")
    assert "put one into HF_TOKEN" in push("--push", NAME)
    assert [*hub.repositories] == ["me/theirs"]


def test_what_did_not_arrive_whole_is_no_run(
    run: Path, hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("export", run, "--layout", "parquet", "--push", NAME)
    whole = hub.repositories[NAME].files

    def fetched(**changed: bytes | None) -> str:
        files = {name: data for name, data in {**whole, **changed}.items() if data is not None}
        hub.repositories[NAME].commits.append(files)
        said = refused("fetch", NAME, "--out", tmp_path / "o")
        assert [*tmp_path.iterdir()] == []
        return said

    data = "data/train-00000-of-00001.parquet"
    flipped = whole[data][:100] + bytes([whole[data][100] ^ 1]) + whole[data][101:]
    assert f"{data} is missing or changed" in fetched(**{data: flipped})
    assert "recipe.yaml is missing or changed" in fetched(**{"recipe.yaml": None})
    assert "was not put there by" in fetched(**{"checksums.json": None})
    assert "was not put there by" in fetched(**{"checksums.json": b'{"layout": "parquet", "files": {}}'})

    def forged(name: str, old: bytes, new: bytes) -> str:
        """A repository whose digests fit, and whose rows do their worst."""
        import hashlib

        changed = whole[name].replace(old, new)
        assert changed != whole[name]
        sums = json.loads(whole["checksums.json"])
        sums["files"][name] = {"bytes": len(changed), "sha256": hashlib.sha256(changed).hexdigest()}
        return fetched(**{name: changed, "checksums.json": json.dumps(sums).encode()})

    assert "in a place of its own" in forged("rows.jsonl", b'"train/00001.png"', b'"../../../../x.png"')
    assert "is not the image of its row" in forged("rows.jsonl", rb'"sha256": "', rb'"sha256": "0')
    assert "is no row of an image" in forged("rows.jsonl", b'"label"', b'"lable"')
    assert "has another order of images" in forged("rows.jsonl", b'"index": 1', b'"index": 7')
    assert 'layout "../x"' in forged_layout(hub, whole, tmp_path)

    assert "is not on the hub" in refused("fetch", "me/none", "--out", tmp_path / "o")
    assert "no such revision" in refused("fetch", NAME, "--out", tmp_path / "o", "--revision", "v9")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine").touch()
    assert "is there already" in refused("fetch", NAME, "--out", tmp_path / "o")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "the hub was not reached" in refused("fetch", NAME, "--out", tmp_path / "p")


def forged_layout(hub: FakeHub, whole: dict[str, bytes], place: Path) -> str:
    sums = {**json.loads(whole["checksums.json"]), "layout": "../x"}
    hub.repositories[NAME].commits.append({**whole, "checksums.json": json.dumps(sums).encode()})
    return refused("fetch", NAME, "--out", place / "o")
