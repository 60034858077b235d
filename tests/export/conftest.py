"""A finished run of real photographs, and a hub for it to go to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import TOKEN, FakeHub, fake_hub
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub of this test's own, which the client is told to speak to; the token is in the environment."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with fake_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + template)
        yield hub
