"""Draws of a set: what is said of a method is over its draws, not over students of one of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commanding import HARD, record, refused, sets, succeed
from scipy import stats

from concord.errors import ConcordError
from concord.evaluation.draws import between, joined
from concord.metrics.statistics import summary
from concord.runs.draws import draw_path, draws_in


def cell(values: list[float], **more: Any) -> dict[str, Any]:
    top1 = {which: summary(values) for which in ("last", "best")}
    seeds = list(range(len(values)))
    return {"student": "c3", "protocol": "dc", "ipc": 1, "reports": "last", "seeds": seeds, "top1": top1, **more}


def draws(*values: list[float], test: str = "t") -> list[dict[str, Any]]:
    return [{"of": f"set{n}-{test}", "cells": [cell(of, settings=str(n))]} for n, of in enumerate(values)]


def test_a_spread_over_draws_and_seeds_is_that_of_all_trainings() -> None:
    values = [[60.0, 62.0], [70.0, 71.0], [55.0, 58.0]]
    [found] = joined(draws(*values))["cells"]
    assert (found["draws"], found["seeds"]) == (3, [0, 1] * 3)
    last = found["top1"]["last"]
    assert (last["mean"], last["std"]) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    means = np.mean(values, axis=1)
    assert last["draws"]["values"] == pytest.approx(means)
    assert last["draws"]["std"] == pytest.approx(means.std(ddof=1))


def test_a_cell_that_a_draw_lacks_is_left_out() -> None:
    records = draws([60.0], [70.0])
    records[0]["cells"].append(cell([1.0], ipc=10))
    assert [one["ipc"] for one in joined(records)["cells"]] == [1]
    records[1]["cells"] = [cell([1.0], ipc=5)]
    with pytest.raises(ConcordError, match="no cell was evaluated of all draws"):
        joined(records)


def test_draws_are_paired_by_their_means_with_an_interval_over_draws() -> None:
    """Students of one draw are alike: counted as draws they would make the interval far too narrow."""
    a, b = [[60.0, 62.0], [70.0, 71.0], [55.0, 58.0]], [[66.0, 67.0], [71.0, 73.0], [60.0, 61.0]]
    found = {which: difference for _, _, which, difference in between(draws(*a), draws(*b))}
    differences = np.mean(b, axis=1) - np.mean(a, axis=1)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found["last"] is not None
    assert found["last"].ci95 == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found["last"].n, found["last"].p) == (3, 0.25)
    with pytest.raises(ConcordError, match="3 draws cannot be paired with 2"):
        between(draws(*a), draws(*b[:2]))
    with pytest.raises(ConcordError, match="different test images"):
        between(draws(*a), draws(*b, test="u"))


def test_draws_lie_by_their_seeds_and_a_set_is_none(tmp_path: Path) -> None:
    for name in ("seed-10", "seed-2", "seed-x", "seed-3-old", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed-4").write_text("no directory")
    assert draws_in(tmp_path) == [draw_path(tmp_path, 2), draw_path(tmp_path, 10)]
    (tmp_path / "recipe.yaml").touch()
    assert draws_in(tmp_path) == draws_in(tmp_path / "nowhere") == []


def test_draws_are_made_evaluated_and_compared_as_one(tmp_path: Path) -> None:
    photos, test = sets(tmp_path)
    for name, seeds in (("a", "0,1"), ("b", "2,3")):
        recipe = ("photos", f"data={photos}", "method=random", "ipc=2", "size=16", f"seed={seeds}")
        succeed("distill", *recipe, "--out", tmp_path / name)
    chosen = {draw.name: sorted((draw / "images").rglob("*.png")) for draw in draws_in(tmp_path / "a")}
    assert chosen.keys() == {"seed-0", "seed-1"}
    pictures = [[path.read_bytes() for path in paths] for paths in chosen.values()]
    assert pictures[0] != pictures[1], "another seed, another draw"
    command = ("--test", test, *HARD, "seeds=2", "epochs=4")
    said, _ = succeed("evaluate", tmp_path / "a", *command)
    assert "over 2 draws of the set, each with 2 seeds" in " ".join(said.split())
    [each] = json.loads(succeed("evaluate", tmp_path / "a", *command, "--json")[0])["cells"]
    of = [record(draw)["cells"][0]["top1"]["best"]["values"] for draw in draws_in(tmp_path / "a")]
    assert each["top1"]["best"]["values"] == of[0] + of[1]
    first, second = draws_in(tmp_path / "b")
    assert "b was not evaluated" in refused("compare", tmp_path / "a", tmp_path / "b").replace("/seed-2", "")
    said, _ = succeed("evaluate", first, second, *command, "--dry-run")
    assert said.count("(dry run)") == 2
    succeed("evaluate", first, second, *command)
    found = json.loads(succeed("compare", tmp_path / "a", tmp_path / "b", "--json")[0])["measures"]
    assert {(row["name"].split(".")[1], row["difference"]["by"], row["difference"]["n"]) for row in found} == {
        ("last", "paired draws", 2),
        ("best", "paired draws", 2),
    }
    said, _ = succeed("compare", tmp_path / "a", tmp_path / "b")
    assert "top-1 best, convnet-1" in said
    assert "is for one set" in refused("evaluate", first, second, *command, "--out", tmp_path / "x.json")
    assert "holds one set" in refused("distill", *recipe, "--out", first)
