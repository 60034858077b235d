"""A run may take days: what it says of itself must be right, whole at any width, and quiet where asked to be."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from concord.cli.console import Console
from concord.cli.progress import Bar, pace
from concord.recipe import load
from concord.workflows import distill as execute


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in its only element, told to the bar."""
    now = [100.0]
    monkeypatch.setattr("concord.cli.progress.time.monotonic", lambda: now[0])
    return now


def console(width: int = 200, terminal: bool = False) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=width, force_terminal=terminal, color_system=None), written


def shown(bar: Bar, width: int = 100) -> list[str]:
    """The live lines as they stand now."""
    terminal, written = console(width)
    terminal.print(bar._render())
    return written.getvalue().splitlines()


def bar(terminal: Console) -> Bar:
    return Bar(load("photos", ["data=/x"]), Path("o"), terminal)


def test_a_log_file_gets_a_line_at_every_tenth() -> None:
    terminal, written = console()
    with bar(terminal) as said:
        said.begin(205, 5)
        for _ in range(100):
            said.advance(2)
        said.note("a [b] c")
    lines = written.getvalue().splitlines()
    assert sum("images (" in line for line in lines) == 10
    assert "5 of 205 images are there already" in lines[1]
    assert "left" in lines[2]
    assert "205 of 205 images (100 %)" in lines[-2]
    assert lines[-1] == "  note: a [b] c"


def test_a_stopped_run_says_how_far_it_came() -> None:
    terminal, written = console()
    with pytest.raises(ValueError, match="x"), bar(terminal) as said:
        said.begin(10, 0)
        said.advance(4)
        raise ValueError("x")
    assert "stopped with 4 of 10 images finished" in written.getvalue()


def test_the_live_display_has_stages_pace_time_left_and_satisfaction(clock: list[float]) -> None:
    terminal, _ = console(100, terminal=True)
    said = bar(terminal)
    assert shown(said)[0].split()[:2] == ["○", "reading"]
    said.stage("reading /x")
    clock[0] += 2
    assert shown(said)[0].split()[0] == "●"
    assert "2.0 s" in shown(said)[0]
    assert shown(said)[1].endswith("reading /x")
    said.begin(200, 0)
    stages = shown(said)[0]
    assert "✓ reading  ✓ planning  ● making images  ○ measuring" in stages
    clock[0] += 10
    said.advance(10, [{"uninformed_steps": 0}] * 10)
    assert "10 of 200 · 1.0 images/s · 3 min 10 s left" in shown(said)[1]
    assert "satisfied" not in shown(said)[1], "nothing is known of it"
    said.advance(40, [{"satisfied": 1.0}] * 10 + [{"satisfied": 0.5}] * 10 + [{}] * 20)
    assert "5.0 images/s · 30 s left · satisfied 75 %" in shown(said)[1]
    clock[0] += 10
    assert "5.0 images/s · 20 s left" in shown(said)[1], "it counts down until the next batch"
    said.stage("measuring")
    assert "✓ making images  ● measuring" in shown(said)[0]
    said.stage("weighing")
    assert "● weighing  ○ drawing" in shown(said)[0], "a stage that nobody foresaw has its place"


def test_a_stage_that_tells_how_it_gets_on_is_a_line_a_minute_in_a_file(clock: list[float]) -> None:
    terminal, written = console()
    said = bar(terminal)
    said.stage("fitting")
    for second in range(1, 130):
        clock[0] += 1
        said.stage(f"fitting: iteration {second}")
    said.stage("measuring")
    lines = [line.strip() for line in written.getvalue().splitlines()]
    assert lines == ["fitting", "fitting: iteration 60", "fitting: iteration 120", "measuring"]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_live_display_keeps_to_two_lines(clock: list[float], width: int) -> None:
    terminal, _ = console(width, terminal=True)
    said = bar(terminal)
    said.begin(1_000_000, 500_000)
    clock[0] += 1000
    said.advance(10, [{"objective": 0.123}] * 10)
    lines = shown(said, width)
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)


def test_a_run_tells_every_stage_and_score(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / "p" / "a").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (i, 0, 0)).save(tmp_path / "p" / "a" / f"{i}.png")
    terminal, written = console()
    recipe = load("photos", [f"data={tmp_path / 'p'}", "ipc=3"])
    with Bar(recipe, tmp_path / "o", terminal) as said:
        execute.distill(recipe, tmp_path / "o", said)
    words = [line.split()[0] for line in written.getvalue().splitlines()[1:]]
    assert words == ["reading", "planning", "1", "2", "3", "measuring", "drawing"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.02, "50 images/s"), (0.2, "5.0 images/s"), (1, "1.0 images/s"), (12.3, "12 s an image")]
)
def test_paces(seconds: float, text: str) -> None:
    assert pace(seconds) == text
