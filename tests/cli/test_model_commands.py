"""`concord rehearse` and `concord finetune` as a person meets them: what they print, and one line where they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

import tiny
from concord.cli.commands import app


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def models(folder: Path) -> list[str]:
    tiny.pipeline().save_pretrained(folder / "dit")
    tiny.save_encoder(folder / "clip", tiny.clip())
    return [f"pipeline.model={folder}/dit", f"encoder={folder}/clip", "size=null", "dtype=float32"]


def test_a_rehearsal_says_memory_steps_and_the_whole_run(tmp_path: Path) -> None:
    texts = [*models(tmp_path), "data=none", "pipeline.steps=7", "device=cpu"]
    found = run("rehearse", "imagewoof-dit", *texts, "--images", "1", "--steps", "1", "--quiet")
    assert found.exit_code == 0, found.output
    for said in (
        "random weights",
        "with every model loaded",
        "it fits",
        "7 steps, 7 of them informed",
        "10 classes x 10",
    ):
        assert said in found.output
    values = json.loads(run("rehearse", "imagewoof-dit", *texts, "--images", "1", "--quiet", "--json").stdout)
    assert (values["evaluations"], values["gradients"], values["images"]) == (7, 7, 100)
    assert list(tmp_path.iterdir()) and not (tmp_path / "out").exists()  # nothing is written


def test_what_cannot_be_rehearsed_ends_in_one_line() -> None:
    found = run("rehearse", "photos", "data=reef")
    assert found.exit_code == 2 and found.stderr.startswith("error: method random samples no diffusion model")
    assert found.stderr.count("\n") == 1


def test_a_tuned_model_is_said_how_to_use(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in range(2):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / "data" / name / f"{n}.png")
    [model, *_], out = models(tmp_path), tmp_path / "tuned"
    texts = [model.replace("pipeline.", ""), "epochs=1", "batch=2", "device=cpu", "--out", str(out)]
    found = run("finetune", str(tmp_path / "data"), *texts)
    assert found.exit_code == 0, found.output
    assert "2 classes, 4 images, 2 steps" in found.output and f"pipeline.checkpoints={{{out}: all}}" in found.output
    again = json.loads(run("finetune", str(tmp_path / "data"), *texts, "--json").stdout)
    assert [row["steps"] for row in again["checkpoints"]] == [2]
    wrong = run("finetune", str(tmp_path / "data"), *texts, "lr=0.5")
    assert wrong.exit_code == 2 and "was tuned with another settings" in wrong.stderr
