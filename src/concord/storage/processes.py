"""Work spread over processes: spawned, deaf to ctrl-c, replaced when they end, and gone when their parent is."""

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from concord.errors import ConcordError
from concord.storage.crew import Answer, Died, Hand, attempt, deal, unheard

Job = TypeVar("Job")
Result = TypeVar("Result")
CONTEXT = multiprocessing.get_context("spawn")
"""A forked child of a process that used CUDA or threads hangs."""
NO_ROOM = "the memory that processes share, /dev/shm, has no room for more (a container's grows by --shm-size=2g)"


def spread(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    begin: Callable[..., Any],
    given: tuple[Any, ...] = (),
    told: Callable[[str], None] = unheard,
) -> Iterator[Result]:
    """Yield results as they come; see `concord.storage.crew.Spread`."""
    try:
        yield from deal(_Processes(work, begin, given), jobs, workers, told)
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise ConcordError(f"{NO_ROOM}; make it larger, or give workers=1") from error
        raise


class _Processes:
    """Spawned processes of this machine."""

    def __init__(self, work: Callable[..., Any], begin: Callable[..., Any], given: tuple[Any, ...]) -> None:
        self._what = work, begin, given

    def hire(self, rank: int) -> "_Process":
        return _Process(rank, *self._what)

    def listen(self, hands: Collection[Hand]) -> list[tuple[Hand, Answer | Died]]:
        by_pipe = {hand.pipe: hand for hand in hands if isinstance(hand, _Process)}
        return [(by_pipe[pipe], by_pipe[pipe].answer()) for pipe in wait(by_pipe) if isinstance(pipe, Connection)]


class _Process:
    """One process at the other end of a pipe: of a pool's queue the parent holds both ends, and would wait for ever for
    the rest of an answer whose writer was killed."""

    def __init__(self, rank: int, *what: Any) -> None:
        self.rank = rank
        self.pipe, theirs = CONTEXT.Pipe()
        self._process = CONTEXT.Process(target=_serve, args=(theirs, rank, *what), daemon=True)
        self._process.start()
        theirs.close()

    def take(self, job: Any) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: so says its next answer
            self.pipe.send(job)

    def answer(self) -> Answer | Died:
        try:
            answer: Answer = self.pipe.recv()
            return answer
        except (EOFError, OSError):
            self._process.join(5)
            return Died(_ending(self._process.exitcode))

    def end(self) -> None:
        # A job may take minutes: after an error or ctrl-c nobody waits for it.
        self._process.terminate()
        self._process.join()
        self.pipe.close()


def _ending(code: int | None) -> str:
    if code is None or code >= 0:
        return "it left" if code is None else f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _serve(
    pipe: Connection, rank: int, work: Callable[..., Any], begin: Callable[..., Any], given: tuple[Any, ...]
) -> None:
    """A worker process: it reads while it works, so that neither side waits for the other to read."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c reaches the whole group; the parent decides
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                jobs.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(1)  # the parent is gone: killed, it could not say so

    threading.Thread(target=read, daemon=True).start()
    _send(pipe, attempt(begin, rank, *given))
    while True:
        _send(pipe, attempt(work, jobs.get()))


def _send(pipe: Connection, answer: Answer) -> None:
    try:
        pipe.send(answer)
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)
    except Exception as error:  # what cannot travel
        pipe.send(Answer(error=RuntimeError(f"no answer could be sent: {error!r}")))
