"""Coverage and its kin decide whether a set is called diverse: every count must be the definition's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from concord.errors import ConcordError
from concord.metrics import neighbours as coverage
from concord.metrics.neighbours import NAMES, coverage_report, neighbour_scores


def by_definition(made: np.ndarray, real: np.ndarray, k: int) -> dict[str, float | None]:
    """The four written out point by point, in the words of the papers: slow, and independent of ours."""

    def radius(of: np.ndarray, i: int) -> float:
        return float(np.sort(cdist(of[i : i + 1], np.delete(of, i, 0))[0])[k - 1])

    def holds(x: np.ndarray, r: float, y: np.ndarray) -> bool:
        return bool(np.sqrt(((x - y) ** 2).sum()) < r)

    none: dict[str, float | None] = dict.fromkeys(NAMES)
    if len(real) <= k:
        return none
    balls = [[holds(x, radius(real, i), y) for y in made] for i, x in enumerate(real)]
    none["coverage"] = float(np.mean([any(row) for row in balls]))
    if len(made):
        none["precision"] = float(np.mean([any(row[j] for row in balls) for j in range(len(made))]))
        none["density"] = sum(map(sum, balls)) / (k * len(made))
    if len(made) > k:
        radii = [radius(made, j) for j in range(len(made))]
        none["recall"] = float(np.mean([any(holds(y, r, x) for y, r in zip(made, radii, strict=True)) for x in real]))
    return none


def test_a_line_of_points_by_hand() -> None:
    """Real points 0, 1, 3, 6 with k = 1 have radii 1, 1, 2, 3; made ones 0.5, 4.5 and 20 have 4, 4 and 15.5."""
    real, made = np.array([[0.0], [1], [3], [6]]), np.array([[0.5], [4.5], [20]])
    assert neighbour_scores(made, real, k=1) == {
        "precision": 2 / 3,  # nothing is near 20
        "recall": 1.0,  # 0 to 3 lie within 4 of 0.5, 6 within 4 of 4.5
        "density": 4 / 3,  # 0.5 lies in the balls of 0 and 1, 4.5 in those of 3 and 6
        "coverage": 1.0,
    }
    assert neighbour_scores(made[2:], real, k=1) == {"precision": 0, "recall": None, "density": 0, "coverage": 0}


@pytest.mark.parametrize("block", [1, 3, 1024])
@pytest.mark.parametrize(("made", "real", "k"), [(30, 50, 5), (4, 50, 5), (6, 6, 5), (40, 3, 3), (1, 20, 1)])
def test_the_four_are_their_definitions(
    made: int, real: int, k: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "BLOCK", block)
    rng = np.random.default_rng(made + real)
    y, x = rng.normal(size=(made, 4)) * 1.5, rng.normal(size=(real, 4)) + 0.3
    expected, found = by_definition(y, x, k), neighbour_scores(y, x, k)
    for name in NAMES:
        assert found[name] == (None if expected[name] is None else pytest.approx(expected[name], abs=1e-12)), name


grids = st.integers(2, 14).flatmap(
    lambda n: st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=n, max_size=n)
)


@settings(max_examples=60, deadline=None)
@given(made=grids, real=grids, k=st.integers(1, 4), far=st.sampled_from([0.0, 1000.0]))
def test_ties_and_repeated_points_are_counted_alike(
    made: list[tuple[int, int]], real: list[tuple[int, int]], k: int, far: float
) -> None:
    """Points of a grid: most distances are equal to another, many are 0; rounding must decide nothing."""
    y, x = np.array(made, dtype=float), np.array(real, dtype=float)
    expected, found = by_definition(y, x, k), neighbour_scores(y + far, x + far, k)
    for name in NAMES:
        assert found[name] == (None if expected[name] is None else pytest.approx(expected[name], abs=1e-12)), name


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_set_that_is_the_real_images_has_all_four_at_one(kind: type) -> None:
    points = np.random.default_rng(0).normal(size=(60, 8)).astype(kind)
    for features in (points, torch.from_numpy(points), torch.from_numpy(points).requires_grad_()):
        assert neighbour_scores(features, points) == dict.fromkeys(NAMES, pytest.approx(1))


def test_a_set_elsewhere_has_none_and_a_collapsed_one_is_precise_but_covers_little() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(200, 3))
    assert neighbour_scores(real + 100, real) == dict.fromkeys(NAMES, 0)
    collapsed = neighbour_scores(rng.normal(size=(50, 3)) * 0.05, real)
    assert collapsed["precision"] == 1
    assert collapsed["recall"] == 0
    assert collapsed["density"] is not None and collapsed["density"] > 0.5
    assert collapsed["coverage"] is not None and collapsed["coverage"] < 0.3


def test_a_report_has_every_class_by_itself_and_says_what_is_missing() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    of_real = np.repeat([0, 1, 2], [30, 30, 4])
    real = centres[of_real] + rng.normal(size=(64, 2))
    # Class 0: eight of its own real images. Class 1: one image, which looks like class 0. Class 2: none.
    made, of_made = np.concatenate([real[:8], real[8:9]]), np.array([0] * 8 + [1])
    report = coverage_report(made, of_made.tolist(), torch.from_numpy(real), of_real, "an encoder")
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert (report["space"], report["k"]) == ("an encoder", 5)
    whole = neighbour_scores(made, real)
    assert {name: report["all"][name] for name in NAMES} == {name: pytest.approx(whole[name]) for name in NAMES}
    assert (report["all"]["made"], report["all"]["real"]) == (9, 64)
    first, second, third = report["classes"]
    assert [row["label"] for row in report["classes"]] == [0, 1, 2]
    assert first["precision"] == 1
    assert first["coverage"] == by_definition(real[:8], real[:30], 5)["coverage"]
    assert (second["precision"], second["coverage"], second["recall"]) == (0, 0, None), "it lies among another class"
    assert [third[name] for name in NAMES] == [None] * 4
    assert report["within_classes"]["precision"] == 0.5
    assert report["within_classes"]["recall"] == first["recall"]
    assert report["notes"] == [
        "Recall needs more than 5 images of the set in a class: 1 of 3 have no more.",
        "The set has no image of 1 of 3 classes.",
        "1 of 3 classes have too few real images for 5 neighbours, and no score.",
    ]


def test_one_image_a_class_has_no_recall_within_classes_and_says_so() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(6), 10)
    real = rng.normal(size=(60, 4))
    report = coverage_report(real[::10], range(6), real, labels, "pixels")  # type: ignore[arg-type]
    assert report["within_classes"]["recall"] is None
    assert report["within_classes"]["coverage"] > 0
    assert report["all"]["recall"] is not None, "six images are more than k"
    assert report["notes"] == ["Recall needs more than 5 images of the set in a class: 6 of 6 have no more."]


def test_many_real_images_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "MOST", 20)
    labels = np.tile([0, 1], 50)
    real = np.random.default_rng(4).normal(size=(100, 3)) + 100 * labels[:, None]
    report = coverage_report(real[:40], labels[:40], real, labels, "x")
    assert report["all"]["real"] == 20
    assert report["all"]["coverage"] is not None and report["all"]["coverage"] > 0.5, "both classes are among the 20"
    assert report["classes"][0]["real"] == 50
    assert report["notes"] == ["As a whole, the set is measured against 20 of the 100 real images, evenly spaced."]


def test_what_does_not_fit_is_named() -> None:
    points = np.ones((8, 3))
    with pytest.raises(ValueError, match="2 dimensions and real ones 3"):
        neighbour_scores(np.ones((4, 2)), points)
    with pytest.raises(ValueError, match="finite features"):
        neighbour_scores(np.full((4, 3), np.nan), points)
    with pytest.raises(ValueError, match="k is 0"):
        neighbour_scores(points, points, k=0)
    with pytest.raises(ValueError, match="8 made features need as many labels"):
        coverage_report(points, [0], points, [0] * 8, "x")
    with pytest.raises(ConcordError, match="images of label 3, which no real image has"):
        coverage_report(points, [3] * 8, points, [0] * 8, "x")
