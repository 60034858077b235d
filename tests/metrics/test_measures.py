"""A measure stands in one table: what is added there is shown everywhere, with no edit to any view."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import concord
from concord.cli.console import Console
from concord.cli.distill_views import show_results
from concord.errors import ConcordError
from concord.export.card import card
from concord.export.made import open_made
from concord.export.write import Reading
from concord.metrics.measure_run import Measuring
from concord.metrics.measures import ALWAYS, lines, verdict, written
from concord.metrics.scorers import Concept
from concord.models.cache import ModelCache
from concord.recipe import Recipe, load, validate
from concord.registry import METRICS, SCORERS, Measure, MetricSpec, ScorerSpec
from concord.report.compare import compare, finished_run
from concord.report.compare_page import page
from concord.report.page import write_report
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data

ODDNESS = MetricSpec(
    "oddness",
    "run",
    f"{__name__}:oddness_of",
    "How odd the images are.",
    rows=(
        Measure("oddness.{}.mean", "oddness of it", "share", -1, "oddness.gain", "how odd it is", title="Oddness"),
        Measure("oddness.of_all", "oddness of all", "number", 0),
        Measure("oddity", "oddity of a phrase", "number", 1, of="phrase"),
    ),
    sheet=("Oddness {uninformed[mean]:.2f}.", "Never said: {nothing}."),
    card=("It is odd in {of_all:.1f} ways.",),
)
FIGURES = {
    **{"uninformed": {"mean": 0.25}, "informed": {"mean": 0.5}, "of_all": 7.5},
    "gain": {"mean": 0.25, "ci95": [0.125, 0.375]},
}


def oddness_of(run: Measuring) -> dict[str, Any]:
    return {name: {"mean": float(np.mean([p.size[0] for p in of.images]))} for name, of in run.sets.items()}


class Even:
    """Finds every phrase of an even number of letters."""

    threshold = 0.5

    def rate(self, pixels: Tensor, concepts: Sequence[Concept]) -> Tensor:
        return torch.tensor([[float(len(phrase) % 2 == 0) for _, phrase in concepts]] * len(pixels))


def even(recipe: Recipe, models: ModelCache, real: object) -> Even:
    return Even()


@pytest.fixture
def oddness(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metric and a scorer of a stranger's."""
    monkeypatch.setitem(METRICS.added, "oddness", ODDNESS)
    monkeypatch.setitem(SCORERS.added, "odd", ScorerSpec("odd", f"{__name__}:even", "Even phrases."))


