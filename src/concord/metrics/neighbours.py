"""How well a made set lies on the real images, and how much of them it covers: counts of nearest neighbours.

Precision and recall: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models"
(NeurIPS 2019). Density and coverage: Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models"
(ICML 2020). With R(x) the distance from x to its k-th nearest neighbour in its own set, itself left out:

    precision = share of made y with |y - x| < R(x) for some real x
    recall    = share of real x with |x - y| < R(y) for some made y
    density   = mean over made y of the number of real x with |y - x| < R(x), divided by k
    coverage  = share of real x with |y - x| < R(x) for some made y

Balls are open, as in the code of Naeem et al.: two equal sets without repeated points have all four at 1. A real point
with k copies of itself has an empty ball, and is never covered. A few images cover little: compare coverage only
between sets of one size, such as a random one. Distances, and so all four, depend on the features: name them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from concord.data.sampling import spread
from concord.errors import ConcordError

K = 5
"""Neighbours: as Naeem et al. choose it."""
BLOCK = 1024
"""Rows of distances that are held at once."""
ALIKE = 1e-6
"""Points nearer than this share of their distance from the real mean are one point, for double precision."""
MOST = 10_000
"""Real images against which a set as a whole is measured; of more, as many evenly spaced over the classes."""
NAMES = ("precision", "recall", "density", "coverage")
Features = np.ndarray | torch.Tensor


def neighbour_scores(made: Features, real: Features, k: int = K) -> dict[str, float | None]:
    """Precision, recall, density and coverage, by `NAMES`, of made points (M, D) among real ones (N, D), of one space.

    None where a radius has no k-th neighbour (all four with N <= k; recall with M <= k, as at one image a class), and
    precision, recall and density of an empty made set, which covers nothing. Raises ValueError: the features do not fit
    together or are not finite, or k is less than 1.
    """
    y, x = _points(made), _points(real)
    if y.shape[1] != x.shape[1]:
        raise ValueError(f"made features have {y.shape[1]} dimensions and real ones {x.shape[1]}: expected one space")
    if k < 1:
        raise ValueError(f"k is {k}: expected at least 1 neighbour")
    scores: dict[str, float | None] = dict.fromkeys(NAMES)
    if len(x) <= k:
        return scores
    y, x = y - x.mean(0), x - x.mean(0)  # far from 0, differences would drown in the rounding of squares
    inside = torch.zeros(len(y), dtype=torch.long)  # (M,) real balls that hold y
    covered = 0
    for block, radii in zip(x.split(BLOCK), _radii(x, k).split(BLOCK), strict=True):
        within = _distances(block, y) < radii[:, None]  # (B, M)
        inside += within.sum(0)
        covered += int(within.any(1).sum())
    scores["coverage"] = covered / len(x)
    if len(y):
        scores["precision"] = float((inside > 0).double().mean())
        scores["density"] = float(inside.double().mean()) / k
    if len(y) > k:
        radii = _radii(y, k)
        scores["recall"] = sum(int((_distances(block, y) < radii).any(1).sum()) for block in x.split(BLOCK)) / len(x)
    return scores


def coverage_report(
    features_made: Features,
    labels_made: Sequence[int] | np.ndarray | torch.Tensor,
    features_real: Features,
    labels_real: Sequence[int] | np.ndarray | torch.Tensor,
    space_name: str,
    k: int = K,
) -> dict[str, Any]:
    """`neighbour_scores` of a set as a whole, of each class among its own real images, and their means, as JSON.

    Features are (M, D) and (N, D) with labels (M,) and (N,), in the space that `space_name` names to a reader. Returns
    {"space", "k", "all": scores with "made" and "real" counts, "within_classes": means over the classes that have the
    score, "classes": [scores with "label" and counts, by label], "notes": what is None or cut, and why}. A
    ConcordError: the made set has a class without real images.
    """
    y, x = _points(features_made), _points(features_real)
    of_made, of_real = np.asarray(labels_made), np.asarray(labels_real)
    for name, points, labels in (("made", y, of_made), ("real", x, of_real)):
        if labels.shape != (len(points),):
            raise ValueError(f"{len(points)} {name} features need as many labels, got {labels.shape}")
    if alien := sorted(set(of_made.tolist()) - set(of_real.tolist())):
        text = f"the set has images of label {alien[0]}, which no real image has"
        raise ConcordError(f"{text}: expected the same classes")
    some = np.argsort(of_real, kind="stable")[spread(len(x), MOST)]
    classes = [
        {"label": int(label), **_counted(y[of_made == label], x[of_real == label], k)} for label in np.unique(of_real)
    ]
    return {
        "space": space_name,
        "k": k,
        "all": _counted(y, x[some], k),
        "within_classes": {name: _mean([scores[name] for scores in classes]) for name in NAMES},
        "classes": classes,
        "notes": _notes(classes, len(x), k),
    }


def _counted(made: torch.Tensor, real: torch.Tensor, k: int) -> dict[str, Any]:
    return {**neighbour_scores(made, real, k), "made": len(made), "real": len(real)}


def _notes(classes: Sequence[dict[str, Any]], real: int, k: int) -> list[str]:
    notes = []
    if few := sum(0 < scores["made"] <= k for scores in classes):
        notes.append(f"Recall needs more than {k} images of the set in a class: {few} of {len(classes)} have no more.")
    if empty := sum(not scores["made"] for scores in classes):
        notes.append(f"The set has no image of {empty} of {len(classes)} classes.")
    if thin := sum(scores["real"] <= k for scores in classes):
        notes.append(f"{thin} of {len(classes)} classes have too few real images for {k} neighbours, and no score.")
    if real > MOST:
        notes.append(f"As a whole, the set is measured against {MOST} of the {real} real images, evenly spaced.")
    return notes


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _radii(points: torch.Tensor, k: int) -> torch.Tensor:
    """Distance of each point to its k-th nearest other, (N,), less `ALIKE` of it, so that that one stays outside."""
    nearest = [_distances(block, points).topk(k + 1, largest=False).values for block in points.split(BLOCK)]
    return (1 - ALIKE) * torch.cat(nearest)[:, -1]  # the nearest of all is the point itself


def _distances(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Euclidean distances (A, B) as products of matrices, a dozen times as fast as one by one; equal points at 0."""
    distances = torch.cdist(a, b, compute_mode="use_mm_for_euclid_dist")
    return distances.where(distances > ALIKE * (a.norm(dim=1)[:, None] + b.norm(dim=1)), 0.0)


def _points(features: Features) -> torch.Tensor:
    """Features as (N, D) on the CPU, in double precision."""
    points = torch.as_tensor(features).detach().cpu().double()
    if points.ndim != 2 or not torch.isfinite(points).all():
        raise ValueError(f"expected finite features (N, D), got {tuple(points.shape)}")
    return points
