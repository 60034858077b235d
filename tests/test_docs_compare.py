"""The commands of docs/compare.md run as they stand, on a set small enough for a test."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from concord.cli.commands import app

pytestmark = pytest.mark.usefixtures("small_reef")
DOCS = Path(__file__).parent.parent / "docs"
SMALL = ["ipc=1", "classes=[coral perch, river perch]"]
QUICK = [
    "pipeline.steps=4",
    "concepts.images=2",
    "uninformed=false",
    "scorer.kind=none",
    "teacher=null",
    "nuisance=null",
]


def commands(page: str) -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("concord ")]


def test_each_command_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = {}
    for arguments in commands("compare.md"):
        more = SMALL if arguments[0] == "distill" else []
        more = [*more, *QUICK] if arguments[:2] == ["distill", "reef"] else more
        result = CliRunner().invoke(app, [*arguments, *more])
        assert result.exit_code == 0, result.output
        said[" ".join(arguments[:3])] = result.stdout
    assert "informing.strength  0.1 -> 0.6" in said["compare out/weak out/informed"]
    assert "mean percentile among real images" in said["compare out/weak out/informed"]
    assert (tmp_path / "compare.html").stat().st_size > 10_000
    assert json.loads(said["compare out/random out/informed"])["samples"]["common"] == 2
    assert "imagewoof-unclip" in said["recipes"]
