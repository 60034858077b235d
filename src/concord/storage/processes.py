"""Work spread over processes: spawned, deaf to ctrl-c, and gone when their parent is, however it ends."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from concord.errors import ConcordError

Job = TypeVar("Job")
Result = TypeVar("Result")
CONTEXT = multiprocessing.get_context("spawn")
"""A forked child of a process that used CUDA or threads hangs."""
NO_ROOM = "the memory that processes share, /dev/shm, has no room for more (a container's grows by --shm-size=2g)"


def spread(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    begin: Callable[..., None],
    given: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Yield results as they come; at most two jobs a worker wait, so that a plan of a million needs no memory.

    work: a function of a module. begin, given: called with these in each process before its first job.
    Raises ConcordError: a worker was ended from outside, or there is no memory to share with it.
    """
    pool = ProcessPoolExecutor(workers, mp_context=CONTEXT, initializer=_start, initargs=(begin, given))
    queue = iter(jobs)
    running: set[Future[Result]] = set()
    try:
        while True:
            for job in islice(queue, 2 * workers - len(running)):
                running.add(pool.submit(work, job))
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.remove(future)
                yield future.result()
    except BrokenProcessPool as error:
        raise ConcordError(
            f"one of {workers} worker processes was ended from outside, often for want of memory;"
            " give the same command again with fewer workers: what is finished stays"
        ) from error
    except BaseException as error:
        # A job may take minutes: after an error or ctrl-c nobody waits for it.
        for process in dict(getattr(pool, "_processes", None) or {}).values():
            process.terminate()
        if isinstance(error, RuntimeError) and "shared memory" in str(error):
            raise ConcordError(f"{NO_ROOM}; make it larger, or give workers=1") from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(begin: Callable[..., None], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    begin(*given)


def _end_with_parent() -> None:
    """End this process when its parent is gone: killed, it could not say so, and the pool would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
