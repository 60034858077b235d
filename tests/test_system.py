"""Times of work, as a machine with nothing else to do would take."""

from __future__ import annotations

import time

import pytest

from concord import system


def test_quartiles_are_hardly_moved_by_one_disturbed_step() -> None:
    assert system.quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert system.quartiles([500.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert system.quartiles([7.0]) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize(
    ("device", "taken_away", "is_the_clock"), [("cpu", 0, True), ("cpu", 3, False), ("cuda", 3, True)]
)
def test_what_others_took_is_not_counted(
    monkeypatch: pytest.MonkeyPatch, device: str, taken_away: int, is_the_clock: bool
) -> None:
    counts = iter((10, 10 + taken_away))
    monkeypatch.setattr(system, "_taken_away", lambda: next(counts))
    waited = system.timed(lambda: time.sleep(0.05), device)
    assert (waited >= 0.05) == is_the_clock
