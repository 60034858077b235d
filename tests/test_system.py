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


def test_half_precision_is_only_called_slow_where_it_was_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"float32": 0.001, "bfloat16": 0.0009, "float16": 0.03}
    monkeypatch.setattr(system, "_product", seconds.__getitem__)
    [said] = system.slow_dtype("float16", "cpu")
    assert said.startswith("dtype=float16: this CPU emulates it, 30 times as slow")
    assert not any(system.slow_dtype(name, "cpu") for name in ("bfloat16", "float32", "auto"))
    assert not system.slow_dtype("float16", "cuda")


def test_a_product_is_timed_in_any_precision() -> None:
    assert all(system._product(name, 8) >= 0 for name in ("float32", "bfloat16", "float16"))


def test_a_machine_with_a_gpu_is_not_taken_for_one_without() -> None:
    import torch

    assert not (torch.cuda.is_available() and system._without_gpu())
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert system.resolve_device("auto") == expected


@pytest.mark.parametrize(
    ("platform", "driver", "without"), [("linux", False, True), ("linux", True, False), ("darwin", False, False)]
)
def test_torch_is_asked_wherever_there_may_be_a_gpu(
    monkeypatch: pytest.MonkeyPatch, platform: str, driver: bool, without: bool
) -> None:
    def load(name: str) -> object:
        if name == "libcuda.so.1" and driver:
            return object()
        raise OSError(name)

    monkeypatch.setattr(system.sys, "platform", platform)
    monkeypatch.setattr(system.ctypes, "CDLL", load)
    monkeypatch.setattr(system.Path, "exists", lambda path: False)
    assert system._without_gpu.__wrapped__() is without
