"""The table of better sets: its settings are ones that recipes take, and what stands in it follows from its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import better_set
import pytest
from evaluation_tables import with_others

from concord.recipe import load


@pytest.mark.parametrize("tiny", [False, True])
def test_every_set_is_a_recipe(tiny: bool, tmp_path: Path) -> None:
    table = better_set.sets(tmp_path, tiny)
    recipes = {one.name: load(one.distill[0], one.distill[1:]) for one in table.sets}
    assert (recipes["best of 4"].select.finish, recipes["reef-best"].select.finish) == (None, 1)
    assert recipes["coverage"].select.kind == "coverage"
    others = {"informed", "start real"}  # of which the other tables have the rest
    again = {name for name in recipes if better_set.AGAIN in name}  # at small IPC alone
    assert {recipe.ipc for name, recipe in recipes.items() if name not in others | again} == {2 if tiny else 50}
    assert {recipes[name].ipc for name in again} == {2 if tiny else 10}
    assert {recipes[name].ipc for name in others} == {1}
    for name in ("best of 4", "reef-best"):
        judge = recipes[name].judge
        assert judge is not None and judge.model not in recipes[name].informers
        assert judge.model != recipes[name].scorer.model


def cell(ipc: int, values: list[float], protocol: str = "hard") -> dict[str, Any]:
    return {"protocol": protocol, "ipc": ipc, "reports": "last", "top1": {"last": {"values": values}}}


def test_the_draws_of_mix_are_one_row_and_aims_are_met_or_not() -> None:
    sets = {f"mix {seed}": [cell(1, [20.0 + seed])] for seed in range(3)}
    sets |= {
        "reef-best": [cell(ipc, [value]) for ipc, value in ((1, 30.0), (50, 80.0)) for value in (value, value + 1)],
        "random": [cell(ipc, [value]) for ipc, value in ((1, 20.0), (50, 90.0)) for value in (value, value + 1)],
    }
    measured = {"mean": 0.98, "complete": 0.8, "foreign": 0.01, "nuisance_diversity": 0.95}
    record = {"sets": better_set.merged(sets), "measured": {"reef-best": [measured]}, "real_diversity": 1.0}
    rows = [line.split(" | ") for line in better_set.table(record)]
    assert rows[0][:3] == ["| set", "IPC 1, soft", "IPC 1, fixed"]
    assert next(row for row in rows if row[0] == "| mix")[3] == "21.0 ± 1.0"
    met = {line.rpartition(": ")[0]: line.rpartition(": ")[2] for line in better_set.aims(record)}
    assert [*met.values()] == ["met", "not met", "met", "met", "met", "not met", "not met"]
    assert [line for line in met if line.startswith("mix,")] == [*met][-1:]
    assert any("+10.0" in line for line in met) and any("-10.0" in line for line in met)


def test_sets_of_other_tables_are_taken_where_this_one_lacks_them() -> None:
    own = {"informed": [cell(1, [30.0])], "mix": [cell(1, [20.0])]}
    whole = with_others({"sets": own}, better_set.OTHERS, better_set.IPC)
    ipcs = {name: {c["ipc"] for c in cells} for name, cells in whole["sets"].items()}
    assert ipcs["informed"] == {1, 10, 50}
    assert ipcs["random"] == {1, 10, 50}
    assert ipcs["mix"] == {1}
    assert [c["top1"]["last"]["values"] for c in whole["sets"]["informed"] if c["ipc"] == 1] == [[30.0]]
    assert whole["measured"]["informed"][0]["mean"] > 0.9
