"""Concepts in prompts, and those of look-alikes in negative prompts: drawn with the sample and recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_reef import PHOTOGRAPHED, reef_recipe, with_tiny

import tiny_pipelines
from concord.errors import ConcordError
from concord.methods.diffusion import Generate
from concord.methods.prompts import prompt
from concord.pipelines.text import Text
from concord.plan import Sample
from concord.recipe import Recipe, load, models
from concord.runs.store import Store
from concord.workflows.executors import open_recipe_data

PROMPTS = ["a photo of {class}: {concept}", "{class} with {concepts}"]


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd")
    tiny_pipelines.pipeline("sd").save_pretrained(folder)
    return folder


@pytest.fixture
def places(models: Path, photos: Path, sd: Path) -> tuple[Path, Path, Path]:
    return models, photos, sd


def recipe(places: tuple[Path, Path, Path], informed: bool = False, **pipeline: Any) -> Recipe:
    folder, photos, sd = places
    asked = {"model": str(sd), "scheduler": "stock", "steps": 2, "prompts": PROMPTS} | pipeline
    values = {"method": "text", "data": str(photos), "informing": {"enabled": informed}, "scorer": {"kind": "none"}}
    return reef_recipe(folder, **values, pipeline=asked, uninformed=False, teacher=None, nuisance=None)


def planned(wanted: Recipe) -> dict[tuple[int, int], Sample]:
    method = Generate(wanted, open_recipe_data(wanted))
    return {(c, i): method.sample(c, i) for c in range(3) for i in range(3)}


def test_a_samples_prompts_hold_its_own_concepts_and_those_of_look_alikes(places: tuple[Path, Path, Path]) -> None:
    negative = ["{concept}", "blurred, {concepts}"]
    both = planned(recipe(places, negative_prompts=negative))
    for (c, _), sample in both.items():
        own = [text.removeprefix(f"{sorted(PHOTOGRAPHED)[c]} with ") for text in sample.positives]
        others = [text.split(" with ", 1)[1] for text in sample.negatives]
        texts = [f"a photo of {sorted(PHOTOGRAPHED)[c]}: {phrase}" for phrase in own]
        assert sample.prompt in {*texts, f"{sorted(PHOTOGRAPHED)[c]} with {', '.join(own)}"}
        assert sample.negative_prompt in {*others, f"blurred, {', '.join(others)}"}
    assert len({sample.prompt for sample in both.values()}) > 4
    assert both == planned(recipe(places, negative_prompts=negative)), "drawn by the sample's seed"
    # Negatives are those that inform where nothing stands in prompts.
    informed = planned(recipe(places, informed=True, prompts=None))
    assert {at: (s.positives, s.negatives) for at, s in informed.items()} == {
        at: (s.positives, s.negatives) for at, s in both.items()
    }


def test_they_reach_the_pipeline_and_the_row(
    places: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(places, negative_prompts=["{concept}"])
    data, asked = open_recipe_data(wanted), []
    method = Generate(wanted, data)
    batch = [method.sample(0, 0), method.sample(1, 0)]
    own = Text.denoise

    def spy(self: Text, prompts: Any, *given: Any, **named: Any) -> Any:
        asked.append((list(prompts), named["negative_prompts"]))
        return own(self, prompts, *given, **named)

    monkeypatch.setattr(Text, "denoise", spy)
    method.make(batch, "images")
    assert asked == [([s.prompt for s in batch], [s.negative_prompt for s in batch])]
    row = Store(tmp_path / "images", wanted.format)._planned(batch[0], data.classes[0])
    assert (row["prompt"], row["negative_prompt"]) == (batch[0].prompt, batch[0].negative_prompt)


def test_what_prompts_ask_for_is_there_or_said(places: tuple[Path, Path, Path]) -> None:
    wanted = recipe(places)
    assert wanted.uses_concepts
    assert "encoder" in models(wanted)  # it selects them
    assert "encoder" not in models(recipe(places, prompts=["{class}"]))
    without = wanted.model_copy(update={"concepts": wanted.concepts.model_copy(update={"bank": None})})
    with pytest.raises(ConcordError, match=r"prompts that hold concepts need concepts\.bank"):
        planned(without)
    with pytest.raises(ConcordError, match=r"nothing fills in \{concept\} of"):
        prompt("eel", "eel", 0, 0, ["{class} {concept}"])
    assert prompt("{concept}", "eel", 0, 0, ["{class} {concept}"], {"{concept}": "a {class}"}) == "{concept} a {class}"


TEXT = ["data=/photos", "method=text", "pipeline.model=x", "concepts.bank=reef"]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["pipeline.prompts=['{class} {phrase}']"],
            r"nothing fills in \{phrase\}.*\{class\}, \{concept\}, \{concepts\}",
        ),
        (["pipeline.negative_prompts=['no {class}']"], r"nothing fills in \{class\} of .no"),
        (["pipeline.negative_prompts=['']"], "a template is empty"),
        (["pipeline.negative_prompts=['x']", "pipeline.guidance_scale=1"], "nothing is guided at 1"),
        (["pipeline.negative_prompts=['{concept}']", "concepts.negatives.count=0"], "count is 0; raise it"),
        (["method=dit", "pipeline.negative_prompts=['x']"], "pipeline.negative_prompts is for method"),
    ],
)
def test_what_cannot_act_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        load("photos", [*TEXT, *typed])


def test_prompted_and_uninformed_keeps_the_settings_of_concepts() -> None:
    prompts = "pipeline.prompts=['{class} {concept}']"
    one = load("photos", [*TEXT, "informing.enabled=false", prompts, "concepts.keep=3"])
    assert one.concepts.keep == 3
    load(
        "photos",
        [*TEXT, "informing.enabled=false", "pipeline.negative_prompts=['{concept}']", "concepts.negatives.count=3"],
    )


def test_over_the_set_every_kept_phrase_has_its_share_in_positives_and_prompts(models: Path) -> None:
    concepts = {"bank": "reef", "images": 2, "positives": 2}
    recipe = with_tiny(models, concepts=concepts)
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    kept = {f"{data.classes[1].class_name} with {phrase}" for phrase in method.concepts.kept[1]}
    samples = [method.sample(1, n) for n in range(5)]
    assert all(len(sample.positives) == 2 for sample in samples)
    counts = [sum(text in sample.positives for sample in samples) for text in kept]
    assert counts == [2] * 5
    plain = with_tiny(models, concepts={"bank": "reef", "images": 2})
    whole = Generate(plain, open_recipe_data(plain)).sample(1, 3)
    assert set(whole.positives) == kept
    assert whole.negatives == samples[3].negatives
