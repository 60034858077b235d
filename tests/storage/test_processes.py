"""Work in processes: what ends one is told in a line."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from concord.errors import ConcordError
from concord.storage.processes import spread


def _nothing(rank: int) -> None: ...


def _work(reason: str) -> str:
    raise RuntimeError(reason)


def test_a_want_of_shared_memory_is_told_and_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ConcordError, match=r"/dev/shm.*--shm-size.*workers=1"):
        list(spread(_work, ["unable to allocate shared memory(shm)"], 1, _nothing))
    with pytest.raises(RuntimeError, match="a bug"):
        list(spread(_work, ["a bug"], 1, _nothing))


def _remember(rank: int, folder: Path) -> None:
    global _folder
    _folder = folder


_folder = Path()


def _ends_once(job: int) -> tuple[int, int]:
    """The third job is killed at its first trial, in the midst of an answer larger than a pipe takes at once."""
    if job == 3 and not (_folder / "killed").exists():
        (_folder / "killed").touch()
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGKILL)).start()
        with suppress(OSError):
            next(o for o in gc.get_objects() if isinstance(o, Connection) and o.writable)._send(b"\0\1\0\0" + bytes(99))
        time.sleep(60)
    return job, os.getpid()


def _ends(job: int) -> int:
    if job == 2:
        os._exit(9)
    return job


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    told: list[str] = []
    found = list(spread(_ends_once, range(9), 2, _remember, (tmp_path,), told.append))
    assert sorted(job for job, _ in found) == list(range(9))
    assert len({pid for _, pid in found}) >= 2
    assert len(told) == 1 and "SIGKILL" in told[0] and "replaced" in told[0]


def test_a_job_that_ends_its_workers_again_and_again_is_named() -> None:
    with pytest.raises(ConcordError, match=r"^2 ended 3 workers one after the other \(exit code 9\)"):
        list(spread(_ends, range(4), 1, _nothing))


def test_what_cannot_travel_is_an_error_not_a_hang() -> None:
    with pytest.raises(RuntimeError, match="no answer could be sent"):
        list(spread(_untold, [1], 1, _nothing))


def _untold(job: int) -> object:
    return lambda: job
