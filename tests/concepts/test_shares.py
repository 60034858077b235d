"""Concepts by deficit: over the set each has its share, whatever the IPC, and all pairs meet."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concord.concepts.shares import Shares
from concord.errors import ConcordError
from concord.recipe import identity, load

PHRASES = [f"phrase {n}" for n in range(8)]


@given(st.integers(1, 8), st.integers(1, 9), st.integers(0, 40), st.integers(0, 2**32))
def test_no_phrase_is_ever_more_than_one_ahead(count: int, each: int, images: int, seed: int) -> None:
    shares = Shares(PHRASES[:count], each, seed)
    dealt = [shares.of(n) for n in range(images)]
    given_out = Counter(phrase for one in dealt for phrase in one)
    counts = [given_out[phrase] for phrase in PHRASES[:count]]
    assert max(counts) - min(counts) <= 1
    assert all(len(one) == len(set(one)) == min(each, count) for one in dealt)
    assert [Shares(PHRASES[:count], each, seed).of(n) for n in reversed(range(images))] == dealt[::-1]


def test_phrases_meet_in_all_pairs_and_another_seed_deals_otherwise() -> None:
    dealt = [Shares(PHRASES, 3, 0).of(n) for n in range(60)]
    assert {pair for one in dealt for pair in combinations(one, 2)} == set(combinations(PHRASES, 2))
    assert dealt != [Shares(PHRASES, 3, 1).of(n) for n in range(60)]


def test_a_recipe_that_takes_all_says_nothing_new() -> None:
    assert "positives" not in identity(load("reef"))["concepts"]
    assert identity(load("reef", ["concepts.positives=3"]))["concepts"]["positives"] == 3
    with pytest.raises(ConcordError, match="positives: 5 of 5 that are kept is all"):
        load("reef", ["concepts.positives=5"])
