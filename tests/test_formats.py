"""docs/formats.md names every key of every file that a run, an evaluation, stored labels, teachers and banks leave."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.concepts.bank import bundled_banks, load_bank, write_bank
from concord.recipe import Recipe

pytestmark = pytest.mark.usefixtures("small_reef")
PAGE = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
PARTS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
SETS = ("informed", "uninformed", "real")
TRAIN = ("student=convnet-1", "width=4", "size=16", "epochs=2", "workers=1", "seeds=1")


def keys_of(part: str) -> set[str]:
    """The keys that a part of the page names."""
    cells = re.findall(r"^\| (`.+?) \|", PARTS[part], re.M)
    found = {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}
    return {key.replace("SET", name) for key in found for name in SETS}


def paths(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of a JSON value's leaves; an item of a list of objects is ``[]`` behind its key."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from paths(inner, (*at, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from paths(inner, (*at[:-1], f"{at[-1]}[]"))
    else:
        yield at


def names(key: str, path: tuple[str, ...]) -> bool:
    """Whether a key of the page stands for a path; a name that ``*`` stands for may have dots of its own."""
    parts = key.split(".")
    plain = [name.replace("[]", "\0") for name in path]
    patterns = [part.replace("[]", "\0").replace("[", "[[]") for part in parts]
    return len(parts) == len(path) and all(map(fnmatchcase, plain, patterns))


def unnamed(values: Any, part: str) -> set[str]:
    """Paths of a file that the page lacks; an empty list or object may be named by what it would hold."""
    known = keys_of(part)
    return {
        ".".join(path)
        for path in paths(values)
        if not any(names(key, path) for key in known)
        and not any(key.startswith((".".join(path) + "[]", ".".join(path) + ".")) for key in known)
    }


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of reef with two images, evaluated, with stored labels and a teacher; beside it real and matched images."""
    place = tmp_path_factory.mktemp("formats")
    few = 'classes=["canyon damsel","river perch"]', "ipc=1"
    run("distill", "reef", *few, "pipeline.steps=2", "informing.stop=0.5", "--out", place / "run")
    best = ("select={kind: best, of: 2}", "informing.enabled=false", "pipeline.steps=2", "nuisance=null")
    run("distill", "reef", *few, *best, "--out", place / "chosen")
    run("distill", "photos", "data=reef", *few, "unreadable=skip", "--out", place / "real")
    mixed = ("method=mix", f"mix.made={place / 'real'}", "mix.real=0.0", "mix.choice=random")
    run("distill", "photos", "data=reef", *few, *mixed, "--out", place / "mixed")
    shutil.copytree(place / "run" / "images", place / "test")
    run("experts", place / "test", "--out", place / "experts", "size=8", "width=4", "depth=1", "experts=1", "epochs=2")
    tiny = (
        "method=mtt",
        "size=8",
        "ipc=1",
        f"mtt.experts={place / 'experts'}",
        "mtt.iterations=1",
        "mtt.steps=1",
        "mtt.start=1",
    )
    run("distill", "photos", f"data={place / 'test'}", *tiny, "--out", place / "matched")
    # With --out the page is not drawn anew, which takes longer than the trainings.
    against = ("--random", place / "real", "--full", place / "real", "--out", place / "evaluation.json")
    for name, more in (("real", ()), ("run", against)):
        chosen = (*TRAIN, "teacher=reef:teacher", "protocol=rded,plain,hard")
        run("evaluate", place / name, "--test", place / "test", *chosen, *more)
    run("labels", place / "run", "--out", place / "store", *TRAIN, "teacher=reef:teacher", "bits=uint8", "top_k=1")
    stored = f"soft_labels={place / 'store'}"
    run("evaluate", place / "run", "--test", place / "test", "--out", place / "evaluation.json", *TRAIN, stored)
    run("teacher", place / "test", "--out", place / "teacher.safetensors", *TRAIN[:4])
    return place


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


FILES = ["environment.json", "concepts.json", "details.json", "near_copies.json", "results.json", "checksums.json"]


@pytest.mark.parametrize("name", FILES)
def test_every_key_of_a_runs_file_is_named(place: Path, name: str) -> None:
    for run_of in ("run", "chosen"):
        assert not (path := place / run_of / name).is_file() or unnamed(read(path), name) == set()


def test_every_key_of_an_evaluation_is_named(place: Path) -> None:
    assert unnamed(read(place / "real" / "evaluation.json"), "evaluation.json") == set()
    values = read(place / "evaluation.json")
    assert unnamed(values, "evaluation.json") == set()
    assert {"coverage", "ranking", "soft_labels", "teacher"} <= values.keys()


def test_every_key_of_experts_is_named(place: Path) -> None:
    assert {
        key for key in unnamed(read(place / "experts" / "experts.json"), "Experts") if "settings." not in key
    } == set()


def test_no_key_of_results_is_named_that_no_run_gives(place: Path) -> None:
    runs = ("run", "chosen", "real", "matched", "mixed")
    given = {path for name in runs for path in paths(read(place / name / "results.json"))}
    absent = {key for key in keys_of("results.json") if not any(names(key, path) for path in given)}
    assert absent == {key for key in absent if key.startswith("details.real.")}, "SET is not real there"


def test_every_file_of_a_run_is_named(place: Path) -> None:
    named = keys_of("A run's directory")
    for path in (place / "run").iterdir():
        assert path.name in named or f"{path.name}/" in named, path.name


def test_every_key_of_the_manifest_is_named(place: Path) -> None:
    for folder in ("chosen/images", "run/images", "run/uninformed", "real/images"):
        for line in (place / folder / "metadata.jsonl").read_text().splitlines():
            assert unnamed(json.loads(line), "images/metadata.jsonl") == set()


def test_every_array_of_the_embeddings_is_named(place: Path) -> None:
    assert set(np.load(place / "run" / "embeddings.npz")) <= keys_of("embeddings.npz")


def test_the_recipe_that_is_left_has_the_recipes_keys(place: Path) -> None:
    known = {field.alias or name for name, field in Recipe.model_fields.items()}
    assert set(yaml.safe_load((place / "run" / "recipe.yaml").read_text())) <= known


def test_every_key_of_stored_labels_is_named(place: Path) -> None:
    assert unnamed(read(place / "store" / "labels.json"), "labels.json") == set()
    with safe_open(place / "store" / "epoch-00000.safetensors", "pt") as file:
        tensors = list(file.keys())
    known = keys_of("epoch-00000.safetensors")
    assert [name for name in tensors if not any(fnmatchcase(name, key) for key in known)] == []


def test_every_key_of_a_teachers_header_is_named(place: Path) -> None:
    with safe_open(place / "teacher.safetensors", "pt") as file:
        assert unnamed(json.loads(file.metadata()["concord"]), "A teacher's file") == set()


def test_every_key_of_a_bank_is_named(tmp_path: Path) -> None:
    for name in bundled_banks():
        write_bank(load_bank(name), tmp_path / "bank.json")
        assert unnamed(read(tmp_path / "bank.json"), "A bank") == set()
