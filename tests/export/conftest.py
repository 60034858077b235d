"""A finished run of real photographs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hostile import FOLDERS, HOSTILE, photographs

from concord.recipe import validate
from concord.workflows.distill import distill


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two images a class; its counterpart is another draw."""
    place = tmp_path_factory.mktemp("secret-home")
    data = photographs(place / "my photos", FOLDERS)
    recipe = {"method": "random", "data": str(data), "ipc": 2, "class_names": {"train": HOSTILE}}
    distill(validate({**recipe, "name": "a | `b` <i>"}), place / "run")
    distill(validate({**recipe, "seed": 1}), place / "other")
    shutil.copytree(place / "other" / "images", place / "run" / "uninformed")
    return place / "run"
