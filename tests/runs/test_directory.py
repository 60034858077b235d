"""A run's directory may come from anywhere: nothing that stands in it may lead a reader out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concord.errors import ConcordError
from concord.runs.directory import Run, Words, open_run
from concord.runs.store import MANIFEST

ROW = {"label": 0, "class_name": "cat", "index": 0, "seed": 7, "positives": ["a tail"], "negatives": [], "scores": {}}


def write(out: Path, *rows: dict[str, Any], variant: str = "images") -> Path:
    """A run whose manifest has these rows; each named image that lies in a folder of the variant is there."""
    (out / variant / "cat").mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        if row["file_name"].startswith("cat/"):
            Image.new("RGB", (4, 3), (number, 0, 0)).save(out / variant / row["file_name"])
    lines = [json.dumps({**ROW, **row}) + "\n" for row in rows]
    (out / variant / MANIFEST).write_text("".join(lines))
    return out


def test_samples_come_in_order_with_their_images_and_partners(tmp_path: Path) -> None:
    write(tmp_path, {"file_name": "cat/1.png", "index": 1}, {"file_name": "cat/0.png", "scores": {"loss": 0.5}})
    write(tmp_path, {"file_name": "cat/1.png", "index": 1}, variant="uninformed")
    run = open_run(str(tmp_path))
    assert [(s.index, s.seed, s.class_name, s.image.getpixel((0, 0))) for s in run.samples()] == [
        (0, 7, "cat", (1, 0, 0)),
        (1, 7, "cat", (0, 0, 0)),
    ]
    first = run.samples()[0]
    assert (list(first.positives), list(first.negatives), first.prompt) == (["a tail"], [], "")
    assert first.scores == {"loss": 0.5}
    assert [pair.before and pair.before.file for pair in run.pairs] == [None, "uninformed/cat/1.png"]
    assert (run.paired, run.counts(), [entry.folder for entry in run.classes()]) == (True, [2], ["cat"])
    assert list(run.by_place) == [("cat", 0), ("cat", 1)]
    assert run.samples("elsewhere") == ()


@pytest.mark.parametrize(
    "name", ["../secret.png", "cat/../../secret.png", "/etc/passwd", "cat/\0.png", "..", "cat/0.png/../../../x"]
)
def test_a_manifest_that_names_what_lies_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    write(tmp_path, {"file_name": "cat/0.png"})
    with open(tmp_path / "images" / MANIFEST, "a") as file:
        file.write(json.dumps({**ROW, "file_name": name, "index": 1}) + "\n")
    run = open_run(tmp_path)
    for read in (run.samples, lambda: run.by_place, lambda: run.pairs, run.classes, run.counts):
        with pytest.raises(ConcordError, match=r"metadata\.jsonl names .*, which is not below"):
            read()


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_directory_is_not_followed(folder: bool, tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"file_name": "cat/0.png"})
    other = write(tmp_path / "other", {"file_name": "cat/0.png"})
    (run / "images" / "cat" / "0.png").unlink()
    if folder:
        (run / "images" / "cat").rmdir()
        (run / "images" / "cat").symlink_to(other / "images" / "cat")
    else:
        (run / "images" / "cat" / "0.png").symlink_to(other / "images" / "cat" / "0.png")
    sample = open_run(run).samples()[0]
    for read in (lambda: sample.path, lambda: sample.image):
        with pytest.raises(ConcordError, match="is a link out of"):
            read()


def test_a_directory_that_is_itself_a_link_is_a_run(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "run", {"file_name": "cat/0.png"})
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    assert open_run(tmp_path / "run").samples()[0].image.size == (4, 3)


def test_an_image_that_is_gone_or_none_is_named(tmp_path: Path) -> None:
    run = open_run(write(tmp_path, {"file_name": "cat/0.png"}))
    (tmp_path / "images" / "cat" / "0.png").write_bytes(b"no image")
    with pytest.raises(ConcordError, match=r"cannot read the image .*0\.png"):
        _ = run.samples()[0].image


def test_files_that_are_not_there_are_empty_and_damaged_ones_are_named(tmp_path: Path) -> None:
    names = ("results", "environment", "concepts", "details", "evaluation", "near_copies")
    run = open_run(write(tmp_path, {"file_name": "cat/0.png"}))
    assert [getattr(run, name) for name in (*names, "recipe")] == [{}] * 7
    assert not run.finished and run.recipe_text == ""
    assert run.samples()[0].details == ()
    for content in ("{", "[]", "[" * 100_000, '{"a": "\xff"}'):
        for name in names:
            (tmp_path / f"{name}.json").write_bytes(content.encode("latin-1"))
            with pytest.raises(ConcordError, match=rf"{name}\.json is damaged"):
                getattr(Run(tmp_path), name)
    for text in ("a: [1", "- a"):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(ConcordError, match=r"recipe\.yaml is damaged"):
            _ = Run(tmp_path).recipe


def test_a_command_has_words_of_its_own_and_braces_in_a_path_stay(tmp_path: Path) -> None:
    out = write(tmp_path / "{0} {name}", {"file_name": "/{reason}"})
    words = Words("{path} is torn: {reason}", "{path} is odd", "{path}: {name!r} below {root}", "{path} leads out")
    run = open_run(out, words)
    (out / "results.json").write_text("{")
    with pytest.raises(ConcordError) as error:
        _ = run.results
    assert str(error.value).startswith(f"{out / 'results.json'} is torn: Expecting")
    with pytest.raises(ConcordError) as error:
        run.samples()
    assert str(error.value) == f"{out / 'images' / MANIFEST}: '/{{reason}}' below {out / 'images'}"


def test_what_holds_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"holds no run: expected images/metadata\.jsonl"):
        open_run(tmp_path)


@pytest.mark.parametrize(
    ("recipe", "made_as", "main"),
    [
        ("method: dit\ninforming: {enabled: true}", "informed", "informed"),
        ("method: dit\ninforming: {enabled: false}", "uninformed", "uninformed"),
        ("method: random\ninforming: {enabled: true}", "chosen", "uninformed"),
        ("method: sre2l\ninforming: {enabled: true}", "optimised", "uninformed"),
    ],
)
def test_what_the_images_are_is_told_by_the_recipe(recipe: str, made_as: str, main: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe)
    assert (Run(tmp_path).made_as, Run(tmp_path).main) == (made_as, main)


def test_labels_that_do_not_follow_the_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images" / "ant").mkdir(parents=True)
    run = open_run(write(tmp_path, {"file_name": "cat/0.png"}, {"file_name": "ant/0.png", "label": 1}))
    with pytest.raises(ConcordError, match='the folder "ant" has label 1, but is number 0 in sorted order'):
        run.classes()
    run = open_run(write(tmp_path, {"file_name": "cat/0.png"}, {"file_name": "cat/1.png", "label": 1}))
    with pytest.raises(ConcordError, match='the folder "cat" has two labels'):
        run.classes()


@pytest.mark.parametrize(
    ("recipe", "made_as"),
    [
        ("method: dit", "informed"),
        ("informing: {enabled: false}", "uninformed"),
        ("informing: {enabled: false}\nguides: [{name: repulsion}]", "informed"),
        ("method: random", "chosen"),
    ],
)
def test_images_that_only_a_further_guide_steers_go_by_the_name_that_results_give_them(
    tmp_path: Path, recipe: str, made_as: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    assert Run(tmp_path).made_as == made_as


WHOLE: dict[str, dict[str, Any]] = {
    "evaluation": {
        "of": "a",
        "classes": ["cat"],
        "cells": [{"student": "s", "protocol": "hard", "ipc": 1, "seeds": [0]}],
    },
    "details": {"missing_below": 0.25, "images": {"images/cat/0.png": [{"phrase": "a tail", "percentile": 0.5}]}},
    "near_copies": {"threshold": {"cat": None}, "images": {"images/cat/0.png": {"nearest": "x", "similarity": 1}}},
    "concepts": {"classes": {"cat": {"concepts": [{"phrase": "a tail", "activation": 0.1, "kept": True}]}}},
    "environment": {"packages": {"torch": "2"}, "data": {"images": 3}},
}


def mutations(value: Any) -> Iterator[Any]:
    """The value with each of its parts in turn exchanged for one of another kind."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ({**value, key: other} for other in mutations(inner))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in mutations(inner))
    yield [[]] if isinstance(value, dict | str | int | float | bool) or value is None else {"x": 1}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_whose_parts_are_of_another_kind_is_named(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, {"file_name": "cat/0.png"}) / f"{name}.json"
    path.write_text(json.dumps(WHOLE[name]))
    assert getattr(Run(tmp_path), name) == WHOLE[name]
    tried = [one for one in mutations(WHOLE[name]) if one != [[]]]
    for values in tried:
        if name == "environment" and isinstance(values["data"], dict) and values["packages"] == WHOLE[name]["packages"]:
            continue  # what stands in it is only shown
        path.write_text(json.dumps(values))
        with pytest.raises(ConcordError, match=rf"{name}\.json is damaged") as error:
            getattr(Run(tmp_path), name)
        assert "\n" not in str(error.value)
    assert len(tried) > 2
