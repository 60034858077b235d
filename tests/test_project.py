"""The project's own papers agree: one version everywhere, and hooks and workflows that do what `make` does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_version_is_one() -> None:
    assert read("CITATION.cff")["version"] == PROJECT["version"]
    heads = re.findall(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert heads[0][0] == PROJECT["version"], "the changelog's first release"
    assert len({version for version, _ in heads}) == len(heads) >= 2


def test_commits_are_checked_by_what_make_lint_runs() -> None:
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert lint is not None
    wanted = {re.sub(r" \.$", "", line.replace("$(VENV)/bin/", "").strip()) for line in lint[1].splitlines()}
    hooks = [hook["entry"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {entry.removeprefix(".venv/bin/").replace(" --force-exclude", "") for entry in hooks} == wanted


def test_workflows_test_every_python_and_pin_what_they_use() -> None:
    tests, release = (read(f".github/workflows/{name}.yml")["jobs"] for name in ("tests", "release"))
    pythons = tests["tests"]["strategy"]["matrix"]["python-version"]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    known = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)}
    assert known == set(pythons)
    steps = [step for job in (*tests.values(), *release.values()) for step in job["steps"]]
    assert all(re.search(r"@(v\d+|release/v\d+)$", step["uses"]) for step in steps if "uses" in step)
    assert {"make lint", "make test"} <= {step.get("run") for step in steps}
    assert release["publish"]["permissions"] == {"id-token": "write"}, "trusted: no token is kept"


def test_every_form_asks_for_what_is_needed() -> None:
    for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        if path.name != "config.yml":
            assert form["name"] and form["description"] and form["body"]
            assert all("id" in part for part in form["body"] if part["type"] != "markdown")
