"""A folder of three classes, and the toy method in the place of the diffusion model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from toy import Toy

from concord.storage import atomic
from concord.workflows import distill as execute
from concord.workflows import executors


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes, one name with a space and an umlaut."""
    for folder, count in {"büro stuhl": 5, "dog": 6, "nested/cat": 7}.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (5, 4), (40 * i, count * 9, 7)).save(tmp_path / "photos" / folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs make toy images; torch stays out, so that a forked child starts at once."""
    for module in (execute, executors):
        monkeypatch.setattr(module, "build", Toy)
        monkeypatch.setattr(module, "needs_torch", lambda recipe: False)
    # A kill leaves the file system as the process saw it, synced or not; only a power cut would tell the difference.
    monkeypatch.setattr(atomic.os, "fsync", lambda descriptor: None)
    yield
