"""`evaluate` from Python: the files and figures of the command, and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from concord.errors import ConcordError
from concord.recipe import load
from concord.runs.directory import open_run
from concord.settings import as_texts
from concord.workflows.distill import distill
from concord.workflows.evaluate import evaluate

pytestmark = pytest.mark.usefixtures("small_reef")
NET = {"student": ["convnet-1"], "width": 4, "workers": 1, "protocol": "hard", "epochs": 1, "seeds": [0]}


def test_a_run_is_evaluated_as_by_the_command(tmp_path: Path) -> None:
    out = tmp_path / "run"
    distill(load("reef", ["method=random", "ipc=1"]), out)
    (out / "report.html").unlink()
    scores = evaluate(open_run(out), test="reef-test", ipc=[1], mixing={"kind": "none"}, metrics=["ece"], **NET)
    assert scores.path == out / "evaluation.json"
    assert {"schema": 1, **scores.record} == json.loads(scores.path.read_text())
    [cell] = scores.record["cells"]
    assert cell["changed"] == {"epochs": 1, "mixing.kind": "none", "width": 4}
    assert "evaluation.json:cells.0.metrics.ece" in (out / "report.html").read_text(), "the page has it"
    head, row, *rest = scores.table().splitlines()
    assert (head.split()[:2], row.split()[:2]) == (["student", "protocol"], ["convnet-1", "hard"])
    assert "calibration error" in rest
    with pytest.raises(ConcordError, match=r'unknown key "studnet" \(did you mean "student"\?\)'):
        evaluate(out, test="reef-test", studnet="convnet-1")
    with pytest.raises(ConcordError, match="seeds"):
        evaluate(out, test="reef-test", seeds=0)


def test_values_are_what_their_texts_say(tmp_path: Path) -> None:
    from concord.evaluation.settings import read_settings

    values = {"teacher": tmp_path / "a, b", "ipc": [1, 10], "classes": ["001", "no"], "size": None, "lr": 1e-5}
    settings, [way] = read_settings(as_texts({**values, "augment": {"crop": None, "flip": False}, "remap": True}))
    assert (settings.teacher, settings.ipc, settings.classes) == (str(tmp_path / "a, b"), [1, 10], ["001", "no"])
    assert (settings.remap, settings.size, way.protocol.lr) == (True, None, 1e-5)
    augment = way.protocol.augment
    assert (augment.crop, augment.flip, augment.patch_shuffle) == (None, False, 2)
