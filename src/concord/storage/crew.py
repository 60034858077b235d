"""Jobs dealt out to workers that may end at any time: what one held is dealt again, and it is replaced.

Which worker does a job, and how often it was begun, changes nothing in the result: each job is answered once. Where
workers come from is a `Crew`'s affair: processes of this machine, or actors on the nodes of a cluster.
"""

import contextlib
import pickle
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from concord.errors import ConcordError

Job = TypeVar("Job")
Result = TypeVar("Result")
LIMIT = 3
"""Workers that may end over one job, or one after the other as they start, before that is taken for no accident."""


class Died(Exception):
    """A worker ended before it answered; the text says how, as far as that is known."""


@dataclass(frozen=True)
class Answer:
    """What a worker says to a job, or of its own beginning: what came of it, or the error that ended it."""

    value: Any = None
    error: BaseException | None = None


class Hand(Protocol):
    """One worker. It answers in the order in which it is asked; its first answer says that it has begun."""

    rank: int

    def take(self, job: Any) -> None:
        """Ask for a job; `Died` is told by the next answer at the latest."""

    def end(self) -> None:
        """End it, whatever it does; at a second call nothing happens."""


class Crew(Protocol):
    """Where workers come from."""

    def hire(self, rank: int) -> Hand:
        """Begin to start a worker; `rank` is its place among all, and that of the one that replaces it."""

    def listen(self, hands: Collection[Hand]) -> Sequence[tuple[Hand, Answer | Died]]:
        """Wait for answers, at most some seconds; none where nothing came."""


class Spread(Protocol):
    """An engine: it spreads jobs over workers, wherever they are. `Crew` and `deal` make one."""

    def __call__(
        self,
        work: Callable[[Any], Any],
        jobs: Iterable[Any],
        workers: int,
        begin: Callable[..., Any],
        given: tuple[Any, ...] = (),
        told: Callable[[str], None] = ...,
    ) -> Iterator[Any]:
        """Yield what `work`, a function of a module, makes of each job, as it comes.

        begin, given: each worker first calls ``begin(rank, *given)``. told: hears of workers that were replaced.
        Raises ConcordError: a job ended several workers, or none could be started; and what a worker raised.
        """


def unheard(text: str) -> None:
    """Say nothing."""


def attempt(work: Callable[..., Any], *given: Any) -> Answer:
    """Work, in a worker: its errors travel as answers, and those that are bugs with their traceback as a note."""
    try:
        return Answer(work(*given))
    except Exception as error:
        said = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(repr(error))
        if not isinstance(error, ConcordError):
            error.add_note(said)
        return Answer(error=error)


@dataclass
class _Dealt:
    """A job, and how many workers ended over it."""

    job: Any
    deaths: int = 0


def deal(crew: Crew, jobs: Iterable[Any], workers: int, told: Callable[[str], None] = unheard) -> Iterator[Any]:
    """Yield results as they come; jobs are drawn as they are needed, so that a plan of a million needs no memory.

    A worker holds one job more than it works on, but for the last jobs: those go to whoever is free.
    """
    queue = (_Dealt(job) for job in jobs)
    ahead: deque[_Dealt] = deque()
    held: dict[Hand, deque[_Dealt]] = {}
    beginning: set[Hand] = set()
    stillborn: Counter[int] = Counter()

    def hire(rank: int) -> None:
        hand = crew.hire(rank)
        held[hand] = deque()
        beginning.add(hand)

    def bury(hand: Hand, why: Died) -> None:
        lost = held.pop(hand)
        hand.end()
        if hand in beginning:
            beginning.remove(hand)
            stillborn[hand.rank] += 1
            if stillborn[hand.rank] >= LIMIT:
                if not held:
                    raise ConcordError(f"{LIMIT} workers in a row ended as they started ({why}); {_MEMORY}")
                told(f"a worker ended as it started ({why}), {LIMIT} times in a row: {len(held)} go on without it")
                return
        elif lost:
            lost[0].deaths += 1
            if lost[0].deaths >= LIMIT:
                raise ConcordError(f"{lost[0].job} ended {LIMIT} workers one after the other ({why}); {_MEMORY}")
        ahead.extendleft(reversed(lost))
        if ahead:
            again = f": {len(lost)} of its jobs are dealt again" if lost else ""
            told(f"a worker ended ({why}) and is replaced{again}")
            hire(hand.rank)

    def give() -> None:
        """One job to each that has none, then a second where there are more than those who are free could take."""
        for depth in (1, 2):
            for hand in [one for one in held if one not in beginning and len(held[one]) < depth]:
                ahead.extend(islice(queue, max(0, workers + 1 - len(ahead))))
                if len(ahead) > (0 if depth == 1 else workers):
                    held[hand].append(ahead.popleft())
                    hand.take(held[hand][-1].job)

    try:
        ahead.extend(islice(queue, workers + 1))
        for rank in range(min(workers, len(ahead))):
            hire(rank)
        while ahead or any(held.values()):
            give()
            for hand, answer in crew.listen(held.keys()):
                if isinstance(answer, Died):
                    bury(hand, answer)
                elif answer.error is not None:
                    raise answer.error
                elif hand in beginning:
                    beginning.remove(hand)
                    stillborn[hand.rank] = 0
                else:
                    held[hand].popleft()
                    yield answer.value
    finally:
        for hand in held:
            with contextlib.suppress(Exception):
                hand.end()


_MEMORY = (
    "often that is want of memory: give the same command again with fewer workers or a smaller batch_size, what is"
    " finished stays"
)
