"""Its place puts this folder on the import path, so that tests in subfolders can `import tiny`."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest


def pytest_sessionstart() -> None:
    """Say so where pyproject.toml has entry points that the installation does not know yet: names would be missing."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {(entry.group, entry.name, entry.value) for entry in metadata.distribution(project["name"]).entry_points}
    wanted = {(group, *one) for group, entries in project["entry-points"].items() for one in entries.items()}
    if not wanted <= known:
        pytest.exit("pyproject.toml has new entry points: pip install --no-deps --editable . again", returncode=3)
