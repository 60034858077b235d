"""Its place puts this folder on the import path, so that tests in subfolders can `import tiny`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import settings

# A machine may be busy with other things: no test is about its own time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A test is one of as many as there are cores: threads of its own would only wait for each other. Before torch is there.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# No test asks the hub: where it cannot be reached, each question is asked again for a quarter of a minute.
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_sessionstart() -> None:
    """Say so where pyproject.toml has entry points that the installation does not know yet: names would be missing."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    known = {(entry.group, entry.name, entry.value) for entry in metadata.distribution(project["name"]).entry_points}
    wanted = {(group, *one) for group, entries in project["entry-points"].items() for one in entries.items()}
    if not wanted <= known:
        pytest.exit("pyproject.toml has new entry points: pip install --no-deps --editable . again", returncode=3)


@pytest.fixture(scope="module")
def small_reef() -> Iterator[None]:
    """The data sets `reef` and `reef-test` have fewer images, see `small_reef.shrink`."""
    import small_reef

    with pytest.MonkeyPatch.context() as patch:
        small_reef.shrink(patch.setattr)
        yield
