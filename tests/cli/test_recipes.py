"""The bundled recipes: their heads tell the truth, and the doctor says what each needs."""

from __future__ import annotations

import io
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from concord.cli.catalogue import catalogue
from concord.cli.commands import app
from concord.cli.console import Console
from concord.cli.findings import examine
from concord.cli.recipes import show
from concord.concepts import load_bank
from concord.data.class_lists import by_wnid, class_list
from concord.methods.prompts import SLOT, TEMPLATES, prompt
from concord.paper import accuracy
from concord.recipe import bundled, load

CELLS = [
    f"{data}-{method}" for data in ("imagewoof", "imagenette", "imagenet-100", "imagenet-1k")
    for method in ("dit", "minimax", "unclip")
] + ["food-101-unclip"]  # fmt: skip

RECOVERED = [f"{data}-sre2l" for data in ("imagewoof", "imagenet-100", "imagenet-1k", "tiny-imagenet", "cifar-10")]

MATCHED = {
    "cifar-10-dm": 48.9,
    "cifar-10-idm": 58.6,
    "cifar-100-dm": 29.7,
    "cifar-100-idm": 45.1,
    "imagewoof-idm": None,
}
"""Top-1 that is published at IPC 10."""
TRAJECTORIES = {"cifar-10-mtt": "46.3 / 71.6", "cifar-100-mtt": "24.3 / 40.1", "imagewoof-mtt": None}
"""Top-1 that is published, at IPC 1 and 50, or 1 and 10."""


def head(name: str) -> str:
    text = (files("concord") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))


def test_every_cell_has_its_recipe() -> None:
    others = ["custom", "custom-ip", "photos", "reef", "reef-few", "reef-held-out", "reef-minimax", "reef-paper"]
    assert {*CELLS, *(f"{name}-fast" for name in CELLS), *RECOVERED, *MATCHED, *others} <= set(bundled())
    assert set(TRAJECTORIES) <= set(bundled())


@pytest.mark.parametrize("name", CELLS)
def test_a_fast_twin_differs_in_how_it_is_sampled_and_informed_alone(name: str) -> None:
    recipe, twin = load(name, ["data=."]), load(f"{name}-fast", ["data=."])
    differing = {key for key, value in recipe.model_dump().items() if twin.model_dump()[key] != value}
    assert differing <= {"name", "pipeline", "informing"}
    assert (twin.pipeline.steps, twin.pipeline.scheduler, twin.informing.mode) == (12, "dpm++", "fast")
    changed = {key for key, value in recipe.pipeline.model_dump().items() if twin.pipeline.model_dump()[key] != value}
    assert changed == {"steps", "scheduler", "tiny_decoder"}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_is_the_papers_setting(name: str) -> None:
    recipe = load(name)
    assert f"{recipe.name}" == name
    assert (recipe.method, recipe.size, recipe.pipeline.steps) == (name.rpartition("-")[2], 224, 50)
    assert (recipe.informing.mode, recipe.informing.weight, recipe.informing.temperature) == ("exact", 1.0, None)
    assert (recipe.concepts.keep, recipe.concepts.negatives.kind, recipe.concepts.negatives.count) == (
        5,
        "weighted",
        10,
    )
    assert recipe.pipeline.scheduler == "ddim"
    assert recipe.encoder == "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    data = name.rpartition("-")[0]
    bank = load_bank(str(recipe.concepts.bank))
    assert set(bank.classes) >= {c.name for c in class_list(data)}
    if data != "food-101":
        assert recipe.classes == [data]


@pytest.mark.parametrize("name", CELLS)
def test_a_head_says_command_accuracy_models_licences_and_cost(name: str) -> None:
    text, recipe = head(name), load(name)
    data, _, method = name.rpartition("-")
    assert f"concord distill {name} data=DIR\n" in text
    assert f"concord distill {name} data=DIR informing.enabled=false" in text
    assert "CC-BY-NC-4.0" in text if method != "unclip" else "Open RAIL++-M" in text
    assert str(recipe.pipeline.model) in text
    assert f"{recipe.encoder} (MIT)" in text
    assert re.search(r"Cost on one GPU.*A100", text, re.S)
    for label, informed in (("informed:", True), ("uninformed:", False)):
        (line,) = re.findall(rf"^#   {label} +(.*)$", text, re.M)
        cells = [accuracy(data, method, informed, "resnet18", ipc) for ipc in (1, 10, 50)]
        if all(cell is None for cell in cells):
            assert line.startswith(("none", "unreadable in our copy"))
        else:
            numbers = [f"{c.mean:.1f} +- {c.std:.1f}" if c and c.mean is not None else "unreadable" for c in cells]
            assert line == " / ".join(numbers)


@pytest.mark.parametrize("name", RECOVERED)
def test_a_recovery_is_of_published_settings_with_the_papers_figures(name: str) -> None:
    recipe, text, data = load(name), head(name), name.removesuffix("-sre2l")
    preset = {"tiny-imagenet": "tiny", "cifar-10": "cifar"}.get(data, "imagenet")
    assert (recipe.method, recipe.sre2l.preset) == ("sre2l", preset)
    assert recipe.size == {"imagenet": 224, "tiny": 64, "cifar": 32}[preset]
    assert f"concord distill {name} data=DIR\n" in text and str(recipe.teacher) in text and "# Cost: " in text
    if cells := [cell for ipc in (1, 10, 50) if (cell := accuracy(data, "sre2l", False, "resnet18", ipc))]:
        assert "#   " + " / ".join(f"{cell.mean:.1f} +- {cell.std:.1f}" for cell in cells) + "\n" in text
    else:
        assert "ot in the paper's tables" in text


