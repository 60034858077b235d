"""Sets that are chosen from a pool: of its images, a prefix of a larger choice, resumed and grown to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_reef import with_tiny

from concord.errors import ConcordError
from concord.methods.diffusion import Generate
from concord.recipe import Recipe, identity, load
from concord.runs.shards import Shard
from concord.runs.store import read_manifest
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data
from concord.workflows.shards import make_shard

CLASSES = ["coral perch", "river perch", "lagoon wrasse"]


def recipe(models: Path, kind: str = "coverage", of: int = 3, **changes: Any) -> Recipe:
    select = {"kind": kind, "of": of, **changes.pop("select", {})}
    plain = {"enabled": False, "decoder": "full"}
    return with_tiny(models, **{"classes": CLASSES, "informing": plain, "select": select, "ipc": 2, **changes})


def pixels(out: Path) -> list[np.ndarray]:
    rows = read_manifest(out / "images")
    return [np.asarray(Image.open(out / "images" / row["file_name"])).astype(float) for row in rows]


def test_the_images_are_those_of_the_pool_that_cover_the_real_ones(models: Path, tmp_path: Path) -> None:
    of = recipe(models)
    results = distill(of, tmp_path / "o")
    rows, pool = read_manifest(tmp_path / "o" / "images"), read_manifest(tmp_path / "o" / "pool" / "images")
    assert (len(rows), len(pool)) == (6, 18)
    assert results["selection"] == {"kind": "coverage", "of": 3, "judge": "pixels"}
    by_place = {(row["label"], row["index"]): row for row in pool}
    data = open_recipe_data(of)

    def seen(image: Image.Image) -> np.ndarray:
        return np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC)).astype(float).ravel() / 255

    for row in rows:
        one = by_place[row["label"], row["scores"]["candidate"]]
        assert (row["sha256"], row["seed"]) == (one["sha256"], one["seed"])
        assert row["scores"]["candidate"] < 3 * (row["index"] + 1)
    for label in range(3):
        real = np.stack([seen(data.read(item)) for item in data.items(label)])
        files = [tmp_path / "o" / "pool" / "images" / by_place[label, n]["file_name"] for n in range(3)]
        costs = [((real - seen(Image.open(file))) ** 2).sum(1).mean() for file in files]
        assert rows[2 * label]["scores"]["candidate"] == int(np.argmin(costs))


@pytest.mark.parametrize(("kind", "more"), [("coverage", {}), ("groups", {"group": 2})])
def test_a_set_grows_and_resumes_to_what_is_made_at_once(
    models: Path, tmp_path: Path, kind: str, more: dict[str, Any]
) -> None:
    distill(recipe(models, kind, select=more, ipc=3), tmp_path / "once")
    distill(recipe(models, kind, select=more, ipc=1), tmp_path / "grown")
    small = read_manifest(tmp_path / "grown" / "images")
    distill(recipe(models, kind, select=more, ipc=3), tmp_path / "grown")
    once, grown = (read_manifest(tmp_path / name / "images") for name in ("once", "grown"))
    assert once == grown
    assert [row for row in once if row["index"] == 0] == small
    shutil.rmtree(tmp_path / "grown" / "pool")  # is made again where it is needed
    (tmp_path / "grown" / "images" / once[0]["file_name"]).unlink()
    distill(recipe(models, kind, select=more, ipc=3), tmp_path / "grown")
    assert read_manifest(tmp_path / "grown" / "images") == once
    again = distill(recipe(models, kind, select=more, ipc=3), tmp_path / "grown")
    assert again["made"] == 0


def test_informed_pools_in_jpeg_keep_their_pixels_until_the_choice(models: Path, tmp_path: Path) -> None:
    form = {"kind": "jpeg", "quality": 90}
    of = recipe(models, "herding", of=2, ipc=1, format=form, informing={"strength": 0.5}, features="encoder")
    results = distill(of, tmp_path / "o")
    assert {Path(row["file_name"]).suffix for row in read_manifest(tmp_path / "o" / "images")} == {".jpg"}
    assert {Path(row["file_name"]).suffix for row in read_manifest(tmp_path / "o" / "pool" / "images")} == {".png"}
    assert results["selection"]["judge"] == f"encoder {models / 'clip'}"
    assert results["guide"] == [str(models / "clip")]
    assert json.loads((tmp_path / "o" / "concepts.json").read_text())["classes"].keys() == set(CLASSES)


def test_difficulty_asks_a_teacher(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"select\.difficulty: how hard an image is, a teacher tells"):
        load("reef", ["teacher=null", "select={kind: coverage, difficulty: true}"])
    of = recipe(models, "kcenter", of=2, ipc=2, select={"difficulty": True}, teacher=str(models / "teacher"))
    results = distill(of, tmp_path / "o")
    assert results["selection"]["judge"] == f"teacher {models / 'teacher'}"


def test_a_shard_says_how_a_pool_is_made(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"select\.kind=none uninformed=false ipc=6"):
        make_shard(recipe(models), tmp_path / "o", Shard(0, 2))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["select={kind: coverage, by: completeness, finish: 1}"], "select.finish: it is of kind best"),
        (["select={kind: groups, difficulty: true}"], "it is of kind coverage and herding and kcenter"),
        (["select={kind: herding, group: 5}"], "it is of kind groups"),
        (["features=encoder"], "nothing compares images"),
    ],
)
def test_what_cannot_act_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        load("reef", typed)


@pytest.mark.parametrize("supply", ["herding", "medoid", "kmeans"])
def test_real_images_are_begun_from_in_an_order_that_a_smaller_set_shares(models: Path, supply: str) -> None:
    pipeline = {"model": str(models / "pipeline"), "steps": 4, "start": "real", "supply": supply}
    of = recipe(models, "none", pipeline=pipeline, features="pixels", select={"of": 4})
    data = open_recipe_data(of)
    sources = [Generate(of, data).sample(1, n).source for n in (4, 0, 1, 2, 3)]
    assert len(set(sources)) == 5
    assert sources == [Generate(of, data).sample(1, n).source for n in (4, 0, 1, 2, 3)]
    count = len(data.items(1))
    method = Generate(of, data)
    assert sorted(method.sample(1, n).source for n in range(count)) == sorted(data.items(1))
    assert method.sample(1, count).source == method.sample(1, 0).source
    if supply == "medoid":
        rows = np.stack([np.asarray(data.read(item).resize((32, 32), 3)).ravel() / 255.0 for item in data.items(1)])
        nearest = ((rows[:, None] - rows[None]) ** 2).sum(-1).mean(1).argmin()
        assert sources[1] == data.items(1)[nearest]


def test_recipes_of_before_have_the_identity_that_they_had() -> None:
    before = identity(load("reef", ["pipeline.start=real"]))
    assert "supply" not in before["pipeline"]
    after = identity(load("reef", ["pipeline.start=real", "pipeline.supply=kmeans"]))["pipeline"]
    assert after == {**before["pipeline"], "supply": "kmeans"}
