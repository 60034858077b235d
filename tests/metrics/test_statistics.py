"""Who reads that one set is better bets on it: intervals and p values are those of the statistics libraries."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from concord.metrics.statistics import paired, summary, unpaired

FIRST = [38.1, 38.9, 37.2, 40.0, 36.5]
SECOND = [39.0, 40.1, 37.9, 40.2, 38.3]


def test_the_paired_interval_is_students_t_of_the_differences() -> None:
    found = paired(FIRST, SECOND)
    assert found is not None
    expected = stats.ttest_rel(SECOND, FIRST).confidence_interval(0.95)
    assert found.ci95 == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert found.mean == pytest.approx(np.mean(SECOND) - np.mean(FIRST))
    assert found.n == 5


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_p_is_the_share_of_all_flips_that_reach_as_far(n: int) -> None:
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=n), rng.normal(size=n) + 0.5
    found = paired(first.tolist(), second.tolist())
    assert found is not None
    differences = second - first
    means = [float(np.mean(differences * signs)) for signs in product((1, -1), repeat=n)]
    assert found.p == pytest.approx(np.mean([abs(mean) >= abs(differences.mean()) - 1e-12 for mean in means]))


def test_three_seeds_that_agree_have_the_smallest_p_that_three_can_have() -> None:
    found = paired([1.0, 2.0, 3.0], [2.0, 3.5, 4.1])
    assert found is not None and found.p == 0.25
    back = paired([2.0, 3.5, 4.1], [1.0, 2.0, 3.0])
    assert back is not None and (back.p, back.mean) == (0.25, -found.mean)


def test_no_difference_is_no_difference_and_a_constant_one_is_a_point() -> None:
    same = paired(FIRST, FIRST)
    assert same is not None and (same.mean, same.ci95, same.p) == (0, (0, 0), 1)
    shifted = paired([1.0, 2.0, 4.0], [2.0, 3.0, 5.0])
    assert shifted is not None and (shifted.ci95, shifted.p) == ((1, 1), 0.25)


def test_many_seeds_have_a_p_that_is_drawn_and_the_same_every_time() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=30)
    second = first + 0.3 + rng.normal(size=30)
    one, two = (paired(first.tolist(), second.tolist()) for _ in range(2))
    assert one is not None and one == two
    assert one.p == pytest.approx(stats.ttest_rel(second, first).pvalue, abs=0.01)


def test_pairs_of_seeds_find_what_welch_cannot() -> None:
    """Seeds differ far more than the sets: only the pairs show that the second is better every time."""
    first = [30.0, 35.0, 40.0, 45.0]
    second = [31.0, 36.2, 40.9, 46.0]
    by_pairs = paired(first, second)
    apart = unpaired(
        (float(np.mean(first)), float(np.mean(second))),
        (float(np.std(first, ddof=1)), float(np.std(second, ddof=1))),
        (4, 4),
    )
    assert by_pairs is not None and by_pairs.ci95[0] > 0
    assert apart is not None and apart.ci95[0] < 0 < apart.ci95[1]


def test_without_pairs_it_is_welchs_interval() -> None:
    other = [41.0, 43.5, 42.2]
    found = unpaired(
        (float(np.mean(FIRST)), float(np.mean(other))),
        (float(np.std(FIRST, ddof=1)), float(np.std(other, ddof=1))),
        (5, 3),
    )
    assert found is not None
    expected = stats.ttest_ind(other, FIRST, equal_var=False).confidence_interval(0.95)
    assert found.ci95 == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert (found.n, found.p) == (8, None)
    still = unpaired((1.0, 2.0), (0.0, 0.0), (3, 3))
    assert still is not None and still.ci95 == (1, 1)


def test_one_seed_says_nothing() -> None:
    assert paired([1.0], [2.0]) is None
    assert paired([], []) is None
    assert unpaired((1.0, 2.0), (0.0, 0.5), (1, 3)) is None
    with pytest.raises(ValueError, match="2 and 3 values are no pairs"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_a_summary_has_the_sample_standard_deviation() -> None:
    assert summary([1, 2, 4]) == {"mean": pytest.approx(7 / 3), "std": pytest.approx(1.5275252), "values": [1, 2, 4]}
    assert summary([5.0]) == {"mean": 5, "std": 0, "values": [5]}