@pytest.fixture
def run(tmp_path: Path, finished: Path) -> Path:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    results = json.loads((out / "results.json").read_text())
    (out / "results.json").write_text(json.dumps(results | {"oddness": FIGURES}))
    files = [json.loads(row)["file_name"] for row in (out / "images" / "metadata.jsonl").read_text().splitlines()]
    images = {f"images/{file}": [{"phrase": "tail", "percentile": 0.5, "oddity": 0.5}] for file in files}
    (out / "details.json").write_text(json.dumps({"encoder": "e", "missing_below": 0.25, "images": images}))
    return out


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    for folder in ("cat", "dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (8, 8), (9 * i, 0, 0)).save(tmp_path / "photos" / folder / f"{i}.png")
    distill(validate({"method": "random", "data": str(tmp_path / "photos"), "ipc": 2}), tmp_path / "finished")
    return tmp_path / "finished"


@pytest.mark.usefixtures("oddness")
def test_a_strangers_metric_and_scorer_measure_a_set(run: Path) -> None:
    recipe = load(str(run), ["scorer.kind=odd", "metrics=[oddness, completeness]"])
    data = open_recipe_data(recipe)
    measuring = Measuring(recipe, data, run, ("images",), ModelCache(recipe))
    measuring.details = [["tail", "ear"], ["ear", "nose"]]  # "ear" has three letters
    found = measuring.results()
    assert list(found) == ["oddness", "completeness"]
    assert found["oddness"] == {"uninformed": {"mean": 8.0}, "real": {"mean": 8.0}}
    assert found["completeness"]["uninformed"] == {"mean": 0.5, "complete": 0.0, "foreign": 1.0, "n": 4}


@pytest.mark.parametrize("figures", [{"mean": np.float32(1)}, {"mean": float("nan")}, object()])
@pytest.mark.usefixtures("oddness")
def test_a_strangers_metric_that_fails_is_one_line(run: Path, figures: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "oddness_of", lambda run: figures)
    recipe = load(str(run), ["metrics=[oddness]"])
    with pytest.raises(ConcordError, match=r'metric "oddness" of the package this process fails \(\w+Error'):
        Measuring(recipe, open_recipe_data(recipe), run, ("images",), ModelCache(recipe)).results()


@pytest.mark.usefixtures("oddness")
def test_a_strangers_measure_is_in_every_view(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    terminal = io.StringIO()
    show_results(results, run, Console(file=terminal, width=40))
    assert "oddness of it" in terminal.getvalue()
    assert "25.0 %    50.0 %  +25.0 [+12.5, +37.5]" in terminal.getvalue()
    report = write_report(run).read_text()
    assert 'Oddness<span class="soft">how odd it is</span>' in report
    assert 'data-from="results.json:oddness.gain.ci95.1">+37.5' in report
    assert "oddness of all" in report and 'data-from="results.json:oddness.of_all">7.500' in report
    assert "| oddness of it | 0.500 | 0.250 |  | +0.250" in (text := card(open_made(run), "folder", Reading("**", "")))
    assert "It is odd in 7.5 ways." in text
    assert list(lines(results, "sheet")) == ["Oddness 0.25."]
    both = compare(finished_run(run), finished_run(run))
    names = [one.name for one in both.measures]
    assert {"oddness.{}.mean", "oddness.of_all", "oddity", "percentile"} <= {*names}
    assert "oddness of it" in page(both) and "oddity of a phrase" in page(both)


def test_without_its_package_its_figures_are_passed_over(run: Path) -> None:
    assert "oddness" not in METRICS
    assert "Oddness" not in write_report(run).read_text()


def test_no_view_names_a_measure() -> None:
    source = Path(concord.__file__).parent
    views = [
        *("cli/distill_views.py", "cli/compare_views.py", "export/card.py", "report/contact_sheet.py"),
        *("report/figures.py", "report/page.py", "report/compare.py", "report/compare_page.py"),
        *("report/templates/page.html", "report/templates/compare.html"),
    ]
    rows = [row for name in ALWAYS for row in METRICS.get(name).rows]
    identifiers = {
        part for row in rows for part in (row.name, *row.key.split("."), *row.gain.split(".")) if "_" in part
    }
    words = identifiers | {text for row in rows for text in (row.label, row.title, row.gain)} - {
        "",
        "details.gain",
        "details likely missing",
    }
    assert {"completeness.gain", "teacher_accuracy", "likely_missing", "Completeness"} <= words
    for view in views:
        text = (source / view).read_text(encoding="utf-8")
        assert not [word for word in words if word in text], view


@pytest.mark.parametrize(
    ("ci95", "better", "said"),
    [
        ((0.1, 0.2), 1, "better"),
        ((0.1, 0.2), -1, "worse"),
        ((-0.2, -0.1), -1, "better"),
        ((0.0, 0.2), 1, "unclear"),
        ((0.1, 0.2), 0, "unclear"),
        (None, 1, "unknown"),
    ],
)
def test_verdicts(ci95: tuple[float, float] | None, better: int, said: str) -> None:
    assert verdict(ci95, better) == said


def test_values_are_written_in_their_units() -> None:
    assert [written(0.8861, unit) for unit in ("share", "points", "number", "change", "similarity")] == [
        *("88.6 %", "+88.6", "0.886", "+0.886", "0.89")
    ]
    assert [written(1234.56, unit) for unit in ("count", "seconds", "percent", "gain")] == [
        *("1,235", "1.23e+03 s", "1234.6", "+1234.6")
    ]
