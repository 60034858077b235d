"""What cells came to, claims by their rule, and all ways in which they are written down."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats

from concord.metrics.statistics import Difference, summary
from concord.reproduce.curves import BOTTOM, HEIGHT, TOP, curves
from concord.reproduce.items import Claim, item, wanted
from concord.reproduce.outcomes import Found, judge, of_training, read, verdict
from concord.reproduce.page import write_pages
from concord.reproduce.places import place, read_choices
from concord.reproduce.plan import Plan, plan
from concord.reproduce.tables import as_csv, difference, headline, latex, markdown, sentence

# Accuracies by row: a value a draw.
VALUES = {"Random": (30.0, 31.0, 32.0), "unCLIP": (20.0, 22.0, 21.0), "unCLIP informed": (25.0, 26.5, 26.0)}


def planned(name: str, work: Path) -> Plan:
    choices = read_choices([])
    return plan(wanted(name), place("reef", choices), work, choices)


def evaluated(found: Plan, values: dict[str, tuple[float, ...]]) -> None:
    """Write what evaluations of a plan's sets would leave: one student a draw, the same at each IPC."""
    for cell in found.cells:
        if not cell.set or cell.row not in values or cell.training is None:
            continue
        wanted_cell = of_training(cell.training)
        for seed, value in zip(found.sets[cell.set].seeds, values[cell.row], strict=False):
            path = found.draw(cell.set, seed) / "evaluation.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            record = json.loads(path.read_text()) if path.is_file() else {"schema": 1, "cells": []}
            one = {
                "student": wanted_cell.student,
                "protocol": wanted_cell.protocol,
                "ipc": cell.training.ipc[0] if cell.training.ipc else None,
                "changed": dict(wanted_cell.changed),
                "size": wanted_cell.size,
                "seeds": [0],
                "reports": "best",
                "top1": {"best": summary([value]), "last": summary([value - 1])},
            }
            record["cells"].append(one)
            path.write_text(json.dumps(record))


@pytest.fixture
def table(tmp_path: Path) -> Found:
    found = planned("table-3", tmp_path)
    evaluated(found, VALUES)
    return read(found)


def test_a_cell_has_the_values_of_its_draws_and_the_papers_beside_them(table: Found) -> None:
    by = {(one.plan.row, one.plan.ipc): one for one in table.outcomes["table-3"]}
    one = by["unCLIP informed", 10]
    assert one.values == [25.0, 26.5, 26.0]
    assert one.std == pytest.approx(np.std([25.0, 26.5, 26.0], ddof=1))
    assert one.paper["food-101"].mean == 32.0
    assert table.there == (27, 27)


def test_a_claim_is_judged_by_students_interval_of_the_paired_differences(table: Found) -> None:
    [behind, ahead, over] = table.judged
    differences = np.subtract(VALUES["Random"], VALUES["unCLIP"])
    reach = stats.t.ppf(0.975, 2) * differences.std(ddof=1) / math.sqrt(3)
    assert behind.difference is not None
    assert behind.difference.ci95 == pytest.approx((differences.mean() - reach, differences.mean() + reach))
    assert (behind.verdict, behind.columns) == ("confirmed", 1)
    # "Informed unCLIP is ahead of random images": here it is behind by five, whatever the draw.
    assert (ahead.verdict, ahead.columns) == ("contradicted", 2)
    assert (over.verdict, over.columns) == ("confirmed", 3)
    assert headline(table) == "Of 3 claims of the paper, 2 are confirmed, 0 not told apart and 1 contradicted."
    assert "contradicted, \N{MINUS SIGN}5.2 points" in sentence(ahead)


@pytest.mark.parametrize(
    ("interval", "bounds", "said"),
    [
        ((0.1, 2.0), (0.0, None), "confirmed"),
        ((-0.1, 2.0), (0.0, None), "not told apart"),
        ((-2.0, -0.1), (0.0, None), "contradicted"),
        ((1.2, 2.8), (1.0, 3.0), "confirmed"),
        ((0.2, 2.8), (1.0, 3.0), "not told apart"),
        ((3.1, 4.0), (1.0, 3.0), "contradicted"),
        ((-0.5, 0.5), (-1.0, None), "confirmed"),
    ],
)
def test_the_rule(interval: tuple[float, float], bounds: tuple[float | None, float | None], said: str) -> None:
    assert verdict(interval, *bounds) == said


@given(some.lists(some.floats(1, 99), min_size=2, max_size=6), some.floats(-5, 5))
def test_swapping_the_rows_of_a_claim_never_confirms_both(values: list[float], shift: float) -> None:
    low, high = sorted((values[0] - 50 + shift, values[-1] - 50 + shift))
    there, back = verdict((low, high), 0.0, None), verdict((-high, -low), 0.0, None)
    assert (there, back) in {("confirmed", "contradicted"), ("contradicted", "confirmed"), ("not told apart",) * 2}


