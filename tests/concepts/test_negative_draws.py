"""Negatives are drawn as their weights say: held against an exact enumeration of draws without replacement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from concord.concepts.negatives import Kind, Quick, checked_kind, class_weights, draw_negatives, inclusion
from concord.errors import ConcordError

DRAWS = 10_000
WEIGHTS = {
    "graded": [0.0, 0.9, 0.6, 0.5, 0.3, 0.2, 0.1],
    "alike": [0.0, 1, 1, 1, 1, 1, 1],
    "one rules": [0.0, 20, 1, 1, 0.5, 0.5, 0.25],
}


def _phrases(classes: int, each: int = 5) -> list[list[str]]:
    return [[f"{c}-{i}" for i in range(each)] for c in range(classes)]


def _draws(weights: np.ndarray, count: int, kind: Kind = "weighted", draws: int = DRAWS) -> list[tuple[int, ...]]:
    """Classes of many samples' negatives, each sample with a generator of its own, as in a run."""
    concepts = _phrases(len(weights))
    return [
        tuple(c for c, _ in draw_negatives(concepts, 0, weights, count, np.random.default_rng(seed), kind))
        for seed in range(draws)
    ]


def _sequences(weights: list[float], count: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every sequence of `count` classes, drawn one after another without replacement, with its probability."""
    if count == 0:
        yield (), 1.0
        return
    for sequence, chance in _sequences(weights, count - 1):
        left = sum(w for c, w in enumerate(weights) if c not in sequence)
        for c, weight in enumerate(weights):
            if weight > 0 and c not in sequence:
                yield (*sequence, c), chance * weight / left


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_first_draws_match_the_weights(weights: list[float]) -> None:
    first = Counter(classes[0] for classes in _draws(np.array(weights), 1))
    assert 0 not in first, "a class's own concept is no negative"
    expected = np.array(weights[1:]) / sum(weights) * DRAWS
    assert chisquare([first[c] for c in range(1, len(weights))], expected).pvalue > 1e-3


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_sets_of_classes_match_the_exact_enumeration(weights: list[float]) -> None:
    """The set of three classes of a sample is one of 20: a multinomial, whatever the order within."""
    exact: Counter[frozenset[int]] = Counter()
    for sequence, chance in _sequences(weights, 3):
        exact[frozenset(sequence)] += chance  # type: ignore[assignment]
    assert sum(exact.values()) == pytest.approx(1)
    drawn = Counter(frozenset(classes) for classes in _draws(np.array(weights), 3))
    sets = [frozenset(some) for some in combinations(range(1, len(weights)), 3)]
    assert chisquare([drawn[s] for s in sets], [exact[s] * DRAWS for s in sets]).pvalue > 1e-3


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_inclusion_frequencies_match_the_exact_enumeration(weights: list[float], count: int) -> None:
    exact = np.zeros(len(weights))
    for sequence, chance in _sequences(weights, count):
        exact[list(sequence)] += chance
    drawn = np.bincount([c for classes in _draws(np.array(weights), count) for c in classes], minlength=len(weights))
    for c in range(1, len(weights)):
        observed, expected = [drawn[c], DRAWS - drawn[c]], [exact[c] * DRAWS, (1 - exact[c]) * DRAWS]
        assert chisquare(observed, expected).pvalue > 1e-4, f"class {c}: {drawn[c] / DRAWS:.4f}, exact {exact[c]:.4f}"
    assert inclusion(np.array(weights), 0, count) == pytest.approx(exact, abs=1e-5)


def test_the_second_round_draws_by_weight_again() -> None:
    """With nine others for ten negatives, the tenth is drawn by weight and not always of the same class."""
    weights = np.array([0.0, *np.linspace(0.9, 0.1, 9)])
    drawn = _draws(weights, 10, draws=4000)
    assert all(sorted(classes[:9]) == list(range(1, 10)) for classes in drawn), (
        "a class came twice before all came once"
    )
    tenth = Counter(classes[9] for classes in drawn)
    expected = weights[1:] / weights.sum() * len(drawn)
    assert chisquare([tenth[c] for c in range(1, 10)], expected).pvalue > 1e-3


def test_a_class_of_weight_0_comes_last_in_its_round() -> None:
    weights = class_weights([1.0, 0.5, -0.2, 0.3, 0.0], 0)
    for classes in _draws(weights, 6, draws=300):
        assert set(classes[:2]) == {1, 3}
        assert set(classes[2:4]) == {2, 4}
        assert set(classes[4:]) == {1, 3}
    assert inclusion(weights, 0, 3) == pytest.approx([0, 1, 0.5, 1, 0.5])


def test_similar_keeps_to_the_k_nearest_however_many_are_asked_for() -> None:
    weights = class_weights([1.0, 0.9, 0.1, 0.8, 0.2], 0, "similar", k=2)
    for classes in _draws(weights, 10, "similar", draws=300):
        assert Counter(classes) == {1: 5, 3: 5}
        assert all({classes[i], classes[i + 1]} == {1, 3} for i in range(0, 10, 2)), "each once before any twice"
    assert inclusion(weights, 0, 10, "similar") == pytest.approx([0, 1, 0, 1, 0])
    beyond = draw_negatives(_phrases(5), 0, weights, 12, np.random.default_rng(0), "similar")
    assert [c for c, _ in beyond[10:]] in ([2, 4], [4, 2]), "others only once the nearest have no phrase left"


def test_random_draws_every_class_alike() -> None:
    weights = class_weights([1.0, 0.9, -0.5, 0.0, 0.2], 0, "random")
    first = Counter(classes[0] for classes in _draws(weights, 1))
    assert chisquare([first[c] for c in range(1, 5)]).pvalue > 1e-3


def test_when_no_name_is_alike_all_are_drawn_alike() -> None:
    weights = class_weights([1.0, -0.9, -0.1, -0.3], 0)
    first = Counter(classes[0] for classes in _draws(weights, 1))
    assert chisquare([first[c] for c in range(1, 4)]).pvalue > 1e-3
    assert inclusion(weights, 0, 1) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])


def test_phrases_of_a_class_are_drawn_alike() -> None:
    concepts = _phrases(2)
    drawn = Counter(
        draw_negatives(concepts, 0, np.array([0, 1]), 1, np.random.default_rng(s))[0][1] for s in range(5000)
    )
    assert chisquare([drawn[phrase] for phrase in concepts[1]]).pvalue > 1e-3


def test_chances_of_a_hundred_classes_sum_to_the_count() -> None:
    weights = np.random.default_rng(0).uniform(0.4, 0.9, 100)
    chances = inclusion(weights, 7, 10)
    assert chances.sum() == pytest.approx(10, abs=1e-6)
    assert chances[7] == 0
    assert inclusion(weights, 7, 0).sum() == 0


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConcordError, match='did you mean "similar"'):
        checked_kind("similr")


@pytest.mark.parametrize("classes", [2, 40, 70, 500])
@pytest.mark.parametrize("weighting", ["weighted", "random", "similar"])
def test_the_first_to_arrive_are_those_of_a_race_that_is_sorted_whole(classes: int, weighting: Kind) -> None:
    """A set that was begun before must draw on as it was: the same classes and phrases, and the same numbers after."""

    def whole(own: int, weights: np.ndarray, count: int, rng: np.random.Generator) -> list[tuple[int, str]]:
        used, drawn = set(concepts[own]), list[tuple[int, str]]()
        passes = [weights > 0, weights <= 0] if weighting == "similar" else [np.ones(classes, bool)]
        for eligible in passes:
            grown = True
            while grown and len(drawn) < count:
                grown, times = False, rng.exponential(size=classes)
                keys = [(weights[c] <= 0, times[c] / (weights[c] if weights[c] > 0 else 1), c) for c in range(classes)]
                for _, _, c in sorted(keys):
                    left = [phrase for phrase in concepts[c] if phrase not in used]
                    if c != own and eligible[c] and left and len(drawn) < count:
                        drawn.append((c, left[rng.integers(len(left))]))
                        used.add(drawn[-1][1])
                        grown = True
        return drawn

    for seed in range(30):
        world = np.random.default_rng(seed)
        concepts = [[f"p{n}" for n in world.integers(0, 3 * classes, world.integers(0, 4))] for _ in range(classes)]
        own, count = int(world.integers(classes)), int(world.choice([1, 5, 20, 2 * classes]))
        weights = class_weights(world.uniform(-0.5, 1, classes).round(2).tolist(), own, weighting)
        mine, theirs = np.random.default_rng(seed), np.random.default_rng(seed)
        drawn = draw_negatives(concepts, own, weights, count, mine, weighting)
        assert drawn == whole(own, weights, count, theirs)
        assert mine.integers(2**62) == theirs.integers(2**62)


@given(st.integers(0, 2**48), st.lists(st.integers(0, 2**32 - 1) | st.integers(2**31, 2**32 - 1), min_size=1))
def test_quick_numbers_are_those_of_numpy(seed: int, asked: list[int]) -> None:
    """Bit for bit, in any order of integers and clocks; near the upper bound many draws are thrown away."""
    quick, slow = Quick(seed), np.random.default_rng(seed)
    for high in asked:
        if high:
            assert quick.integers(high) == slow.integers(high)
        else:
            assert np.array_equal(quick.standard_exponential(3), slow.standard_exponential(3))
