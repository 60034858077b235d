"""`docs/equations.md` leads to something that exists, in each of its rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from concord.recipe import bundled
from concord.registry import imported

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [row for row in ROWS if row[0]]


def test_every_equation_and_table_has_a_row() -> None:
    named = {row[0] for row in ROWS}
    assert named == {f"Eq. {n}" for n in range(1, 13)} | {f"Table {n}" for n in range(1, 10)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_its_function_and_its_test_exist(row: list[str]) -> None:
    module, _, name = row[2].strip("`").rpartition(".")
    assert callable(imported(f"{module}:{name}"))
    path, _, test = row[3].strip("` |").partition("::")
    assert re.search(rf"^def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), f"no {test} in {path}"
    if row[0].startswith("Eq.") and "shifts" in module:
        assert row[0] in str(imported(f"{module}:{name}").__doc__)


def test_the_recipes_that_it_names_are_bundled() -> None:
    words = re.findall(r"`((?:imagewoof|imagenet|food)-[a-z0-9-]+)`", PAGE)
    assert words
    assert set(words) <= set(bundled())
