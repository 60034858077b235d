"""A selection that was ended goes on with the next class, and is that of one that was not, whoever selects a class."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from concord.concepts.journal import Journal
from concord.concepts.plan import ConceptPlan
from concord.data import open_data
from concord.events import Silent
from concord.models.cache import ModelCache
from concord.recipe import Recipe, validate
from concord.workflows import distill as execute
from concord.workflows import executors

PHRASES = {"cat": ["long fur", "a short tail"], "dog": ["short fur", "a long tail"], "hen": ["red feathers", "a beak"]}


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    rng = np.random.default_rng(0)
    for name in PHRASES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    classes = {name: {"phrases": phrases} for name, phrases in PHRASES.items()}
    (tmp_path / "bank.json").write_text(json.dumps({"schema": 1, "name": "pets", "classes": classes}))
    concepts = {"bank": str(tmp_path / "bank.json"), "keep": 1, "pinned": {"hen": ["a comb"]}}
    return validate({"data": str(tmp_path / "photos"), "concepts": concepts, "device": "cpu"})


def planned(recipe: Recipe, journal: Path | None = None, images: Callable[[Any], Any] | None = None) -> ConceptPlan:
    models = ModelCache(recipe)
    models.encoder = tiny.encoder()
    if images is not None:
        models.encoder.images = images  # type: ignore[method-assign, assignment]
    plan = ConceptPlan(recipe, open_data(recipe.data), models)
    plan.keep_in(None if journal is None else Journal(journal))
    return plan


def test_a_selection_that_was_ended_goes_on_with_the_next_class(recipe: Recipe, tmp_path: Path) -> None:
    expected, path, seen = planned(recipe).selection, tmp_path / "selection.jsonl", list[int]()

    def twice(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return tiny.encoder().images(pixels)

    with pytest.raises(KeyboardInterrupt):
        _ = planned(recipe, path, twice).selection
    assert [json.loads(line)["class"] for line in path.read_text().splitlines()] == ["cat", "dog"]
    with path.open("ab") as file:
        file.write(b'{"class": "hen", "conc')  # of a kill
    again = planned(recipe, path, twice)
    assert again.unselected == [2]
    assert again.selection == expected
    assert len(seen) == 4
    assert planned(recipe, path).unselected == []
    assert planned(recipe, path).selection == expected


def test_of_other_phrases_a_class_is_selected_again(recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "selection.jsonl"
    _ = planned(recipe, path).selection
    changed = recipe.model_copy(
        update={"concepts": recipe.concepts.model_copy(update={"pinned": {"dog": ["a collar"]}})}
    )
    assert planned(changed, path).unselected == [1, 2]
    assert planned(changed, path).selection == planned(changed).selection


def test_workers_select_what_one_process_does(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is of this process; what it is given, begins and asks for is what workers are."""

    class Method:
        def __init__(self, given: Recipe, data: Any) -> None:
            self.models, self.concepts = ModelCache(given), planned(given)

        def operations(self, sample: Any) -> None: ...

    def engine(
        work: Callable[[int], Any],
        labels: Iterable[int],
        workers: int,
        begin: Callable[..., Any],
        given: tuple[Any, ...] = (),
        told: Any = None,
    ) -> Iterator[Any]:
        begin(0, *given)
        yield from map(work, sorted(labels, reverse=True))  # in any order

    monkeypatch.setattr(executors, "_worker", None)  # undone at the end
    monkeypatch.setattr(executors, "build", Method)
    monkeypatch.setattr(execute, "spread", engine)
    monkeypatch.setattr(execute, "SHARED", 2)
    monkeypatch.setattr(execute, "worker_count", lambda *_: 2)
    plan, expected = planned(recipe), planned(recipe).selection
    monkeypatch.setattr(plan, "select", None)
    data = open_data(recipe.data)
    execute.select_concepts(plan, tmp_path, recipe, data, "cpu", Silent())
    assert plan.selection == expected
    assert planned(recipe, tmp_path / execute.SELECTION).unselected == []
