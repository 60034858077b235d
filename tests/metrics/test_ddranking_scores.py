"""DD-Ranking's scores: a figure that goes into another project's table must be that project's."""

from __future__ import annotations

import pytest

from concord.metrics.ddranking import augmentation_robust_score, label_robust_score


def test_hand_arithmetic() -> None:
    """HLR 84.5 - 31.0 = 53.5, IOR 60.0 - 50.0 = 10.0; (0.10 - 0.535) / 2 = -0.2175.

    exp(-0.2175) = 0.804528, exp(-1) = 0.367879, e - exp(-1) = 2.350402: (0.804528 - 0.367879) / 2.350402 = 0.185776.
    """
    found = label_robust_score(full_hard=84.5, made_hard=31.0, made_any=60.0, random_any=50.0)
    assert found == {"score": pytest.approx(18.5776, abs=1e-4), "hlr": 53.5, "ior": 10.0, "weight": 0.5}
    # (0.06 + 0.02) / 2 = 0.04; exp(0.04) = 1.040811: (1.040811 - 0.367879) / 2.350402 = 0.286305.
    found = augmentation_robust_score(made_augmented=46.0, random_augmented=40.0, made_plain=32.0, random_plain=30.0)
    assert found == {"score": pytest.approx(28.6305, abs=1e-4), "augmented": 6.0, "plain": 2.0, "weight": 0.5}


def test_the_scale_runs_from_the_worst_to_the_best_that_there_can_be() -> None:
    worst = label_robust_score(full_hard=100, made_hard=0, made_any=0, random_any=100)
    best = augmentation_robust_score(made_augmented=100, random_augmented=0, made_plain=100, random_plain=0)
    assert worst["score"] == pytest.approx(0)
    assert best["score"] == pytest.approx(100)
    # As good as random images, and as the full set under hard labels: (1 - 1/e) / (e - 1/e) = 1 / (e + 1).
    even = label_robust_score(full_hard=40, made_hard=40, made_any=70, random_any=70)
    assert even["score"] == pytest.approx(100 / (2.718281828459045 + 1))


def test_the_weight_goes_to_the_part_that_its_definition_names() -> None:
    accuracies = {"full_hard": 80.0, "made_hard": 50.0, "made_any": 70.0, "random_any": 60.0}
    only_recovery = label_robust_score(**accuracies, weight=0)["score"]
    only_improvement = label_robust_score(**accuracies, weight=1)["score"]
    assert only_recovery == pytest.approx(100 * (0.740818 - 0.367879) / 2.350402, abs=1e-3)  # exp(-0.3)
    assert only_improvement == pytest.approx(100 * (1.105171 - 0.367879) / 2.350402, abs=1e-3)  # exp(0.1)
    plain = augmentation_robust_score(made_augmented=0, random_augmented=0, made_plain=35, random_plain=25, weight=0)
    assert plain["score"] == pytest.approx(only_improvement)


def test_a_teachers_gain_alone_does_not_raise_the_score() -> None:
    """Soft labels lift the made set and random images alike: the accuracy grows by 20 points, the score by nothing."""
    hard = label_robust_score(full_hard=80, made_hard=30, made_any=30, random_any=25)
    soft = label_robust_score(full_hard=80, made_hard=30, made_any=50, random_any=45)
    assert soft == hard


@pytest.mark.parametrize("wrong", [{"made_any": 101.0}, {"random_any": -1.0}, {"full_hard": float("nan")}])
def test_an_accuracy_out_of_range_is_named(wrong: dict[str, float]) -> None:
    accuracies = {"full_hard": 80.0, "made_hard": 50.0, "made_any": 70.0, "random_any": 60.0}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        label_robust_score(**{**accuracies, **wrong})
    with pytest.raises(ValueError, match="weight is 2"):
        label_robust_score(**accuracies, weight=2)
