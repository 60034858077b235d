"""If a sample depended on the IPC, a grown set would not be the set made at once."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from concord.plan import Batch, Sample, batches, sample_seed


def _sample(class_index: int, index: int) -> Sample:
    return Sample(class_index, index, sample_seed(0, str(class_index), index), checkpoint="ab"[class_index % 2])


def test_seeds_are_exact_in_json_and_all_different() -> None:
    seeds = {sample_seed(s, key, i) for s in range(3) for key in ("cat", "dog", "hündin") for i in range(200)}
    assert len(seeds) == 3 * 3 * 200
    assert max(seeds) < 2**48
    # Readers with doubles for numbers (JavaScript) keep them as well.
    assert all(int(float(seed)) == seed == json.loads(json.dumps(seed)) for seed in seeds)


def test_a_seed_is_the_first_48_bits_of_sha256() -> None:
    # printf '7\0cat\0003' | sha256sum
    import hashlib

    assert sample_seed(7, "cat", 3) == int(hashlib.sha256(b"7\x00cat\x003").hexdigest()[:12], 16)


def test_order_is_checkpoint_then_index_then_class() -> None:
    plan = [s for batch in batches(_sample, [2, 2, 2, 2], 2) for s in batch.samples]
    assert [(s.checkpoint, s.index, s.class_index) for s in plan] == [
        *[("a", i, c) for i in range(2) for c in (0, 2)],
        *[("b", i, c) for i in range(2) for c in (1, 3)],
    ]


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_a_smaller_ipc_has_a_prefix_of_the_same_whole_batches(classes: int, a: int, b: int, size: int) -> None:
    few, many = sorted((a, b))

    def by_name(ipc: int) -> dict[tuple[str, int], Batch]:
        return {(batch.checkpoint, batch.number): batch for batch in batches(_sample, [ipc] * classes, size)}

    small, large = by_name(few), by_name(many)
    assert all(large[name] == batch for name, batch in small.items())
    assert all(len(batch.samples) == size for batch in large.values())
    places = [s.place for batch in large.values() for s in batch.samples if s.index < many]
    assert sorted(places) == [(c, i) for c in range(classes) for i in range(many)]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_uneven_supplies_are_met_exactly_in_batches_of_one(counts: list[int]) -> None:
    def limited(class_index: int, index: int) -> Sample:
        assert index < counts[class_index], "a sample beyond the supply was asked for"
        return Sample(class_index, index, 0)

    places = [s.place for batch in batches(limited, counts, 1) for s in batch.samples]
    assert sorted(places) == [(c, i) for c, n in enumerate(counts) for i in range(n)]


def test_what_is_there_is_not_planned_again() -> None:
    """A resumed run of a million samples must not plan what it has, nor what it does not make yet."""
    asked: list[tuple[int, int]] = []

    def sample(class_index: int, index: int) -> Sample:
        asked.append((class_index, index))
        return Sample(class_index, index, 0)

    plan = batches(sample, [100, 100], 4, lambda class_index, index: index in (3, 50))
    first = next(plan)
    assert [s.place for s in first.samples] == [(0, 2), (1, 2), (0, 3), (1, 3)]
    assert asked == [(0, 0), (1, 0), *(s.place for s in first.samples)]  # the first of each class tells its checkpoint
    assert [batch.number for batch in plan] == [25]
