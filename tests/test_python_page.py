"""docs/python.md runs as it stands, and names every public name."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path

import pytest

import concord

PAGE = Path(__file__).parent.parent / "docs" / "python.md"


def test_the_page_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testfile(
        str(PAGE), module_relative=False, encoding="utf-8", optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 20 and found.failed == 0


def test_the_page_names_every_public_name() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in concord.__all__ if name not in text] == []
    for name in concord.__all__:
        assert getattr(concord, name) is not None
    assert set(dir(concord)) == set(concord.__all__)
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        concord.distil  # noqa: B018 - the access is the test


def test_importing_it_brings_nothing_heavy() -> None:
    script = (
        "import sys, concord; print([m for m in ('torch', 'numpy', 'pydantic', 'yaml', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=dict(os.environ))
    assert done.stdout.strip() == "[]", done.stderr
