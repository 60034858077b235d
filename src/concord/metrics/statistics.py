"""Whether one set is better than another, from the accuracies of students over seeds: second less first.

A seed fixes a student's first weights and its order of batches, so that two sets compared with the same seeds are
pairs, and what the seeds have in common does not widen the interval. Spreads are sample standard deviations (n - 1);
the tables of the field mostly give numpy's default (n): 0.82 of it for three seeds.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

EXACT = 16
"""Up to as many pairs, every flip of signs is tried; of more, a fixed draw of as many flips as 16 pairs have."""


@dataclass(frozen=True)
class Difference:
    """Second less first, in the unit of what was compared.

    ci95: its 95 % interval. n: seeds that it rests on, of pairs each once. p: two-sided; None where it is not computed.
    """

    mean: float
    ci95: tuple[float, float]
    n: int
    p: float | None = None


def summary(values: Sequence[float]) -> dict[str, float | list[float]]:
    """Mean, sample standard deviation (ddof=1; 0 for one value) and the values of a measure over seeds, as JSON."""
    numbers = [float(value) for value in values]
    spread = float(np.std(numbers, ddof=1)) if len(numbers) > 1 else 0.0
    return {"mean": float(np.mean(numbers)), "std": spread, "values": numbers}


def paired(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """The difference of two sets over the same seeds, in the same order; None with fewer than two.

    The interval is Student's t of the n differences. p is the exact sign-flip permutation test's: of all 2^n ways to
    swap the two sets within seeds, the share whose mean difference is as far from 0 as the one found. It assumes
    nothing of the distribution, and cannot be less than 2 / 2^n: three seeds never reach below 0.25, six are the fewest
    that reach below 0.05. Raises ValueError: the two differ in length.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are no pairs: expected one of each for every seed")
    n = len(first)
    if n < 2:
        return None
    from scipy.stats import permutation_test, t

    differences = np.asarray(second, dtype=float) - np.asarray(first, dtype=float)
    mean = float(differences.mean())
    reach = float(t.ppf(0.975, n - 1)) * float(differences.std(ddof=1)) / math.sqrt(n)
    flips = permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=2**EXACT, random_state=0
    )
    return Difference(mean, (mean - reach, mean + reach), n, float(flips.pvalue))


def unpaired(means: tuple[float, float], spreads: tuple[float, float], counts: tuple[int, int]) -> Difference | None:
    """Welch's difference of two means over seeds of their own, whose spreads may differ; None with fewer than two.

    means: of the first and the second. spreads: their sample standard deviations (ddof=1). counts: their seeds.
    """
    if min(counts) < 2:
        return None
    from scipy.stats import t

    mean = means[1] - means[0]
    parts = [spread**2 / n for spread, n in zip(spreads, counts, strict=True)]
    if not sum(parts):
        return Difference(mean, (mean, mean), sum(counts))
    freedom = sum(parts) ** 2 / sum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True))
    reach = float(t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return Difference(mean, (mean - reach, mean + reach), sum(counts))


BOOTSTRAP = 4000
"""Resamples behind an interval."""
SMALL = 10
"""Images a class below which a bootstrap is too narrow by more than a few per cent, and is corrected."""


def paired_interval(
    informed: np.ndarray,
    uninformed: np.ndarray,
    groups: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], float] | None = None,
    seed: int = 0,
) -> dict[str, object]:
    """Difference between paired samples with a 95 % percentile bootstrap interval: {"mean", "ci95": [low, high]}.

    informed, uninformed: values of the same samples in the same order, (N, ...). groups: class of each sample, (N,),
    whose counts resampling keeps. statistic: (values, groups) to a number; the mean over samples by default.

    Resamples of few differ less than samples do: below `SMALL` a class the interval is widened by
    sqrt(N / (N - classes)), as a sample variance is unbiased, and to Student's t of N - classes degrees of freedom
    (Hesterberg 2015, The American Statistician 69(4)). With one a class they do not differ: "ci95" is None.
    """
    rng = np.random.default_rng(seed)
    classes = len(np.unique(groups))
    freedom = len(groups) - classes
    resample = _resampling(groups, rng)
    resamples = (resample() for _ in range(BOOTSTRAP if freedom else 0))
    if statistic is None:
        difference = informed.astype(float) - uninformed.astype(float)
        point = float(difference.mean())
        draws = [difference[i].mean() for i in resamples]
    else:
        point = statistic(informed, groups) - statistic(uninformed, groups)
        draws = [statistic(informed[i], groups[i]) - statistic(uninformed[i], groups[i]) for i in resamples]
    if not freedom:
        return {"mean": point, "ci95": None}
    ends = np.percentile(draws, [2.5, 97.5])
    if len(groups) < SMALL * classes:
        from scipy.stats import norm, t

        ends = point + (ends - point) * math.sqrt(len(groups) / freedom) * t.ppf(0.975, freedom) / norm.ppf(0.975)
    return {"mean": point, "ci95": ends.tolist()}


def _resampling(groups: np.ndarray, rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """A function that draws positions with replacement within each group, (N,); groups of one size at a stroke."""
    members = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    count = len(members[0])
    if any(len(m) != count for m in members):
        return lambda: np.concatenate([rng.choice(m, len(m)) for m in members])
    table = np.stack(members)
    # The draws are those of a `rng.choice` for each group in turn, a hundred times as fast for 1000 classes.
    return lambda: np.take_along_axis(table, rng.integers(0, count, table.shape), axis=1).ravel()
