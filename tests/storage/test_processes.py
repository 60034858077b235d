"""Work in processes: what ends one is told in a line."""

import pytest

from concord.errors import ConcordError
from concord.storage.processes import spread


def _nothing() -> None: ...


def _work(reason: str) -> str:
    raise RuntimeError(reason)


def test_a_want_of_shared_memory_is_told_and_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ConcordError, match=r"/dev/shm.*--shm-size.*workers=1"):
        list(spread(_work, ["unable to allocate shared memory(shm)"], 1, _nothing))
    with pytest.raises(RuntimeError, match="a bug"):
        list(spread(_work, ["a bug"], 1, _nothing))
