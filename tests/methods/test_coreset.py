"""Coresets: a greedy order that is not the paper's, or that changes with the IPC, would be another baseline."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from sklearn.metrics import pairwise_distances
from typer.testing import CliRunner

import tiny
from concord.cli.commands import app
from concord.data import open_data
from concord.errors import ConcordError
from concord.methods import build, needs_torch
from concord.methods.coreset import class_features, feature_space, herding, k_center, squared_distances
from concord.recipe import Recipe, models, validate
from concord.runs.store import read_manifest
from concord.storage import atomic
from concord.workflows.distill import distill
from concord.workflows.preview import preview

Greedy = Callable[[np.ndarray], Iterator[int]]
BOTH = pytest.mark.parametrize("greedy", [k_center, herding])
CLOTHING = Path(__file__).parents[3] / "shared" / "data" / "clothing"
# Few values, so that rows often coincide; their sums are exact in float64.
SMALL = arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.sampled_from([0, 1, 2, 5]))


def gap(features: np.ndarray, chosen: list[int]) -> float:
    """How far the mean of the chosen lies from the mean of all: what herding keeps small."""
    return float(np.linalg.norm(features[chosen].mean(axis=0) - features.mean(axis=0)))


def radius(features: np.ndarray, chosen: list[int]) -> float:
    """How far any row lies from the nearest chosen one, by scikit-learn: what k-center keeps small."""
    return float(pairwise_distances(features, features[chosen]).min(axis=1).max())


@settings(deadline=None)
@given(SMALL)
def test_the_orders_are_permutations_and_each_step_is_the_greedy_one(features: np.ndarray) -> None:
    exact = features.astype(np.float64)
    count = len(exact)
    herded, spread = list(herding(features)), list(k_center(features))
    assert sorted(herded) == sorted(spread) == list(range(count))
    for k in range(count):
        rest = [i for i in range(count) if i not in herded[:k]]
        best = min(gap(exact, [*herded[:k], i]) for i in rest)
        assert gap(exact, herded[: k + 1]) <= best + 1e-12
    to_mean = pairwise_distances(exact, exact.mean(axis=0)[None])[:, 0]
    assert to_mean[spread[0]] <= to_mean.min() + 1e-12
    for k in range(1, count):
        nearest = pairwise_distances(exact, exact[spread[:k]]).min(axis=1)
        rest = [i for i in range(count) if i not in spread[:k]]
        assert nearest[spread[k]] >= nearest[rest].max() - 1e-12


@BOTH
@settings(deadline=None)
@given(features=SMALL)
def test_of_equal_images_the_first_goes_first(greedy: Greedy, features: np.ndarray) -> None:
    place = {row: position for position, row in enumerate(greedy(features))}
    for a, b in itertools.combinations(range(len(features)), 2):
        if (features[a] == features[b]).all():
            assert place[a] < place[b]


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.just(2)), elements=st.floats(-9, 9)), st.integers(1, 4))
def test_k_center_leaves_no_image_farther_than_twice_the_optimum(features: np.ndarray, k: int) -> None:
    k = min(k, len(features))
    optimum = min(radius(features, list(centres)) for centres in itertools.combinations(range(len(features)), k))
    assert radius(features, list(k_center(features))[:k]) <= 2 * optimum + 1e-6


def test_closed_forms_on_a_line() -> None:
    line = np.arange(9, dtype=np.float32)[:, None]  # mean 4
    assert list(k_center(line))[:5] == [4, 0, 8, 2, 6]
    # Herding: the middle, then pairs about it; of two as good the first: 4, then (4 + 3) / 2, then 3 + 4 + 5, ...
    assert list(herding(line))[:3] == [4, 3, 5]
    assert list(k_center(line[:1])) == list(herding(line[:1])) == [0]


@BOTH
def test_all_alike_go_in_the_order_of_their_references(greedy: Greedy) -> None:
    alike = np.repeat(np.random.default_rng(0).normal(size=(1, 7)).astype(np.float32), 600, axis=0)
    assert list(greedy(alike)) == list(range(600))


def test_herding_is_nearer_to_the_mean_than_chance_and_k_center_finds_the_rare() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(400, 16)).astype(np.float32)
    draws = [list(rng.choice(400, 10, replace=False)) for _ in range(200)]
    assert gap(features, list(itertools.islice(herding(features), 10))) < min(gap(features, d) for d in draws) / 2
    # Ten groups far from each other, of 1, 2, 4, ... images: one of each, although a random ten hardly ever see all.
    groups = np.repeat(np.arange(10), 2 ** np.arange(10))
    features = rng.permutation(np.eye(10, 16, dtype=np.float32)[groups] * 50 + rng.normal(size=(1023, 16)))
    found = [int(features[i].argmax()) for i in itertools.islice(k_center(features), 10)]
    assert sorted(found) == list(range(10))


def test_distances_are_sums_in_float64() -> None:
    """In float32, a thousand values of about a thousand leave nothing of a difference of a hundredth."""
    rng = np.random.default_rng(0)
    features = (1000 + rng.normal(size=(700, 900)) / 100).astype(np.float32)
    exact = ((features.astype(np.float64) - features[5].astype(np.float64)) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared_distances(features, features[5]), exact, rtol=1e-12)


# --- runs ------------------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of noise about a colour; a third with two images."""
    draw = np.random.default_rng(1)
    for folder, count in {"büro stuhl": 20, "dog": 30, "few": 2}.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(count):
            pixels = draw.normal(draw.uniform(40, 200), 40, (20 + i % 3, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i:02d}.png")
    return tmp_path / "photos"


def recipe(photos: Path, **values: Any) -> Recipe:
    return validate({"method": "herding", "data": str(photos), "ipc": 2, "size": 8, "device": "cpu", **values})


def sources(out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in read_manifest(out / "images"):
        found.setdefault(row["class_name"], []).append(row["source"])
    return found


def test_features_default_to_what_needs_no_download(photos: Path) -> None:
    assert recipe(photos).features == "pixels"
    assert not needs_torch(recipe(photos))
    assert models(recipe(photos)) == {}
    assert recipe(photos, teacher="reef:teacher").features == "teacher"
    assert models(recipe(photos, teacher="reef:teacher")) == {"teacher": "reef:teacher"}
    asked = recipe(photos, features="encoder", encoder="reef:clip")
    assert models(asked) == {"encoder": "reef:clip"}
    assert needs_torch(asked)
    assert recipe(photos, method="random").features is None
    with pytest.raises(ConcordError, match=r"teacher is missing: features teacher needs a classifier"):
        recipe(photos, features="teacher")


@pytest.mark.parametrize(("method", "greedy"), [("k_center", k_center), ("herding", herding)])
def test_a_run_takes_the_order_of_its_features_and_names_them(
    tmp_path: Path, photos: Path, method: str, greedy: Greedy
) -> None:
    results = distill(recipe(photos, method=method), tmp_path / "o")
    assert (results["images"], results["features"]) == (6, "pixels at 32 px")
    data = open_data(str(photos))
    for label, entry in enumerate(data.classes):
        # Independently: the middle square at 32 pixels, flattened.
        squares = []
        for item in data.items(label):
            image = data.read(item)
            side = min(image.size)
            left, top = (image.width - side) / 2, (image.height - side) / 2
            box = (left, top, left + side, top + side)
            squares.append(np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC, box=box)).ravel() / 255)
        order = list(greedy(np.stack(squares)))
        assert sources(tmp_path / "o")[entry.class_name] == [data.items(label)[i] for i in order[:2]]


