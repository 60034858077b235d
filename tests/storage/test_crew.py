"""Jobs are answered once each, whichever workers end meanwhile."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pytest

from concord.errors import ConcordError
from concord.storage.crew import Answer, Died, Hand, deal


class Frail:
    """Workers in this process that double numbers, and end by chance: as they begin, at work, or when they are idle."""

    def __init__(self, seed: int, chance: float) -> None:
        self.rng, self.chance = random.Random(seed), chance
        self.alive: set[Any] = set()
        self.most = self.hired = 0

    def hire(self, rank: int) -> Worker:
        worker = Worker(rank, self)
        self.alive.add(worker)
        self.hired, self.most = self.hired + 1, max(self.most, len(self.alive))
        return worker

    def listen(self, hands: Collection[Hand]) -> Sequence[tuple[Hand, Answer | Died]]:
        some = [hand for hand in hands if self.rng.random() < 0.5]
        return [(hand, one) for hand in some if isinstance(hand, Worker) and (one := hand.answer()) is not None]


class Worker:
    def __init__(self, rank: int, crew: Frail) -> None:
        self.rank, self.crew, self.asked = rank, crew, deque[Any]([None])
        self.ended = False

    def take(self, job: Any) -> None:
        assert not self.ended and len(self.asked) < 2
        self.asked.append(job)

    def answer(self) -> Answer | Died | None:
        assert not self.ended
        if self.crew.rng.random() < self.crew.chance:
            return Died("by chance")
        if not self.asked:
            return None
        job = self.asked.popleft()
        return Answer(None if job is None else 2 * job)

    def end(self) -> None:
        self.ended = True
        self.crew.alive.discard(self)


@pytest.mark.parametrize("seed", range(60))
def test_every_job_is_answered_once_whoever_ends(seed: int) -> None:
    crew, jobs, workers = Frail(seed, 0.03), 60, 1 + seed % 5
    drawn = 0

    def counted() -> Iterator[int]:
        nonlocal drawn
        for job in range(jobs):
            drawn += 1
            yield job

    found, told = [], list[str]()
    for answer in deal(crew, counted(), workers, told.append):
        found.append(answer)
        assert drawn <= len(found) + 3 * workers + 1, "jobs are drawn as they are needed"
    assert sorted(found) == [2 * job for job in range(jobs)]
    assert crew.most <= workers and not crew.alive
    assert crew.hired == min(workers, jobs) + len(told)


def test_no_more_workers_than_jobs_and_the_last_jobs_go_to_whoever_is_free() -> None:
    crew = Frail(0, 0)
    assert sorted(deal(crew, range(3), 8)) == [0, 2, 4] and crew.hired == 3
    crew = Frail(0, 0)
    assert list(deal(crew, [], 8)) == [] and crew.hired == 0


class Deadly(Frail):
    """One job ends whoever takes it."""

    def __init__(self, deadly: Any) -> None:
        super().__init__(0, 0)
        self.deadly = deadly

    def listen(self, hands: Collection[Hand]) -> Sequence[tuple[Hand, Answer | Died]]:
        for hand in hands:
            if isinstance(hand, Worker) and hand.asked and hand.asked[0] == self.deadly:
                return [(hand, Died("SIGKILL"))]
        return super().listen(hands)


def test_a_job_that_ends_three_workers_ends_the_work_in_one_line() -> None:
    crew, found = Deadly(7), []
    with pytest.raises(ConcordError, match=r"^7 ended 3 workers one after the other \(SIGKILL\).*fewer workers"):
        for answer in deal(crew, range(20), 2):
            found.append(answer)
    assert crew.hired == 2 + 2 and not crew.alive
    assert len(found) == len({*found}) and 14 not in found


def test_workers_that_cannot_begin_end_the_work_in_one_line() -> None:
    crew, told = Deadly(None), list[str]()
    with pytest.raises(ConcordError, match="3 workers in a row ended as they started"):
        list(deal(crew, range(20), 2, told.append))
    assert not crew.alive and any("1 go on without it" in text for text in told)


class Half(Deadly):
    """The second worker never begins: its GPU is broken, say."""

    def listen(self, hands: Collection[Hand]) -> Sequence[tuple[Hand, Answer | Died]]:
        for hand in hands:
            if hand.rank == 1:
                return [(hand, Died("SIGABRT"))]
        return Frail.listen(self, hands)


def test_a_place_where_no_worker_begins_is_left_and_the_others_go_on() -> None:
    crew, told = Half(None), list[str]()
    assert sorted(deal(crew, range(20), 3, told.append)) == [2 * job for job in range(20)]
    assert crew.hired == 3 + 2 and told[-1].endswith("3 times in a row: 2 go on without it")