@pytest.mark.parametrize("name", MATCHED)
def test_a_matching_is_of_published_settings_with_published_figures(name: str) -> None:
    recipe, text, (data, _, method) = load(name, ["data=DIR"]), head(name), name.rpartition("-")
    section = getattr(recipe, method)
    assert recipe.method == method and (section.iterations, section.momentum, section.width) == (20000, 0.5, 128)
    assert f"concord distill {name} data=DIR" in text and "# Cost: " in text
    if figure := MATCHED[name]:
        assert section.preset == data.replace("-", "") and f"{figure} +- " in text
    else:
        cells = [accuracy(data, method, False, "resnet18", ipc) for ipc in (1, 10, 50)]
        said = [f"{c.mean:.1f} +- {c.std:.1f}" if c and c.mean is not None else "unreadable" for c in cells]
        assert "#   " + " / ".join(said) + "\n" in text


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_a_trajectory_matching_names_its_experts_and_published_figures(name: str) -> None:
    recipe, text, data = load(name, ["data=DIR"]), head(name), name.removesuffix("-mtt")
    section = recipe.of_method
    assert (recipe.method, section.preset) == ("mtt", {"imagewoof": "imagenet"}.get(data, data.replace("-", "")))
    assert f"concord experts DIR --out {section.experts} " in text and "# Cost: " in text
    assert f"concord distill {name} data=DIR" in text
    if figures := TRAJECTORIES[name]:
        assert figures in text
    else:
        cells = [accuracy(data, "mtt", False, "convnet", ipc) for ipc in (1, 10)]
        assert "#   " + " / ".join(f"{c.mean:.1f} +- {c.std:.1f}" for c in cells if c) + "\n" in text


def test_imagenet_1k_has_fifty_checkpoints_of_twenty_classes() -> None:
    ranges = load("imagenet-1k-minimax").pipeline.checkpoints
    assert len(ranges) == 50
    covered = [n for words in ranges.values() for n in range(*_ends(str(words)))]
    assert covered == list(range(1000)) == [by_wnid()[str(c.wnid)].index for c in class_list("imagenet-1k")]


def _ends(words: str) -> tuple[int, int]:
    first, last = map(int, words.split("-"))
    return first, last + 1


def test_the_doctor_lists_models_licences_and_whether_they_are_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K" / "snapshots" / "1234"
    cached.mkdir(parents=True)
    (cached / "config.json").write_text("{}")
    (cached / "model.safetensors").write_bytes(b"")
    partly = tmp_path / "models--radames--stable-diffusion-2-1-unclip-img2img" / "snapshots" / "5678"
    (partly / "unet").mkdir(parents=True)
    (partly / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (partly / "unet" / "config.json").write_text("{}")  # a download that was broken off: no weights
    findings = {finding.about: finding for finding in examine()["Recipes and their models"]}
    assert set(findings) == set(bundled())
    lines = findings["imagewoof-unclip"].lines
    assert any(re.search(r"radames/stable.*\(CreativeML Open RAIL\+\+-M\)  not cached", line) for line in lines)
    assert any(re.search(r"laion/CLIP.*\(MIT\)  present", line) for line in lines)
    assert findings["imagewoof-unclip"].well is False
    assert findings["reef"].well is True
    assert all("(Apache-2.0)  present" in line for line in findings["reef"].lines)
    fifty = findings["imagenet-1k-minimax"].lines
    assert len(fifty) < 10
    assert fifty[-1] == "and 46 more"


def test_the_list_says_of_each_recipe_what_it_is_and_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    listed = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).stdout)["recipes"]
    assert [one["name"] for one in listed] == bundled()
    entries = {one["name"]: one for one in listed}
    text = CliRunner().invoke(app, ["recipes"]).stdout
    for name, one in entries.items():
        assert " ".join(head(name).replace("#", " ").split()).startswith(one["about"])
        (line,) = [line for line in text.splitlines() if line[3:].startswith(f" {name} ")]
        assert one["about"] in line, "in a file nothing is cut"
        assert one["method"] in line
        assert ("✓" in line) == one["ready"] == all(model["present"] for model in one["models"])
    assert entries["photos"]["needs_data"]
    assert entries["photos"]["models"] == []
    ready = {name for name, one in entries.items() if one["ready"]}
    assert ready >= {*MATCHED, "photos", "reef", "reef-few", "reef-held-out", "reef-paper"}
    assert not ready & set(CELLS)
    cell = accuracy("imagewoof", "unclip", True, "resnet18", 10)
    assert cell is not None
    assert entries["imagewoof-unclip"]["paper"]["informed"]["mean"] == cell.mean
    assert "informed" not in entries["imagewoof-dit"]["paper"], "unreadable in our copy"
    assert entries["reef"]["paper"] is None


def test_the_list_fits_80_columns_and_nothing_is_cut() -> None:
    written, entries = io.StringIO(), catalogue()
    show(entries, Console(file=written, width=80, force_terminal=True, color_system=None))
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    said = " ".join(written.getvalue().split())
    assert "…" not in said and all(entry.about in said for entry in entries)


def test_there_are_28_different_prompts_each_with_the_class_in_it() -> None:
    assert len(set(TEMPLATES)) == 28
    assert all(template.count(SLOT) == 1 for template in TEMPLATES)


def test_a_class_uses_every_prompt_once_before_any_twice_and_classes_differ() -> None:
    first = [prompt("beagle", "n02088364", i, seed=0) for i in range(56)]
    assert len(set(first[:28])) == 28
    assert first[:28] == first[28:]
    assert first[:5] != [prompt("beagle", "other folder", i, seed=0) for i in range(5)]
    assert first[:5] != [prompt("beagle", "n02088364", i, seed=1) for i in range(5)]
    assert prompt("fried rice", "a", 3, 0, ["{class} on a plate"]) == "fried rice on a plate"
