"""The writer must overlap, keep the order, hold little, and lose no error."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from concord.storage.threads import Writer


def test_all_is_stored_in_order_whatever_encoding_takes() -> None:
    stored: list[Sequence[str]] = []

    def encode(item: int) -> str:
        time.sleep(0.002 * (7 - item % 7))  # the first of a batch takes longest
        return str(item)

    with Writer(encode, stored.append, threads=4) as writer:
        for start in range(0, 70, 7):
            writer.put(range(start, start + 7))
    assert [item for batch in stored for item in batch] == [str(i) for i in range(70)]
    assert {len(batch) for batch in stored} == {7}


def test_the_caller_goes_on_while_a_batch_is_written_but_not_further_than_it_may() -> None:
    let_go, put = threading.Event(), []

    def store(batch: Sequence[int]) -> None:
        assert let_go.wait(10)

    with Writer(lambda item: item, store, threads=1, ahead=2) as writer:

        def caller() -> None:
            for n in range(6):
                writer.put([n])
                put.append(n)

        thread = threading.Thread(target=caller)
        thread.start()
        time.sleep(0.2)
        assert put == [0, 1, 2]  # one in the store's hands, two waiting: the fourth must wait for room
        let_go.set()
        thread.join(10)
        assert put == list(range(6))


@pytest.mark.parametrize("where", ["encode", "store"])
def test_an_error_reaches_the_caller_and_nothing_is_stored_after_it(where: str) -> None:
    stored: list[int] = []
    before = set(threading.enumerate())

    def encode(item: int) -> int:
        if where == "encode" and item == 3:
            raise OSError("full")
        return item

    def store(batch: Sequence[int]) -> None:
        if where == "store" and 3 in batch:
            raise OSError("full")
        stored.extend(batch)

    with pytest.raises(OSError, match="full"), Writer(encode, store, threads=2) as writer:
        for n in range(50):
            writer.put([n])
            time.sleep(0.001)
    assert stored == [0, 1, 2]
    assert set(threading.enumerate()) <= before  # its own threads have ended


def test_what_was_put_before_the_callers_own_error_is_stored() -> None:
    stored: list[int] = []
    with pytest.raises(KeyboardInterrupt), Writer(lambda item: item, stored.extend, threads=1) as writer:
        writer.put([1, 2])
        raise KeyboardInterrupt
    assert stored == [1, 2]
