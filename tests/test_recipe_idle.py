"""A setting that cannot act is refused where somebody set it, and nowhere else: no recipe of before stops loading."""

import re
from pathlib import Path

import pytest

from concord.errors import ConcordError
from concord.recipe import HEADER, identity, load, to_yaml

PHOTOS = "data=/photos"
SWITCHES = {
    "informing.mode": ["fast", "exact"],
    "informing.every": ["1", "2"],
    "informing.decoder": ["full"],
    "informing.enabled": ["false"],
    "informing.objective": ["{contrastive: 0, class_name: 1}", "{contrastive: 0, cosine: 1}"],
    "concepts.negatives.count": ["0"],
    "concepts.negatives.kind": ["random", "similar-3"],
    "concepts.bank": ["null"],
    "scorer.kind": ["none"],
    "pipeline.guidance_scale": ["1"],
    "pipeline.scheduler": ["ddpm", "stock"],
    "method": ["random", "full", "herding", "k_center"],
}
"""What decides over other keys, with values that silence some."""


@pytest.mark.parametrize("name", ["reef", "reef-paper", "custom", "imagewoof-minimax", "food-101-unclip"])
@pytest.mark.parametrize("switch", [f"{key}={value}" for key, values in SWITCHES.items() for value in values])
def test_a_switch_over_a_bundled_recipe_is_no_mistake_and_its_run_loads_again(
    name: str, switch: str, tmp_path: Path
) -> None:
    recipe = load(name, [PHOTOS, switch])
    path = tmp_path / "recipe.yaml"
    path.write_text(HEADER + to_yaml(recipe), encoding="utf-8")
    assert identity(load(str(path))) == identity(recipe)


DIT = f"{PHOTOS} method=dit"


@pytest.mark.parametrize(
    ("recipe", "typed", "key"),
    [
        ("reef", "informing.weight=2", "informing.weight"),
        ("reef", "informing.mode=exact informing.strength=0.3", "informing.strength"),
        ("reef-paper", "informing.strength=0.3", "informing.strength"),
        ("reef-paper", "informing.between=hold", "informing.between"),
        ("reef", "informing.mode=mean", "informing.mode"),
        ("reef", "pipeline.tiny_decoder=null", "informing.decoder"),
        ("reef-paper", "pipeline.tiny_decoder=reef:tiny", "pipeline.tiny_decoder"),
        ("reef", "informing.classifier=reef:teacher", "informing.classifier"),
        ("reef", "informing.objective.contrastive=3", "informing.objective.contrastive"),
        (
            "reef",
            "informing.objective.contrastive=0 informing.objective.cosine=1 informing.temperature=0.1",
            "informing.temperature",
        ),
        (
            "custom",
            f"{PHOTOS} concepts.bank=x informing.objective.contrastive=0 informing.objective.class_name=1",
            "concepts.bank",
        ),
        ("reef", "concepts.negatives.k=3", "concepts.negatives.k"),
        ("reef", "concepts.negatives.count=0 concepts.negatives.kind=random", "concepts.negatives.kind"),
        ("reef", "concepts.negatives.count=0 informing.temperature=0.1", "informing.temperature"),
        ("photos", f"{DIT} scorer.model=x", "scorer.model"),
        ("reef", "format.quality=80", "format.quality"),
        ("reef", "memory.checkpointing=true", "memory.checkpointing"),
        ("reef", "pipeline.guidance_scale=1 pipeline.channels=3", "pipeline.channels"),
        ("reef", "features=encoder", "features"),
        ("reef", "rded.factor=3", "rded.factor"),
        ("reef", "concepts.pinned={coral perch: [' ']}", "concepts.pinned"),
        ("custom", f"{PHOTOS} pipeline.prompts=['a {{class}} with {{phrase}}']", "pipeline.prompts"),
        ("photos", f"{PHOTOS} informing.strength=0.3", "informing.strength"),
        ("photos", f"{PHOTOS} pipeline.steps=5", "pipeline.steps"),
        ("photos", f"{PHOTOS} uninformed=true", "uninformed"),
        ("photos", f"{PHOTOS} batch_size=3", "batch_size"),
        ("photos", f"{PHOTOS} scorer.kind=percentile", "scorer.kind"),
        ("photos", f"{PHOTOS} encoder=reef:clip", "encoder"),
        ("photos", f"{PHOTOS} method=k_center encoder=reef:clip", "encoder"),
        ("photos", f"{PHOTOS} method=full ipc=5", "ipc"),
    ],
)
def test_what_cannot_act_is_refused_by_name(recipe: str, typed: str, key: str) -> None:
    with pytest.raises(ConcordError, match=rf'recipe "{recipe}": {re.escape(key)}: ') as caught:
        load(recipe, re.findall(r"\S+=(?:\[.*?\]|\{.*\}|\S+)", typed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "typed"),
    [
        ("reef", "informing.weight=1.0 informing.temperature=null"),  # the default's value asks for nothing
        ("reef", "informing.mode=mean pipeline.scheduler=ddpm"),
        ("reef", "method=random informing.strength=0.3"),  # a switch beside what it turns off
        ("reef", "informing.enabled=false informing.strength=0.3 concepts.bank=x"),
        ("reef", "method=random metrics=near_copies encoder=reef:clip nuisance=reef:nuisance"),
        ("photos", f"{PHOTOS} teacher=x.safetensors seed=3"),  # an evaluation takes the recipe's teacher
        ("photos", f"{PHOTOS} method=k_center encoder=reef:clip features=encoder"),
        ("reef-paper", "informing.objective.contrastive=3"),
        ("reef", "informing.objective.contrastive=3 informing.objective.cosine=1"),
        ("reef", "scorer.kind=none format.kind=jpeg format.quality=80"),
        ("reef", "concepts.negatives.kind=similar concepts.negatives.k=3"),
        ("reef", "informing.objective.classifier=1 informing.classifier=reef:teacher"),
        ("custom", f"{PHOTOS} informing.objective.contrastive=0 informing.objective.class_name=1"),
    ],
)
def test_what_acts_or_was_turned_off_is_not(recipe: str, typed: str) -> None:
    load(recipe, typed.split())


def test_a_files_own_settings_are_judged_but_not_what_concord_spelled_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data: reef\ninforming: {mode: exact, strength: 0.4, weight: 2}\nfeatures: encoder\n")
    with pytest.raises(
        ConcordError, match=r"features: nothing compares images.*; informing\.strength: it is of mode fast"
    ) as caught:
        load(str(path))
    assert "informing.weight:" not in str(caught.value)
    path.write_text("data: reef\ninforming: {temperature: 0.3, objective: {contrastive: 0, class_name: 1}}\n")
    load(str(path))  # as `concord init` wrote it
    for switched in ("informing: {strength: 0.4, enabled: false}", "informing: {strength: 0.4}\nmethod: random"):
        path.write_text(f"data: reef\nuninformed: true\n{switched}\n")
        load(str(path))  # what is switched off keeps its settings
        for typed in ("informing.strength=0.3", "uninformed=true"):
            with pytest.raises(ConcordError, match=typed.partition("=")[0]):
                load(str(path), [typed])
    run = load("reef", ["informing.mode=exact"])
    for head in (HEADER, ""):
        path.write_text(head + to_yaml(run))
        assert load(str(path)) == run
    with pytest.raises(ConcordError, match=r"informing\.strength: it is of mode fast"):
        load(str(path), ["informing.strength=0.7"])
