"""Work spread over the nodes of a Ray cluster: an actor a worker, its models loaded once, and no node that matters.

Ray is the extra ``cluster``. Jobs are dealt by `concord.storage.crew`: an actor gets some once it has begun, so that a
worker for which no node has room yet, or any more, holds none.
"""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.storage.crew import Answer, Died, Hand, attempt, deal, unheard
from concord.text import counted

RESOURCES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""What an actor asks for, and what Ray calls that of a node."""
_TOKEN = Path("~/.ray/auth_token")
"""Where Ray keeps what clusters with token authentication ask for, as they do by default."""
WAIT = 60.0
"""Seconds without any worker after which it is said that the cluster has no room."""


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process is connected to. Its `spread` is an engine, see `concord.storage.crew.Spread`.

    address: what it was found by. each: what Ray keeps free for a worker (``num_cpus``, ``num_gpus``, ``memory``).
    """

    address: str
    each: dict[str, float] = field(default_factory=lambda: {"num_cpus": 1.0})

    def resources(self) -> dict[str, float]:
        """What all nodes have now: ``CPU``, ``GPU``, ``memory``, ... and ``nodes``."""
        import ray

        nodes = sum(node["Alive"] for node in ray.nodes())
        return {**ray.cluster_resources(), "nodes": float(nodes)}

    def sized(
        self, jobs: int, threads: int, gpu: bool, told: Callable[[str], None], asked: int | None = None
    ) -> "tuple[Cluster, int]":
        """The cluster with room kept for workers of a GPU or of so many threads each, and how many there are of them.

        As many as it has room for, or as are `asked` for; never more than `jobs`. told: hears it.
        """
        has, key = self.resources(), "GPU" if gpu else "CPU"
        workers = max(1, min(asked or int(has.get(key, 0) // (1 if gpu else threads)), jobs))
        told(f"{counted(workers, 'worker')} on {counted(int(has['nodes']), 'node')} of the cluster")
        each = {"num_cpus": 1.0, "num_gpus": 1.0} if gpu else {"num_cpus": float(threads)}
        return replace(self, each=each), workers

    def call(self, work: Callable[..., Any], *given: Any) -> Any:
        """Call a function of a module on a node that has what `each` asks for.

        Raises:
            ConcordError: there is none.
        """
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(has.get(RESOURCES[key], 0.0) >= need for key, need in self.each.items()) for has in nodes):
            needs = ", ".join(f"{RESOURCES[key]} {need:g}" for key, need in self.each.items())
            raise ConcordError(f"no node of the cluster at {self.address} has what a worker needs: {needs}")
        done = ray.remote(_attempt).options(**self.each).remote(work, *given)
        try:
            answer: Answer = ray.get(done)
        except ray.exceptions.RayError as error:
            said = str(error).partition("\n")[0]
            raise ConcordError(f"the cluster at {self.address} did not do a first task: {said}") from error
        if answer.error is not None:
            raise answer.error
        return answer.value

    def spread(
        self,
        work: Callable[[Any], Any],
        jobs: Iterable[Any],
        workers: int,
        begin: Callable[..., Any],
        given: tuple[Any, ...] = (),
        told: Callable[[str], None] = unheard,
    ) -> Iterator[Any]:
        """Yield results as they come; see `concord.storage.crew.Spread`. `given` reaches each node once."""
        return deal(_Actors(self, work, begin, given, told), jobs, workers, told)


def connected_if(address: str | None) -> "contextlib.AbstractContextManager[Cluster | None]":
    """`connected`, or None as a context where no cluster is named."""
    return connected(address) if address else contextlib.nullcontext()


@contextlib.contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Yield a cluster, and leave it.

    address: ``local`` starts one of this machine alone; ``auto`` is the one that this machine belongs to; HOST:PORT one
    that it belongs to by that address, ``ray://HOST:PORT`` one that it does not belong to.
    Raises ConcordError: Ray is not installed, or nobody answers there.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address.startswith("ray://") and ("RAY_AUTH_TOKEN" in os.environ or _TOKEN.expanduser().is_file()):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # a client sends the token that it has only where it is told to
    try:
        import ray
    except ImportError as error:
        raise ConcordError(f"--cluster needs Ray: pip install 'concord-distill[cluster]' ({error})") from error
    own = not ray.is_initialized()
    given: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        given["include_dashboard"] = False
    try:
        if own:
            # What Ray prints of a node that ended would go to stdout, where JSON goes; `told` says it in a line.
            ray._private.worker._worker_logs_enabled = False
            ray.init(address=address, **given)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        said = str(error).partition("\n")[0]
        raise ConcordError(
            f"no Ray cluster answers at {address} ({said}); expected local, auto, HOST:PORT or ray://HOST:PORT, and"
            " `ray start --head` on a machine of it, and its token in ~/.ray/auth_token where it asks for one"
        ) from error
    try:
        yield Cluster(address)
    finally:
        if own:
            ray.shutdown()


class _Worker:
    """What runs in an actor: it holds what `begin` left in the modules of its process."""

    def begin(self, begin: Callable[..., Any], rank: int, given: tuple[Any, ...]) -> Answer:
        answer = attempt(begin, rank, *given)
        if isinstance(answer.error, ConcordError):
            return Answer(error=ConcordError(f"on the node {socket.gethostname()}: {answer.error}"))
        return answer

    def work(self, work: Callable[[Any], Any], job: Any) -> Answer:
        return attempt(work, job)


def _attempt(work: Callable[..., Any], *given: Any) -> Answer:
    return attempt(work, *given)


class _Actors:
    """A `Crew` of actors, one a worker, wherever there is room."""

    def __init__(
        self,
        cluster: Cluster,
        work: Callable[..., Any],
        begin: Callable[..., Any],
        given: tuple[Any, ...],
        told: Callable[[str], None],
    ) -> None:
        import ray

        options = {**cluster.each, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
        self._class = ray.remote(_Worker).options(**options)
        self._work, self._begin, self._given, self._told = work, begin, ray.put(given), told
        self._since = time.monotonic()

    def hire(self, rank: int) -> "_Actor":
        return _Actor(rank, self._class.remote(), self._work, self._begin, self._given)

    def listen(self, hands: Collection[Hand]) -> Sequence[tuple[Hand, Answer | Died]]:
        import ray

        actors = [hand for hand in hands if isinstance(hand, _Actor)]
        asked = {hand.asked[0]: hand for hand in actors if hand.asked}
        ready, _ = ray.wait(list(asked), num_returns=1, timeout=5.0)
        if any(hand.begun for hand in actors) or ready:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > WAIT:
            self._since = time.monotonic()
            self._told("no worker has begun: the cluster has no room for one yet")
        return [(asked[one], asked[one].answer()) for one in ready]


class _Actor:
    def __init__(self, rank: int, actor: Any, work: Callable[..., Any], begin: Callable[..., Any], given: Any) -> None:
        self.rank, self.begun = rank, False
        self._actor, self._work = actor, work
        self.asked: list[Any] = [actor.begin.remote(begin, rank, given)]

    def take(self, job: Any) -> None:
        self.asked.append(self._actor.work.remote(self._work, job))

    def answer(self) -> Answer | Died:
        import ray

        try:
            answer: Answer = ray.get(self.asked.pop(0))
        except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.RaySystemError) as error:
            return Died(_why(error))
        self.begun = True
        return answer

    def end(self) -> None:
        import ray

        ray.kill(self._actor, no_restart=True)


def _why(error: Exception) -> str:
    """What Ray says of a death, in a few words."""
    text = str(error)
    if "node" in text and ("died" in text or "dead" in text):
        return "its node is gone"
    return "its node or process is gone" if "unavailable" in text else "its process is gone"
