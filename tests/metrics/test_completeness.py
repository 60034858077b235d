"""Completeness and its intervals: the figures that a run is judged by."""

import numpy as np
import pytest

from concord.metrics.completeness import count_details, spread_within_classes
from concord.metrics.statistics import BOOTSTRAP, paired_interval


def test_counts_by_hand() -> None:
    own = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]], dtype=bool)
    found = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)
    counts = count_details(found, own)
    assert counts.share.tolist() == [1.0, 0.5, 0.0]
    assert counts.foreign.tolist() == [1, 0, 2]
    assert counts.summary() == {"mean": 0.5, "complete": 1 / 3, "foreign": 1.0, "n": 3}


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        count_details(np.ones((2, 3), bool), np.ones((2, 4), bool))
    with pytest.raises(ValueError, match="at least one detail"):
        count_details(np.ones((2, 3), bool), np.zeros((2, 3), bool))


def test_paired_interval_matches_the_normal_approximation() -> None:
    """An independent reference: mean +- 1.96 standard errors of the paired differences."""
    rng = np.random.default_rng(1)
    base = rng.normal(size=600)
    better = base + 0.2 + 0.3 * rng.normal(size=600)
    result = paired_interval(better, base, np.zeros(600))
    d = better - base
    assert result["mean"] == pytest.approx(d.mean())
    half = 1.96 * d.std(ddof=1) / np.sqrt(600)
    assert result["ci95"] == pytest.approx([d.mean() - half, d.mean() + half], abs=0.15 * half)


def test_pairing_removes_what_samples_share() -> None:
    """Noise that both sets share must not widen the interval."""
    rng = np.random.default_rng(2)
    base = 100 * rng.normal(size=200)
    low, high = paired_interval(base + 1, base, np.arange(200) % 10)["ci95"]  # type: ignore[misc]
    assert (low, high) == pytest.approx((1, 1))


def test_spread_is_within_classes_only() -> None:
    rng = np.random.default_rng(3)
    values, groups = rng.normal(size=(4000, 2)), np.arange(4000) % 4
    shifted = values + 50 * groups[:, None]
    assert spread_within_classes(values, groups) == pytest.approx(1, abs=0.03)
    assert spread_within_classes(shifted, groups) == pytest.approx(spread_within_classes(values, groups))
    assert spread_within_classes(values[:1], groups[:1]) == 0.0


def test_interval_of_a_statistic() -> None:
    rng = np.random.default_rng(4)
    groups = np.arange(400) % 5
    wide, narrow = rng.normal(size=(400, 3)), 0.5 * rng.normal(size=(400, 3))
    result = paired_interval(narrow, wide, groups, spread_within_classes)
    low, high = result["ci95"]  # type: ignore[misc]
    assert low < -0.5 < high < 0


@pytest.mark.parametrize("groups", [np.repeat([5, 2, 9], 4), np.array([5, 2, 2, 9, 9, 9]), np.arange(12) % 3])
def test_resampling_is_that_of_each_class_in_turn(groups: np.ndarray) -> None:
    """Whatever is drawn at a stroke: figures published earlier keep their intervals."""
    values = np.random.default_rng(5).normal(size=len(groups))
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    draws = [values[np.concatenate([rng.choice(m, len(m)) for m in members])].mean() for _ in range(BOOTSTRAP)]
    low, high = np.percentile(draws, [2.5, 97.5])
    assert paired_interval(values, np.zeros(len(groups)), groups)["ci95"] == pytest.approx([low, high])
