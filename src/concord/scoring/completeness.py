"""Completeness, counted: which of its class's details an image shows, and how sure a difference between two sets is.

Pure functions on boolean tables; where the booleans come from is a scorer's business (`scorer.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BOOTSTRAP = 4000
"""Resamples behind an interval."""


@dataclass(frozen=True)
class Counts:
    """Per image: the share of its class's details found, and how many found that the class does not have; (N,) each."""

    share: np.ndarray
    foreign: np.ndarray

    @property
    def complete(self) -> np.ndarray:
        """Images with every detail of their class, (N,)."""
        return self.share == 1.0

    def summary(self) -> dict[str, float | int]:
        """Means over images, as `results.json` has them."""
        return {
            "mean": float(self.share.mean()),
            "complete": float(self.complete.mean()),
            "foreign": float(self.foreign.mean()),
            "n": len(self.share),
        }


def count_details(found: np.ndarray, own: np.ndarray) -> Counts:
    """Count own and foreign details.

    Args:
        found: details that a scorer finds in each image, booleans (N, K).
        own: details that each image's class has, booleans (N, K), at least one an image.

    Raises:
        ValueError: the shapes differ or an image's class has no detail.
    """
    if found.shape != own.shape:
        raise ValueError(f"found has shape {found.shape}, own has {own.shape}; they must be equal")
    if not own.any(1).all():
        raise ValueError("every image's class needs at least one detail")
    return Counts((found & own).sum(1) / own.sum(1), (found & ~own).sum(1))


def paired_interval(
    informed: np.ndarray,
    uninformed: np.ndarray,
    groups: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float] | None = None,
    seed: int = 0,
) -> dict[str, object]:
    """Difference between paired samples with a 95 % percentile bootstrap interval, resampled within groups.

    Args:
        informed, uninformed: values of the same samples in the same order, (N, ...).
        groups: class of each sample, (N,); resampling keeps the count of every class.
        statistic: (values, groups) to a number; the mean over samples by default.

    Returns:
        {"mean": difference, "ci95": [low, high]}.
    """
    rng = np.random.default_rng(seed)
    resample = _resampling(groups, rng)
    resamples = (resample() for _ in range(BOOTSTRAP))
    if statistic is None:
        difference = informed.astype(float) - uninformed.astype(float)
        point = float(difference.mean())
        draws = [difference[i].mean() for i in resamples]
    else:
        point = statistic(informed, groups) - statistic(uninformed, groups)
        draws = [statistic(informed[i], groups[i]) - statistic(uninformed[i], groups[i]) for i in resamples]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": point, "ci95": [float(low), float(high)]}


def _resampling(groups: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """A function that draws positions with replacement within each group, (N,); groups of one size at a stroke."""
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    count = len(members[0])
    if any(len(m) != count for m in members):
        return lambda: np.concatenate([rng.choice(m, len(m)) for m in members])
    table = np.stack(members)
    # The draws are those of a `rng.choice` for each group in turn, a hundred times as fast for 1000 classes.
    return lambda: np.take_along_axis(table, rng.integers(0, count, table.shape), axis=1).ravel()


def spread_within_classes(values: np.ndarray, groups: np.ndarray) -> float:
    """Diversity: standard deviation of each column within each class, averaged over classes and columns.

    Args:
        values: (N, D), such as nuisances that a regressor reads; columns of about unit deviation in real images.
        groups: class of each row, (N,). Classes with fewer than two rows are left out; 0 if none remains.
    """
    deviations = [values[groups == g].std(0, ddof=1) for g in np.unique(groups) if (groups == g).sum() > 1]
    return float(np.mean(deviations)) if deviations else 0.0