def test_a_grown_set_equals_the_set_made_at_once(tmp_path: Path, photos: Path) -> None:
    values: dict[str, Any] = {"classes": ["dog", "büro stuhl"]}
    for ipc in (1, 4, 9):
        grown = distill(recipe(photos, ipc=ipc, **values), tmp_path / "grown")
    assert (grown["made"], grown["kept"]) == (10, 8)
    distill(recipe(photos, ipc=9, **values), tmp_path / "once")
    files = [sorted((tmp_path / name / "images").rglob("*")) for name in ("grown", "once")]
    assert [p.read_bytes() for p in files[0] if p.is_file()] == [p.read_bytes() for p in files[1] if p.is_file()]
    # A class chooses the same beside others as alone, and all its images where all are asked for.
    assert sources(tmp_path / "once")["dog"] == sources_of(tmp_path, photos, ipc=30, classes=["dog"])["dog"][:9]


def sources_of(tmp_path: Path, photos: Path, **values: Any) -> dict[str, list[str]]:
    distill(recipe(photos, **values), tmp_path / "another")
    return sources(tmp_path / "another")


def test_broken_off_and_resumed(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distill(recipe(photos), tmp_path / "whole")
    rows = 0

    def stop(name: str) -> None:
        nonlocal rows
        rows += name == "row synced"
        if rows == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "failpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(recipe(photos), tmp_path / "o")
    results = distill(recipe(photos), tmp_path / "o")
    assert results["kept"] in (2, 3)
    assert sources(tmp_path / "o") == sources(tmp_path / "whole")


def test_workers_copy_and_do_not_choose(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that chose would embed the whole data set again, once a process."""
    method = build(recipe(photos), open_data(str(photos)))
    sample = build(recipe(photos), open_data(str(photos))).sample(1, 0)
    monkeypatch.setattr("concord.methods.coreset.feature_space", lambda *_: pytest.fail("a model was loaded"))
    assert method.make([sample], "images")[0].image.size == (8, 8)
    plan = preview(recipe(photos), tmp_path / "o")  # nor does --dry-run
    assert (plan.images, plan.seconds) == (6, None)
    assert plan.disk is not None


def test_too_few_images_name_the_class_before_anything_is_written(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(ConcordError, match=r'fewer images than ipc=3 asks for: "few" has 2; give ipc=2 or less'):
        distill(recipe(photos, ipc=3), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_unreadable_images_neither_choose_nor_are_chosen(tmp_path: Path, photos: Path) -> None:
    clean = sources_of(tmp_path, photos, ipc=2, classes=["dog"])["dog"]
    bad = photos / clean[0]
    bad.write_bytes(b"broken")
    with pytest.raises(ConcordError, match=r"cannot read the image .*unreadable=skip leaves it out"):
        distill(recipe(photos), tmp_path / "o")
    results = distill(recipe(photos, unreadable="skip"), tmp_path / "o")
    assert (results["unreadable"], results["unreadable_files"]) == (1, [clean[0]])
    bad.unlink()
    distill(recipe(photos), tmp_path / "without")
    assert sources(tmp_path / "o") == sources(tmp_path / "without")


def test_an_encoders_space_is_that_of_its_own_embeddings(tmp_path: Path, photos: Path) -> None:
    tiny.save_encoder(tmp_path / "clip", tiny.clip())
    data = open_data(str(photos))
    space = feature_space(recipe(photos, features="encoder", encoder=str(tmp_path / "clip")), data.classes)
    names, rows = class_features(data, data.items(0), space)
    assert names == data.items(0)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    alone = class_features(data, [names[7]], space)[1]
    np.testing.assert_allclose(alone[0], rows[7], atol=1e-5)


def test_from_the_command_line(tmp_path: Path, photos: Path) -> None:
    out = tmp_path / "o"
    words = f"distill photos data={photos} method=k_center ipc=2 features=pixels --json --out {out}".split()
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads((out / "results.json").read_text())["features"] == "pixels at 32 px"
    assert (out / "report.html").is_file()


@pytest.mark.shared
@pytest.mark.skipif(not CLOTHING.is_dir(), reason="the shared photographs are not here")
def test_herding_on_photographs_lies_nearer_to_the_mean_than_a_random_choice(tmp_path: Path) -> None:
    data = open_data(str(CLOTHING))
    space = feature_space(recipe(CLOTHING), data.classes)
    names, rows = class_features(data, data.items(1), space)
    gaps = []
    for method in ("herding", "random"):
        found = build(recipe(CLOTHING, method=method, ipc=10), data)
        gaps.append(gap(rows, [names.index(found.sample(1, i).source) for i in range(10)]))
    assert gaps[0] < gaps[1] / 2
