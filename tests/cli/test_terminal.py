"""What the terminal shows must be whole: a figure cut off at 80 columns, or a name taken for markup, misleads."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from concord.cli.console import Console
from concord.cli.distill_views import show_results
from concord.text import duration, size

RESULTS = {
    **{"images": 100, "classes": 10, "made": 90, "kept": 10, "seconds": 61.2, "seconds_per_image": 0.61},
    "uninformed_steps": 3,
    "completeness": {
        "uninformed": {"mean": 0.752, "complete": 0.22, "foreign": 0.15, "n": 100},
        "informed": {"mean": 0.861, "complete": 0.47, "foreign": 0.11, "n": 100},
        "gain": {"mean": 0.109, "ci95": [0.081, 0.134]},
    },
}


def console(width: int = 40) -> tuple[Console, io.StringIO]:
    written = io.StringIO()
    return Console(file=written, width=width), written


def test_the_summary_shows_what_informing_changed_uncut(tmp_path: Path) -> None:
    where = tmp_path / "[bold]set"
    (where / "images").mkdir(parents=True)
    terminal, written = console()
    show_results(RESULTS, where, terminal)
    text = written.getvalue()
    assert "100 images of 10 classes (90 made now, 10 kept) in 1 min 1 s" in text
    assert "75.2 %" in text
    assert "86.1 %" in text
    assert "+10.9 [+8.1, +13.4]" in text
    assert "3 image-steps left uninformed" in text
    assert str(where / "images") in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(640e3, "640 kB"), (19.2e6, "19 MB"), (2.44e9, "2.4 GB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
