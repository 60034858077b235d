"""A recipe's file laid over others: `extends`."""

from pathlib import Path

import pytest

from concord.errors import ConcordError
from concord.recipe import load, to_yaml


def written(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_own_values_lie_over_those_extended_section_by_section(tmp_path: Path) -> None:
    mine = written(tmp_path, "mine.yaml", "extends: reef\nipc: 3\npipeline: {steps: 20}\nguides: [modes]\n")
    recipe, reef = load(mine), load("reef")
    assert (recipe.name, recipe.ipc, recipe.pipeline.steps) == ("mine", 3, 20)
    assert recipe.pipeline.guidance_scale == reef.pipeline.guidance_scale and recipe.informing == reef.informing
    assert load(mine, ["pipeline.steps=4"]).pipeline.steps == 4


def test_the_last_of_several_wins_and_files_are_found_beside_the_one_that_names_them(tmp_path: Path) -> None:
    written(tmp_path, "parts/low.yaml", "pipeline: {guidance_scale: 1.5, steps: 5}\n")
    written(tmp_path, "parts/high.yaml", "extends: low.yaml\npipeline: {steps: 6}\n")
    recipe = load(written(tmp_path, "mine.yaml", "extends: [reef, parts/high.yaml]\n"))
    assert (recipe.pipeline.steps, recipe.pipeline.guidance_scale) == (6, 1.5)


def test_a_relative_data_set_is_taken_from_where_its_recipe_lies(tmp_path: Path) -> None:
    (tmp_path / "there" / "photos").mkdir(parents=True)
    written(tmp_path, "there/base.yaml", "method: random\ndata: photos\n")
    assert load(written(tmp_path, "mine.yaml", "extends: there/base.yaml\n")).data == str(tmp_path / "there" / "photos")


def test_what_the_recipe_silences_of_another_is_no_mistake_but_of_its_own_it_is(tmp_path: Path) -> None:
    exact = "informing: {mode: exact, decoder: full, every: 1}\n"
    assert load(written(tmp_path, "exact.yaml", f"extends: reef\n{exact}")).informing.mode == "exact"
    both = "informing: {mode: exact, decoder: full, every: 1, strength: 0.3}\n"
    with pytest.raises(ConcordError, match=r"informing\.strength: it is of mode fast"):
        load(written(tmp_path, "both.yaml", f"extends: reef\n{both}"))


def test_what_one_of_several_silences_of_those_before_is_no_mistake_either(tmp_path: Path) -> None:
    written(tmp_path, "push.yaml", "informing: {push: 0.7}\n")
    assert load(written(tmp_path, "mine.yaml", "extends: [reef, push.yaml]\n")).informing.push == 0.7
    with pytest.raises(ConcordError, match=r"informing\.strength: informing\.push says"):
        load(written(tmp_path, "other.yaml", "extends: [push.yaml, reef]\ninforming: {strength: 0.2, push: 0.7}\n"))


def test_the_run_keeps_the_whole_recipe_without_the_key(tmp_path: Path) -> None:
    mine = load(written(tmp_path, "mine.yaml", "extends: reef\nipc: 3\n"))
    kept = written(tmp_path, "recipe.yaml", to_yaml(mine))
    assert "extends" not in Path(kept).read_text() and load(kept) == mine


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"mine.yaml": "extends: mine.yaml\n"}, "extends itself"),
        ({"mine.yaml": "extends: other.yaml\n", "other.yaml": "extends: [reef, mine.yaml]\n"}, "extends itself"),
        ({"mine.yaml": "extends: reeff\n"}, 'unknown recipe "reeff".*reef'),
        ({"mine.yaml": "extends: 3\n"}, "extends: expected the name or file of a recipe"),
        ({"mine.yaml": "extends: [reef, {a: 1}]\n"}, "extends: expected the name or file of a recipe"),
        ({"mine.yaml": "extends: list.yaml\n", "list.yaml": "- 1\n"}, "expected keys and values"),
        ({"mine.yaml": "extends: reef\nsteps: 3\n"}, "steps"),
    ],
)
def test_what_cannot_be_extended_is_said_in_one_line(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        written(tmp_path, name, text)
    with pytest.raises(ConcordError, match=says) as raised:
        load(str(tmp_path / "mine.yaml"))
    assert "\n" not in str(raised.value)
