"""The closed loop as it is typed: offline, with a model, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.concepts import load_bank
from concord.reef.text import PHRASES
from concord.reef.world import SPECIES
from concord.runs.store import read_manifest

pytestmark = pytest.mark.usefixtures("small_reef")
CLASSES = ["coral perch", "river perch", "lagoon wrasse"]
TRAINING = ("student=convnet-1", "width=4", "size=16", "epochs=1", "workers=1", "seeds=1", "protocol=hard", "ipc=1")
SERVER = Path(__file__).parents[1] / "concepts" / "server.py"


def run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    few = (f"classes={','.join(CLASSES)}", "ipc=1", "pipeline.steps=2", "concepts.images=5", "concepts.keep=3")
    run("distill", "reef", *few, "uninformed=false", "nuisance=null", "workers=1", "--out", out, "--quiet")
    return out


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A language model that knows the truth: each species' own details, and some that nobody has."""
    classes = {}
    for one in (one for one in SPECIES if one.name in CLASSES):
        phrases = [PHRASES[detail] for detail in one.details]
        phrases += [f"{part} like no other fish" for part in ("gills", "lips", "scales", "throat", "cheeks")]
        classes[one.name] = [f"text:{json.dumps({'look_alikes': [], 'phrases': phrases})}"]
    (tmp_path / "plan.json").write_text(json.dumps({"classes": classes}))
    command = [sys.executable, str(SERVER), str(tmp_path / "plan.json"), str(tmp_path / "log")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    process.kill()
    process.wait()


def test_offline_phrases_are_chosen_from_the_bank_and_the_set_is_made_again(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    run("refine", made, "--out", tmp_path / "new.json", *TRAINING, "--pairs", 1, "--again", again, "--quiet")
    record = json.loads((tmp_path / "new-refined.json").read_text())
    [pair] = record["pairs"]
    assert set(pair["classes"]) == set(record["phrases"]) and 0 < pair["before"] <= 1 and 0 <= pair["after"] <= 1
    bank, before = load_bank(str(tmp_path / "new.json")), load_bank("reef")
    for name in CLASSES:
        kept = bank.phrases(name)
        assert set(kept) <= set(before.phrases(name))
        assert len(kept) in (range(1, 4) if name in pair["classes"] else [len(before.phrases(name))])
        if name in pair["classes"]:
            assert [*kept] == [one["phrase"] for one in record["phrases"][name]]
    both = [set(bank.phrases(name)) for name in pair["classes"]]
    assert not both[0] & both[1], "a phrase of both tells neither"
    rows = [read_manifest(place / "images") for place in (made, again)]
    assert [row["seed"] for row in rows[0]] == [row["seed"] for row in rows[1]]
    told = {row["class_name"]: row["positives"] for row in rows[1]}
    for name in pair["classes"]:
        assert set(told[name]) == {f"{name} with {phrase}" for phrase in bank.phrases(name)}
    assert not (made / "evaluation.json").exists()


def test_a_model_is_asked_for_each_class_with_the_other_alone(made: Path, tmp_path: Path, server: str) -> None:
    asked = ("--model", "m", "--base-url", server)
    said = run("refine", made, "--out", tmp_path / "new.json", *TRAINING, "--pairs", 1, *asked)
    record = json.loads((tmp_path / "new-refined.json").read_text())
    first, second = record["pairs"][0]["classes"]
    requests = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {request["class"] for request in requests} == {first, second}
    for request in requests:
        other = second if request["class"] == first else first
        assert f"The other classes: {other}\n" in request["messages"][0]["content"]
    assert record["model"] == "m"
    truth = {one.name: {PHRASES[detail] for detail in one.details} for one in SPECIES}
    for name in (first, second):  # what real images bear out: hardly what no fish has
        assert {one["phrase"] for one in record["phrases"][name]} & truth[name]
    assert "mixed up" in said


def test_the_images_that_are_reported_on_are_refused(made: Path, tmp_path: Path) -> None:
    (made / "evaluation.json").write_text(json.dumps({"schema": 1, "test": "reef-test", "cells": []}))
    said = run("refine", made, "--out", tmp_path / "new.json", "--test", "reef-test", *TRAINING, code=2)
    (made / "evaluation.json").unlink()
    assert "says nothing any more" in " ".join(said.split())
    run(
        "distill", "photos", "data=reef", f"classes={','.join(CLASSES)}", "ipc=1", "--out", tmp_path / "real", "--quiet"
    )
    said = run("refine", tmp_path / "real", "--out", tmp_path / "new.json", *TRAINING, code=2)
    assert "was not informed by a bank" in " ".join(said.split())
