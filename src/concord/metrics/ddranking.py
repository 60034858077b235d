"""DD-Ranking's scores: how much of an accuracy is owed to the images, and not to soft labels or augmentation.

Source: Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (arXiv 2505.13300) and its project's
documentation. Both scores map a weighted sum s of accuracy differences, as fractions in [-1, 1], to per cent:

    score(s) = 100 (exp(s) - exp(-1)) / (exp(1) - exp(-1))

so that 0 is as bad and 100 as good as can be. A set that is worth as much as random real images (s = 0) scores 26.89.

The release 0.2.0 of their package puts differences in percentage points into the exponential, where the definition
needs fractions: what it prints leaves the range. These functions keep to the definition; HLR and IOR agree with it.
"""

import math

WEIGHT = 0.5
"""DD-Ranking's default for both scores: the two parts count alike."""


def label_robust_score(
    *, full_hard: float, made_hard: float, made_any: float, random_any: float, weight: float = WEIGHT
) -> dict[str, float]:
    """LRS: what a set keeps of the full data under hard labels, and gains over random images under its own protocol.

        HLR = full_hard - made_hard        hard label recovery: less is better
        IOR = made_any - random_any        improvement over random: more is better
        LRS = score(weight IOR - (1 - weight) HLR)

    Accuracies in per cent, means over seeds: of a student trained on the full real set with hard labels, on the made
    set with hard labels, on the made set with the method's own protocol (soft labels, mostly), and on as many random
    real images with that protocol. (The package scores each of its runs and averages the scores; the two differ only by
    the curvature of the exponential over the spread of the runs.) Returns `score` in per cent, `hlr` and `ior` in
    percentage points, and `weight`. Raises ValueError: an accuracy is outside [0, 100], or the weight outside [0, 1].
    """
    _check(weight, full_hard=full_hard, made_hard=made_hard, made_any=made_any, random_any=random_any)
    hlr, ior = full_hard - made_hard, made_any - random_any
    return {"score": _score(weight * ior - (1 - weight) * hlr), "hlr": hlr, "ior": ior, "weight": weight}


def augmentation_robust_score(
    *, made_augmented: float, random_augmented: float, made_plain: float, random_plain: float, weight: float = WEIGHT
) -> dict[str, float]:
    """ARS: what a set gains over random real images with the protocol's augmentation and without any.

        ARS = score(weight (made_augmented - random_augmented) + (1 - weight) (made_plain - random_plain))

    Accuracies in per cent of students trained on the made set and on as many random real images, with the protocol's
    augmentation and with none. Returns `score` in per cent, the differences `augmented` and `plain` in percentage
    points, and `weight`. Raises ValueError as `label_robust_score`.
    """
    _check(
        weight,
        made_augmented=made_augmented,
        random_augmented=random_augmented,
        made_plain=made_plain,
        random_plain=random_plain,
    )
    augmented, plain = made_augmented - random_augmented, made_plain - random_plain
    score = _score(weight * augmented + (1 - weight) * plain)
    return {"score": score, "augmented": augmented, "plain": plain, "weight": weight}


def _score(points: float) -> float:
    """A weighted sum in percentage points, put between the worst (0) and the best (100) that there can be."""
    return 100 * (math.exp(points / 100) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(weight: float, **accuracies: float) -> None:
    for name, value in accuracies.items():
        if not 0 <= value <= 100:
            raise ValueError(f"{name} is {value}: expected an accuracy in per cent, from 0 to 100")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}: expected a number from 0 to 1")
