"""Choices from a pool, held against brute force; what is taken first never depends on what comes later."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from concord.methods.choice import (
    CHOICES,
    Choice,
    by_clusters,
    medoids,
    one_by_one,
    quantile,
    spread_evenly,
    whole_groups,
)


def points(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


REAL, POOL = points(40, 0), points(24, 1)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ((a[:, None].astype(float) - b[None]) ** 2).sum(-1)


def objective(kind: str, chosen: list[int]) -> float:
    """What a kind wants small, of a whole set, written out."""
    if kind == "herding":
        return float(((REAL.mean(0) - POOL[chosen].mean(0)) ** 2).sum())
    return float(distances(REAL, POOL[chosen]).min(1).mean())


@pytest.mark.parametrize("kind", ["coverage", "herding"])
def test_each_next_is_the_best_given_those_before(kind: str) -> None:
    order = list(one_by_one(CHOICES[kind](REAL, POOL), len(POOL)))
    assert sorted(order) == list(range(len(POOL)))
    for k in range(len(order)):
        rest = [n for n in range(len(POOL)) if n not in order[:k]]
        assert order[k] == min(rest, key=lambda n: objective(kind, [*order[:k], n]))


def test_coverage_keeps_the_bound_of_a_greedy_choice() -> None:
    order = list(one_by_one(CHOICES["coverage"](REAL, POOL), len(POOL)))[:3]
    best = min(objective("coverage", list(some)) for some in itertools.combinations(range(len(POOL)), 3))
    nothing = float(distances(REAL, POOL).max())
    assert nothing - objective("coverage", order) >= (1 - 1 / np.e) * (nothing - best)


def test_kcenter_serves_the_real_image_that_is_farthest() -> None:
    order, d = list(one_by_one(CHOICES["kcenter"](REAL, POOL), len(POOL))), distances(REAL, POOL)
    assert order[0] == d.max(0).argmin()
    for k in range(1, len(order)):
        farthest = d[:, order[:k]].min(1).argmax()
        rest = [n for n in range(len(POOL)) if n not in order[:k]]
        assert order[k] == min(rest, key=lambda n: d[farthest, n])


@pytest.mark.parametrize("kind", CHOICES)
@pytest.mark.parametrize("each", [2, 4])
def test_a_pool_that_grows_changes_no_choice_before(kind: str, each: int) -> None:
    def order(size: int) -> list[int]:
        return list(one_by_one(CHOICES[kind](REAL, POOL[:size]), size, each))

    whole = order(24)
    assert len(whole) == 24 // each
    assert all(row < each * (place + 1) for place, row in enumerate(whole))
    for size in range(each, 24, each):
        assert order(size) == whole[: size // each]
    assert any(row < each * place for place, row in enumerate(whole))  # what was left over may come later


def test_equal_images_are_each_taken_once() -> None:
    same = np.zeros((6, 2), np.float32)
    for kind in CHOICES:
        assert list(one_by_one(CHOICES[kind](same, same), 6)) == list(range(6))


def test_difficulties_are_spread_as_those_of_real_images() -> None:
    assert [quantile(n) for n in range(7)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
    real, easy = np.linspace(0, 1, 101), np.concatenate([np.full(30, 0.05), np.linspace(0, 1, 10)])
    pool = points(40, 2)

    def spread(choice: Choice) -> float:
        rows = list(itertools.islice(one_by_one(choice, 40, allowed=spread_evenly(easy, real)), 8))
        return float(np.std(easy[rows]))

    plain = list(itertools.islice(one_by_one(CHOICES["herding"](REAL, pool), 40), 8))
    assert spread(CHOICES["herding"](REAL, pool)) > np.std(easy[plain]) + 0.1


def test_of_groups_the_one_is_taken_that_is_most_its_own_class_and_least_another() -> None:
    means = [np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0.6, 0.8, 0])]
    pool = np.abs(points(24, 3)) + 0.1

    def score(rows: list[int]) -> float:
        total = pool[rows].astype(float).sum(0)
        cosine = [total @ mean / np.linalg.norm(total) / np.linalg.norm(mean) for mean in means]
        return float(cosine[0] - max(cosine[1:]))

    order = list(whole_groups(means, 0, pool, 4, 2))
    assert len(order) == 6
    for block in range(3):
        groups = [[8 * block + 2 * n, 8 * block + 2 * n + 1] for n in range(4)]
        taken = order[2 * block : 2 * block + 2]
        assert taken == max(groups, key=lambda rows: score(order[: 2 * block] + rows))
    assert list(whole_groups(means, 0, pool[:8], 4, 2)) == order[:2]


def test_medoids_begin_with_the_middle_and_clusters_take_turns() -> None:
    three = np.concatenate([points(12, 4) * 0.1, points(7, 5) * 0.1 + 5, points(4, 6) * 0.1 - 5])
    owners = np.repeat([0, 1, 2], [12, 7, 4])
    order = list(medoids(three))
    assert order[0] == distances(three, three).mean(1).argmin()
    assert sorted(owners[order[:3]]) == [0, 1, 2]
    order = list(by_clusters(three, 3, seed=1))
    assert owners[order[:6]].tolist() == [0, 1, 2, 0, 1, 2]
    assert sorted(order) == list(range(23))
    first = [n for n in order if owners[n] == 0]
    middle = three[owners == 0].mean(0)
    assert first == sorted(first, key=lambda n: float(((three[n] - middle) ** 2).sum()))
