"""A run that is killed anywhere and resumed must end with every byte of an undisturbed one.

A child is forked from this warmed process and killed by SIGKILL, first at every single point between write, fsync,
rename and manifest row, then at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import toy_recipe, tree

from concord.runs import store
from concord.storage import atomic
from concord.workflows.distill import distill

pytestmark = [pytest.mark.usefixtures("toy"), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]


def in_child(work: Callable[[], object], after: float | None = None) -> int:
    """Run `work` in a forked child, kill it after so many seconds if it still runs, and return its wait status."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def killing(at: int, torn: bool = False) -> Callable[[str], None]:
    """Return a `atomic.failpoint` that kills this process at its n-th call; `torn` leaves half a row behind."""
    calls = 0

    def point(name: str) -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            if torn and name == "row written":
                path = max(Path.cwd().rglob(store.MANIFEST), key=lambda p: p.stat().st_mtime_ns)
                data = path.read_bytes()
                last = data.rstrip(b"\n").rfind(b"\n") + 1
                path.write_bytes(data[: last + (len(data) - last) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    return point


def points_of(work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of all points that `work` passes."""
    names: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "failpoint", names.append)
        work()
    return names


def test_killed_at_every_point_and_resumed(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy_recipe(photos, ipc=2)
    names = points_of(lambda: distill(recipe, tmp_path / "whole"), monkeypatch)
    expected = tree(tmp_path / "whole")
    assert sum(path.endswith(".png") and "/" in path for path in expected) == 2 * 6
    assert {"opened", "written", "synced", "renamed", "settled", "row written", "row synced"} == set(names)

    def killed_run(out: Path, at: int) -> None:
        monkeypatch.setattr(atomic, "failpoint", killing(at))
        distill(recipe, out)

    for at in range(1, len(names) + 1):
        out = tmp_path / f"killed-{at}"
        assert os.WTERMSIG(in_child(lambda out=out, at=at: killed_run(out, at))) == signal.SIGKILL, at
        results = distill(recipe, out)
        assert results["made"] + results["kept"] == results["images"] == 6
        assert tree(out) == expected, f"killed at point {at}, {names[at - 1]}"


def test_a_row_torn_in_the_middle_is_made_again(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = toy_recipe(photos, ipc=2)
    names = points_of(lambda: distill(recipe, tmp_path / "whole"), monkeypatch)
    rows = [at for at, name in enumerate(names, 1) if name == "row written"]
    assert len(rows) == 12

    def killed_run(out: Path, at: int) -> None:
        out.mkdir()
        os.chdir(out)
        monkeypatch.setattr(atomic, "failpoint", killing(at, torn=True))
        distill(recipe, out)

    for at in rows[::3]:
        out = tmp_path / f"torn-{at}"
        assert os.WTERMSIG(in_child(lambda out=out, at=at: killed_run(out, at))) == signal.SIGKILL
        assert any(not p.read_bytes().endswith(b"\n") for p in out.rglob(store.MANIFEST)), "nothing was torn"
        distill(recipe, out)
        assert tree(out) == tree(tmp_path / "whole")


def test_killed_at_random_moments_again_and_again(tmp_path: Path, photos: Path) -> None:
    recipe = toy_recipe(photos, ipc=10)
    start = time.perf_counter()
    distill(recipe, tmp_path / "whole")
    whole, expected = time.perf_counter() - start, tree(tmp_path / "whole")
    rng, kills = random.Random(0), 0
    for attempt in range(4):
        out = tmp_path / f"killed-{attempt}"
        for _ in range(5):
            kills += os.WIFSIGNALED(in_child(lambda out=out: distill(recipe, out), after=rng.uniform(0, whole / 2)))
        distill(recipe, out)
        assert tree(out) == expected
    assert kills >= 4, "hardly any child was still running when it was killed"


def test_killed_while_growing_loses_nothing(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = toy_recipe(photos, ipc=2), toy_recipe(photos, ipc=5)
    distill(many, tmp_path / "whole")
    distill(few, tmp_path / "counted")
    names = points_of(lambda: distill(many, tmp_path / "counted"), monkeypatch)

    def killed_run(out: Path, at: int) -> None:
        monkeypatch.setattr(atomic, "failpoint", killing(at))
        distill(many, out)

    for at in range(1, len(names) + 1, 9):  # an image passes 7 points, so every kind has its turn
        out = tmp_path / f"grown-{at}"
        distill(few, out)
        in_child(lambda out=out, at=at: killed_run(out, at))
        distill(many, out)
        assert tree(out) == tree(tmp_path / "whole"), names[at - 1]
