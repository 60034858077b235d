"""The door is open: a package that adds one of each thing, in one file each, serves the command line and Python."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from forked import Forked

PLUGIN = Path(__file__).parent / "plugin"
SMALL = ["workers=1", "pipeline.steps=2", "concepts.images=2", "classes=coral perch,river perch"]
REEF = [*SMALL, "ipc=1", "uninformed=false", "scorer.kind=none", "teacher=null", "nuisance=null"]
"""What makes a reef run quick: two classes, two steps, and nothing measured."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, installed by pip without a network into a folder of its own."""
    folder, source = tmp_path_factory.mktemp("installed"), tmp_path_factory.mktemp("source") / "plugin"
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", folder, source], check=True)
    return folder


class Shell:
    """Runs commands and scripts where the package is installed."""

    def __init__(self, python: Forked, where: Path) -> None:
        self.where, self._python = where, python

    def __call__(self, *command: str, fails: bool = False) -> str:
        return self._run(["-m", "concord.cli", *command], fails)

    def python(self, script: str) -> str:
        return self._run(["-c", script], False)

    def _run(self, arguments: list[str], fails: bool) -> str:
        done = self._python(*arguments, where=self.where)
        assert done.returncode == (2 if fails else 0), done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def results(self, out: str) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.where / out / "results.json").read_text(encoding="utf-8"))
        return found


@pytest.fixture(scope="module")
def python(installed: Path) -> Iterator[Forked]:
    paths = f"{installed}{os.pathsep}{Path(__file__).parent}"
    environment = {"PYTHONPATH": paths, "COLUMNS": "160", "NO_COLOR": "1"}
    with Forked(environment, first="import small_reef\nsmall_reef.shrink()\n") as python:
        yield python


@pytest.fixture
def shell(python: Forked, tmp_path: Path) -> Shell:
    return Shell(python, tmp_path)


def test_what_is_registered_is_listed_with_its_package(shell: Shell) -> None:
    text = shell("methods")
    for name in ("middle", "mirrored", "calm", "brightness", "colourfulness", "brief", "table", "dots"):
        assert any(name in line and "concord-example 1.0" in line for line in text.splitlines()), name
    assert any("broken" in line and "concord-example 1.0" in line for line in text.splitlines())


def test_a_method_and_a_data_set(shell: Shell) -> None:
    shell("distill", "photos", "data=dots", "method=middle", "ipc=2", "middle.skip=1", "--out", "o")
    rows = [json.loads(line) for line in (shell.where / "o/images/metadata.jsonl").read_text().splitlines()]
    assert [row["class_name"] for row in rows] == ["blue dot"] * 2 + ["green dot"] * 2 + ["red dot"] * 2
    assert "middle:\n  skip: 1\n" in (shell.where / "o/recipe.yaml").read_text()
    error = shell("distill", "photos", "data=dots", "method=middle", "ipc=2", "--out", "o", fails=True)
    assert "middle.skip was 1, now 0" in error
    assert "middle.skip" in shell("distill", "photos", "data=dots", "method=middle", "middle.skip=-1", fails=True)
    shell.python(
        "import concord\n"
        "run = concord.distill(concord.load_recipe('photos', data='dots', method='middle', ipc=1), out='p')\n"
        "assert [sample.class_name for sample in run.samples()] == ['blue dot', 'green dot', 'red dot']\n"
        "assert len(concord.open_data('dots').classes) == 3\n"
    )


def test_a_method_that_does_not_import_is_a_line_only_when_it_is_asked_for(shell: Shell) -> None:
    error = shell("distill", "photos", "data=dots", "method=broken", fails=True)
    assert error.count("\n") == 1 and "concord-example 1.0" in error and "there_is_no_such_file" in error


