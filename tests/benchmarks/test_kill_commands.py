"""Commands that are killed and given again must leave what they leave undisturbed: a few of the kills of kill.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import kill
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SCENARIOS = {one.name: one for one in kill.SCENARIOS}
FEW = 4
"""Kills at changes of the file system, evenly spread; all of them are the benchmark's."""


@pytest.fixture(scope="module")
def kills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kill.Kills]:
    with kill.answering() as server:
        found = kill.Kills(tmp_path_factory.mktemp("kills"))
        found.server = server
        yield found


@pytest.mark.parametrize("name", ["evaluate", "teacher", "labels", "retrieve", "export-folder", "export-webdataset"])
def test_killed_and_given_again_it_comes_to_the_same(name: str, kills: kill.Kills) -> None:
    found = kill.try_scenario(kills, SCENARIOS[name], every=-FEW, times=1)
    assert found["wrong"] == []
    assert found["at_changes"] >= FEW
    assert found["files"] > 0


def test_what_a_kill_leaves_is_noticed(kills: kill.Kills, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were files not written atomically, the kills would find it."""

    def torn(path: Path, data: bytes) -> None:
        for part in (data[: len(data) // 2], data):
            path.write_bytes(part)

    monkeypatch.setattr("concord.concepts.llm.retrieve.write_atomically", torn)
    assert kill.try_scenario(kills, SCENARIOS["retrieve"], every=1, times=0)["wrong"]
