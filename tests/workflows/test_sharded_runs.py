"""A set made in shards, whichever of them were killed, is the set of one process."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import Toy, toy_recipe, tree

from concord.errors import ConcordError
from concord.recipe import load
from concord.runs import shards
from concord.runs.shards import Shard, array, read_shard, status
from concord.storage import atomic
from concord.storage.atomic import lock
from concord.workflows import shards as workflow
from concord.workflows.distill import distill
from concord.workflows.shards import make_shard, merge

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shared locks")


@pytest.fixture
def toy_shards(toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "build", Toy)
    monkeypatch.setattr(workflow, "needs_torch", lambda recipe: False)


def forked(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.usefixtures("toy_shards")
@needs_fork
def test_four_at_once_and_some_of_them_killed_again_and_again(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out, rng = toy_recipe(photos, ipc=30), tmp_path / "shards", random.Random(0)
    distill(recipe, tmp_path / "whole")

    def dying(shard: Shard, after: int) -> None:
        points = iter(range(after))
        monkeypatch.setattr(atomic, "failpoint", lambda name: next(points, None) is None and kill_me())
        make_shard(recipe, out, shard)

    kills = 0
    for turn in range(6):  # at first at once, then later and later
        lasts = [rng.randint(0, 8 * turn) for _ in range(4)]
        children = [forked(lambda n=n, after=after: dying(Shard(n, 4), after)) for n, after in enumerate(lasts)]
        kills += sum(os.WIFSIGNALED(os.waitpid(child, 0)[1]) for child in children)
    assert kills >= 4
    ended = [os.waitpid(forked(lambda n=n: make_shard(recipe, out, Shard(n, 4))), 0)[1] for n in (0, 1, 2)]
    assert ended == [0, 0, 0]
    found = status(out)
    assert found.outstanding in ([3], []) and not found.finished
    if found.outstanding:
        with pytest.raises(ConcordError, match=r"^1 shard of 4 not done: 3; give them again"):
            merge(out)
    made = make_shard(recipe, out, Shard(3, 4))
    assert made["made"] + made["kept"] == status(out).parts[3].images
    results = merge(out)
    assert (results["made"], results["kept"], results["images"]) == (0, 90, 90)
    assert tree(out) == tree(tmp_path / "whole")
    assert status(out).finished and not (out / "shards").exists()


@pytest.mark.usefixtures("toy_shards")
@needs_fork
def test_killed_at_every_point_of_a_shard_or_of_the_merge(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = toy_recipe(photos, ipc=2)
    distill(recipe, tmp_path / "whole")

    def killing(at: int, work: Callable[[], object]) -> bool:
        calls = 0

        def point(name: str) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                kill_me()

        def killed() -> None:
            monkeypatch.setattr(atomic, "failpoint", point)
            work()

        return os.WIFSIGNALED(os.waitpid(forked(killed), 0)[1])

    for at in range(1, 400, 7):
        out = tmp_path / f"killed-{at}"
        in_shard = killing(at, lambda out=out: make_shard(recipe, out, Shard(0, 2)))
        for n in (1, 0):
            make_shard(recipe, out, Shard(n, 2))
        in_merge = killing(at, lambda out=out: merge(out))
        distill(recipe, out)
        assert tree(out) == tree(tmp_path / "whole"), at
        if not (in_shard or in_merge):
            break
    assert at > 40


@pytest.mark.usefixtures("toy_shards")
def test_shards_are_what_a_run_goes_on_from_and_grow(tmp_path: Path, photos: Path) -> None:
    few, many, out = toy_recipe(photos, ipc=3), toy_recipe(photos, ipc=9), tmp_path / "o"
    distill(few, out)
    made = [make_shard(many, out, Shard(n, 3))["made"] for n in (2, 0)]
    assert not (out / "results.json").exists() and 0 < sum(made) < 2 * 18
    assert [(part.done, part.running) for part in status(out).parts] == [(True, False), (False, False), (True, False)]
    with pytest.raises(ConcordError, match="is made in shards of 3, and --shard is 0/4"):
        make_shard(many, out, Shard(0, 4))
    assert [str(shard) for shard in shards.shards(out)] == ["0/3", "2/3"]
    next(path for path in (out / "images").rglob("*.png") if path.stem == "00000").write_bytes(b"damaged")
    results = distill(many, out)
    assert results["images"] == 27 and results["made"] > 0
    distill(many, tmp_path / "once")
    assert tree(out) == tree(tmp_path / "once")


@pytest.mark.usefixtures("toy_shards")
def test_who_may_hold_what(tmp_path: Path, photos: Path) -> None:
    recipe, out = toy_recipe(photos), tmp_path / "o"
    make_shard(recipe, out, Shard(0, 2))
    with lock(out, shared=True):
        with pytest.raises(ConcordError, match="in use by another run"):
            distill(recipe, out)
        make_shard(recipe, out, Shard(1, 2))
    with lock(out / "shards" / "0-of-2"):
        assert [part.running for part in status(out).parts] == [True, False]
        with pytest.raises(ConcordError, match="in use by another run"):
            make_shard(recipe, out, Shard(0, 2))
    with lock(out), pytest.raises(ConcordError, match="in use by another run"):
        make_shard(recipe, out, Shard(0, 2))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConcordError, match=r"the file system of .* has no locks \(.*-o flock") as told, lock(tmp_path):
        pass
    assert "in use" not in str(told.value)


def test_arrays_and_shards_are_read_and_written(tmp_path: Path) -> None:
    assert array([3, 7, 8, 9, 11, 12]) == "3,7-9,11-12" and array([]) == "" and array([0]) == "0"
    assert read_shard("3/64", tmp_path, {}) == Shard(3, 64)
    for wrong in ("64/64", "-1/4", "3", "a/b", "0/0"):
        with pytest.raises(ConcordError, match="expected I/N with I from 0 to N-1"):
            read_shard(wrong, tmp_path, {})
    task = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "64", "SLURM_ARRAY_TASK_MIN": "0"}
    assert read_shard("slurm", tmp_path, task) == Shard(7, 64)
    few = task | {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"}
    with pytest.raises(ConcordError, match="counts from 0 and without gaps"):
        read_shard("slurm", tmp_path, few)
    (tmp_path / "shards" / "0-of-64").mkdir(parents=True)
    assert read_shard("slurm", tmp_path, few) == Shard(7, 64)
    with pytest.raises(ConcordError, match="needs SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT"):
        read_shard("slurm", tmp_path, {})


def test_the_sbatch_file_of_the_guide_makes_the_set_of_one_process(tmp_path: Path, photos: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")
    script = next(text for text in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) if text.startswith("#!/bin/bash"))
    assert len(script.splitlines()) <= 12 and "--array=0-63" in script
    here = script.replace("/shared/photos ipc=50", f"{photos} ipc=2").replace("/shared/set", str(tmp_path / "set"))
    (tmp_path / "shard.sbatch").write_text(here)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for task in ("1", "0"):
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0"}
        subprocess.run(["bash", tmp_path / "shard.sbatch"], env={**os.environ, **slurm, "PATH": path}, check=True)
    merge(tmp_path / "set")
    distill(load("photos", [f"data={photos}", "ipc=2"]), tmp_path / "whole")
    made = {path.relative_to(tmp_path / "set"): path.read_bytes() for path in (tmp_path / "set").rglob("*.png")}
    whole = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in (tmp_path / "whole").rglob("*.png")}
    assert made == whole and len(made) == 3 * 2