def test_a_guide(shell: Shell) -> None:
    shell("distill", "reef", *REEF, "guides=[{name: calm, strength: 0.3}]", "--out", "calm")
    shell("distill", "reef", *REEF, "--out", "plain")
    contrast = [
        sum(Image.open(file).convert("L").entropy() for file in sorted((shell.where / out).rglob("images/*/*.png")))
        for out in ("calm", "plain")
    ]
    assert contrast[0] < contrast[1]
    assert "guides" in shell("distill", "reef", *REEF, "--out", "calm", fails=True)  # part of the identity
    assert "strength" in shell("distill", "reef", "guides=[{name: calm, strength: 7}]", fails=True)
    shell.python(
        "import concord, torch\n"
        "from concord_example.guide import Calm\n"
        "model = concord.load_family('reef:pipeline')\n"
        "make = lambda *guides: concord.sample(model.denoise([3]), seeds=[1], steps=2, guides=guides)\n"
        "assert (make(Calm(0.3)) - make()).abs().mean() > 0.01\n"
    )


def test_a_family(shell: Shell) -> None:
    from concord.models.hub import model_path

    ours = Path(model_path("reef:pipeline"))
    shutil.copytree(ours, shell.where / "model")
    index = json.loads((ours / "model_index.json").read_text())
    (shell.where / "model/model_index.json").write_text(json.dumps({**index, "_class_name": "MirroredPipeline"}))
    for method, model in (("generate", "model"), ("dit", "reef:pipeline")):
        shell("distill", "reef", *REEF, f"method={method}", f"pipeline.model={model}", "--out", method)
    for file in (shell.where / "dit/images").rglob("*.png"):
        mirrored = Image.open(shell.where / "generate/images" / file.parent.name / file.name)
        assert list(mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT).getdata()) == list(Image.open(file).getdata())
    shell.python("import concord\nassert type(concord.load_family('model')).__module__ == 'concord_example.family'\n")


def test_a_scorer_and_a_metric(shell: Shell) -> None:
    settings = [*SMALL, "ipc=2", "teacher=null", "nuisance=null"]
    text = shell("distill", "reef", *settings, "scorer.kind=brightness", "metrics=[colourfulness]", "--out", "o")
    found = shell.results("o")
    assert found["completeness"] and set(found["colourfulness"]) == {"informed", "uninformed", "real"}  # type: ignore[call-overload]
    assert "colourfulness" in text
    assert "colourfulness" in (shell.where / "o/report.html").read_text(encoding="utf-8")
    shell("export", "o", "--layout", "folder", "--out", "set")
    assert "colourfulness" in (shell.where / "set/README.md").read_text(encoding="utf-8")
    assert "colourfulness" in shell("compare", "o", "o")


def test_a_protocol_and_a_metric_of_predictions(shell: Shell) -> None:
    shell("distill", "photos", "data=dots", "method=random", "ipc=2", "--out", "o")
    settings = ["protocol=brief", "student=convnet-1", "width=4", "seeds=1", "metrics=confidence"]
    shell("evaluate", "o", "--test", "dots", *settings)
    cell = json.loads((shell.where / "o/evaluation.json").read_text())["cells"][0]
    assert cell["protocol"] == "brief" and 0 < cell["metrics"]["confidence"]["last"]["mean"] <= 1
    shell.python(
        "import concord\n"
        "scores = concord.evaluate('o', test='dots', protocol='brief', student=['convnet-1'], width=4, seeds=1,\n"
        "                          metrics=['confidence'])\n"
        "assert 'brief' in scores.table()\n"
    )


def test_a_layout(shell: Shell) -> None:
    shell("distill", "photos", "data=dots", "method=random", "ipc=1", "--out", "o")
    shell("export", "o", "--layout", "table", "--out", "set")
    with (shell.where / "set/labels.csv").open(encoding="utf-8") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert (shell.where / "set/000002.png").is_file() and "labels.csv" in (shell.where / "set/README.md").read_text()


def test_the_guide_shows_the_package_as_it_is() -> None:
    page = (PLUGIN.parents[1] / "docs" / "extend.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.S)
    assert sorted(shown) == sorted(
        file.read_text(encoding="utf-8") for file in PLUGIN.rglob("*.py") if file.name != "__init__.py"
    )