def test_what_rounds_to_nought_has_no_sign(table: Found) -> None:
    one = table.judged[0]
    nought = replace(one, difference=Difference(-0.04, (-1.25, 0.04), 3, None))
    assert difference(nought) == "+0.0 points (\N{MINUS SIGN}1.2 to +0.0)"


def test_fewer_than_two_draws_judge_nothing(tmp_path: Path) -> None:
    found = planned("table-3", tmp_path)
    evaluated(found, {name: values[:1] for name, values in VALUES.items()})
    assert {one.verdict for one in read(found).judged} == {"not judged"}
    assert headline(read(found)) == "None of 3 claims of the paper can be judged yet."


def test_the_whole_set_stands_beside_every_ipc(tmp_path: Path) -> None:
    found = planned("figure-4a", tmp_path)
    evaluated(found, {"Minimax informed": (70.0, 71.0, 72.0), "whole set": (75.0,)})
    claim = Claim.model_validate({"says": "near", "better": "Minimax informed", "than": "whole set", "ipc": [200]})
    assert judge(item("figure-4a"), claim, read(found).outcomes["figure-4a"]).columns == 1


def test_a_ratio_of_seconds_is_judged_on_its_logarithm(tmp_path: Path) -> None:
    found = planned("table-8", tmp_path)
    seconds = {"Minimax": (1.0, 1.1, 0.9), "Minimax informed": (2.2, 2.5, 1.9)}
    for cell in found.cells:
        for seed, value in enumerate(seconds.get(cell.row, ())):
            place_of = found.draw(cell.set, seed)
            place_of.mkdir(parents=True)
            (place_of / "results.json").write_text(json.dumps({"schema": 1, "seconds_per_image": value}))
    first = read(found).judged[0]
    logs = np.log(np.divide(seconds["Minimax informed"], seconds["Minimax"]))
    reach = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert first.difference is not None
    assert first.difference.mean == pytest.approx(math.exp(logs.mean()))
    assert first.difference.ci95 == pytest.approx((math.exp(logs.mean() - reach), math.exp(logs.mean() + reach)))
    assert first.unit == "times"


def test_tables_are_written_for_programs_and_papers(table: Found) -> None:
    outcomes = table.outcomes["table-3"]
    rows = list(csv.DictReader(io.StringIO(as_csv(item("table-3"), outcomes))))
    [one] = [row for row in rows if row["row"] == "Random" and row["ipc"] == "50"]
    assert (one["mean"], one["values"], one["paper_mean"]) == ("31", "30.0000 31.0000 32.0000", "64")
    tex = latex(item("table-3"), outcomes)
    assert "Random & $31.0_{\\pm 1.0}$ & $31.0_{\\pm 1.0}$ & $31.0_{\\pm 1.0}$ \\\\" in tex
    assert tex.count("{") == tex.count("}")
    assert "| Random | 31.0 ± 1.0 (paper 5.0 ± 0.1) |" in markdown(table)


def test_lines_lie_in_their_drawing_and_higher_accuracies_higher(tmp_path: Path) -> None:
    found = planned("figure-4b", tmp_path)
    evaluated(found, {"0": (20.0, 22.0, 21.0), "1": (30.0, 31.0, 29.0), "8": (10.0, 12.0, 14.0)})
    drawn = curves(item("figure-4b"), read(found).outcomes["figure-4b"])
    assert drawn is not None
    assert [line.name for line in drawn.lines] == ["10 images a class", "50 images a class"]
    none, one, eight = drawn.lines[0].points
    assert eight.y > none.y > one.y
    assert none.x < one.x < eight.x
    for line in drawn.lines:
        for point in line.points:
            assert TOP <= point.high <= point.y <= point.low <= HEIGHT - BOTTOM
    assert curves(item("figure-4b"), []) is None


def test_the_page_says_all_and_fetches_nothing(table: Found) -> None:
    path = write_pages(table, "concord reproduce table-3 --out <work>")
    text = path.read_text(encoding="utf-8")
    assert "Of 3 claims of the paper, 2 are confirmed" in text
    assert "concord reproduce table-3 --out &lt;work&gt;" in text
    assert "http" not in text.replace("http-equiv", "")
    assert "begun from a real image" in text, "what stands for unCLIP"
    assert "60 at 50 images a class" in text, "shorter trainings than the paper's"
    record: dict[str, Any] = json.loads((path.parent / "reproduce.json").read_text())
    assert record["schema"] == 1
    assert [claim["verdict"] for claim in record["claims"]] == ["confirmed", "contradicted", "confirmed"]
    assert (path.parent / "tables" / "table-3.tex").is_file()


def test_the_page_of_nothing_yet_says_what_makes_it(tmp_path: Path) -> None:
    found = read(planned("all", tmp_path))
    text = write_pages(found, "concord reproduce all").read_text(encoding="utf-8")
    assert text.count("Nothing is there yet") >= 8
    assert "banks.another=FILE" in text
