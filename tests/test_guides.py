"""The commands of the README and of the guides run as they stand, on small models and few images."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tiny
import tiny_pipelines
from concord.cli.commands import app
from concord.data.class_lists import class_list

pytestmark = pytest.mark.usefixtures("small_reef")
ROOT = Path(__file__).parent.parent


def commands(page: Path) -> list[list[str]]:
    """The concord commands of a page's shell blocks, without their comments."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("concord ")]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with photographs, and with models for whatever a recipe asks for."""
    draw = np.random.default_rng(0)
    for folder in (*(f"my-photos/{name}" for name in ("tabby", "sphynx", "maine coon")), *woof()):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(21):
            Image.fromarray(draw.integers(0, 255, (24, 20, 3), dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")
    tiny_pipelines.pipeline("unclip").save_pretrained(tmp_path / "models" / "unclip")
    tiny.save_encoder(tmp_path / "models" / "clip", tiny.clip())
    tiny.tiny_autoencoder().save_pretrained(tmp_path / "models" / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def woof() -> list[str]:
    return [f"imagenet/train/{c.wnid}" for c in class_list("imagewoof")]


SMALL = {
    "my-photos.yaml": ["pipeline.model=models/unclip", "pipeline.tiny_decoder=models/tiny", "encoder=models/clip",
                       "pipeline.steps=2", "concepts.images=3", "workers=1"],
    "imagewoof-unclip": ["pipeline.model=models/unclip", "encoder=models/clip", "concepts.images=1"],
    "reef": ["pipeline.steps=2", "concepts.images=2", "ipc=1", "classes=coral perch,river perch", "workers=1"],
    "evaluate": ["ipc=1", "seeds=1", "epochs=1", "width=4", "workers=1"],
    "labels": ["ipc=1", "epochs=1", "width=4"],
    "teacher": ["student=convnet-1", "size=16", "epochs=1"],
    "reproduce": ["--dry-run"],
}  # fmt: skip
"""What a test sets beside what the page says."""


@contextlib.contextmanager
def language_model(folder: Path) -> Iterator[str]:
    """The server of the retrieval tests, which knows phrases for any class."""
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"classes": {}}))
    script = ROOT / "tests" / "concepts" / "server.py"
    process = subprocess.Popen(
        [sys.executable, str(script), "plan.json", "log.jsonl"], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()


def run(arguments: list[str], server: str) -> str:
    known = [server if word.startswith("http://localhost") else word for word in arguments]
    more = SMALL.get(arguments[1] if arguments[0] == "distill" else arguments[0], [])
    result = CliRunner().invoke(app, [*known, *more])
    assert result.exit_code == 0, f"{arguments}: {result.output}"
    return result.output


def test_the_guide_to_ones_own_photographs(place: Path) -> None:
    with language_model(place / "server") as server:
        for arguments in commands(ROOT / "docs" / "photos.md"):
            run(arguments, server)
    results = json.loads((place / "out" / "cats" / "results.json").read_text())
    assert (results["images"], results["last_call"]["kept"]) == (60, 30)
    assert "maine coon" in (place / "out" / "cats" / "report.html").read_text(encoding="utf-8")
    assert (place / "compare.html").is_file()
    assert (place / "cats-set" / "README.md").is_file()


def test_the_guide_to_coresets(place: Path) -> None:
    photos = [arguments for arguments in commands(ROOT / "docs" / "coresets.md") if arguments[1] == "photos"]
    assert len(photos) == 4
    for arguments in photos:
        run(arguments, "")
        results = json.loads((place / arguments[-1] / "results.json").read_text())
        assert results["images"] == (63 if results["method"] == "full" else 30)


def test_the_guide_to_evaluation(place: Path) -> None:
    said = commands(ROOT / "docs" / "evaluation.md")
    assert {words[0] for words in said} == {"distill", "evaluate", "compare", "teacher", "labels"}
    run(["distill", "reef", "--out", "out/reef"], "")
    two = "classes=coral perch,river perch"
    for words in said[: [words[0] for words in said].index("compare") + 1]:
        if words[1] != "out/reef" and words[1] != "my-set":
            short = {"distill": [two, "uninformed=false"], "evaluate": [two, "size=16"], "compare": []}
            told = run([*(word.replace("seed=0,1,2", "seed=0,1") for word in words), *short[words[0]]], "")
            assert words[0] != "evaluate" or "2 draws of the set" in " ".join(told.split())
    run(["distill", "photos", "data=reef", "method=full", two, "--out", "out/full"], "")
    run(["evaluate", "out/full", "--test", "reef-test", "student=convnet-3", "protocol=hard", two], "")
    reef = [words for words in said if words[1] == "out/reef"]
    assert len(reef) == 5
    told = [run([*words, two], "") for words in reef]
    record = json.loads((place / "out" / "reef" / "evaluation.json").read_text())
    cells = record["cells"]
    assert [cell["protocol"] for cell in cells] == ["rded", "hard", "fixed", "rded", "plain"]
    assert cells[3]["soft_labels"]["bits"] == "uint8"
    assert [(side["name"], len(side["cells"])) for side in record["sides"]] == [("random", 3), ("herding", 3)]
    assert record["ranking"][0]["way"] == "ddranking" and "best of five" in told[-1]


def test_the_guide_to_concepts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["tabby", "maine coon"]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    (tmp_path / "classes.csv").write_text("\n".join(["class_name", *names]))
    for name in names:
        (tmp_path / "my-photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "my-photos" / name / "0.png")
    labels = datasets.Features({"label": datasets.ClassLabel(names=names)})
    datasets.Dataset.from_dict({"label": [0, 1]}, labels).to_parquet(tmp_path / "train.parquet")
    monkeypatch.chdir(tmp_path)
    said = commands(ROOT / "docs" / "concepts.md")
    assert [words[2] for words in said] == [
        "classes.txt", "my-photos", "imagenet-100", "classes.csv", "train.parquet",
    ]  # fmt: skip
    with language_model(tmp_path / "server") as server:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server)
        for n, words in enumerate(said):
            bank = tmp_path / f"{n}.json"
            run([*words, "--out", str(bank)], server)
            classes = json.loads(bank.read_text())["classes"]
            assert set(classes) == set(names) if words[2] != "imagenet-100" else len(classes) == 100
    text = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    (tmp_path / "descriptors.json").write_text(json.dumps({"tabby": ["striped coat", None]}))
    for line in re.findall(r"^concord (concepts (?:banks|show|import) .*|concepts banks)$", text, re.M):
        run(shlex.split(re.sub(r"\[.*", "", line)), "")
    assert json.loads((tmp_path / "bank.json").read_text())["classes"]["tabby"]["phrases"] == ["striped coat"]


def test_the_readmes_commands(place: Path) -> None:
    with language_model(place / "server") as server:
        run(["distill", "reef", "--out", "out/reef"], server)
        run(["distill", "reef", "informing.strength=0.1", "--out", "out/other"], server)
        said = {" ".join(a[:2]): run(a, server) for a in commands(ROOT / "README.md")}
    assert "imagewoof-unclip" in said["doctor"]
    assert (place / "reef-set" / "README.md").is_file()
    assert (place / "out" / "my-photos" / "images").is_dir()
    run(commands(ROOT / "docs" / "report.md")[0], "")
