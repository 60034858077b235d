"""Concepts: what decides which phrases a sample is informed by."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from concord.concepts import Bank, concept_text, draw_negatives, load_bank, select
from concord.concepts.negatives import class_weights
from concord.concepts.selection import mean_embedding
from concord.errors import ConcordError


def _bank(**classes: list[str]) -> Bank:
    return Bank.model_validate({"schema": 1, "name": "t", "classes": {k: {"phrases": v} for k, v in classes.items()}})


def test_activation_is_the_cosine_of_eq_10() -> None:
    torch.manual_seed(0)
    images, texts = torch.randn(7, 5), torch.randn(3, 5)
    table = select("cat", ["a", "b", "c"], mean_embedding(images), lambda _: texts, keep=2)
    units = [row / np.linalg.norm(row) for row in images.numpy().astype(np.float64)]
    mean = sum(units) / 7
    expected = {
        p: float(mean @ t / np.linalg.norm(mean) / np.linalg.norm(t))
        for p, t in zip("abc", texts.numpy().astype(np.float64), strict=True)
    }
    assert {c.phrase: pytest.approx(c.activation, abs=1e-6) for c in table} == expected
    assert [c.phrase for c in table] == sorted(expected, key=lambda p: -expected[p])
    assert [c.kept for c in table] == [True, True, False]


def test_pinned_phrases_are_never_dropped() -> None:
    texts = {"cat with a": [1.0, 0.0], "cat with b": [0.9, 0.1], "cat with mine": [-1.0, 0.0], "cat with c": [0.8, 0.2]}
    embed = lambda names: torch.tensor([texts[n] for n in names])  # noqa: E731
    table = select("cat", ["a", "b", "c"], torch.tensor([1.0, 0.0]), embed, keep=2, pinned=["mine"])
    assert {c.phrase for c in table if c.kept} == {"a", "mine"}
    assert [c.pinned for c in table if c.phrase == "mine"] == [True]


def test_text_form_names_the_class() -> None:
    assert concept_text("beagle", "long ears") == "beagle with long ears"


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    count=st.integers(0, 15),
    kind=st.sampled_from(["weighted", "random", "similar"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_negatives_keep_their_rules(sizes: list[int], count: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pool = [f"p{i}" for i in range(12)]
    concepts = [[str(p) for p in rng.choice(pool, n, replace=False)] for n in sizes]
    weights = class_weights(rng.uniform(-1, 1, len(sizes)), 0, kind)  # type: ignore[arg-type]
    drawn = draw_negatives(concepts, 0, weights, count, rng)
    phrases = [p for _, p in drawn]
    assert len(drawn) <= count
    assert len(set(phrases)) == len(phrases), "a phrase came twice"
    assert not set(phrases) & set(concepts[0]), "a negative is one of the sample's own concepts"
    assert all(c != 0 and p in concepts[c] for c, p in drawn)
    possible = set().union(*map(set, concepts[1:])) - set(concepts[0])
    assert len(drawn) == min(count, len(possible))


def test_every_class_once_before_any_twice() -> None:
    concepts = [[f"{c}-{i}" for i in range(5)] for c in range(10)]
    for seed in range(20):
        drawn = draw_negatives(concepts, 3, np.ones(10), 12, np.random.default_rng(seed))
        assert sorted(c for c, _ in drawn[:9]) == [c for c in range(10) if c != 3]
        assert len(drawn) == 12


def test_weighted_draws_follow_similarity() -> None:
    """The first class drawn has probability weight / sum; negative similarities are never drawn first."""
    concepts = [[f"{c}-{i}" for i in range(3)] for c in range(4)]
    weights = class_weights([1.0, 0.6, 0.2, -0.5], 0)
    assert weights.tolist() == [0, 0.6, 0.2, 0]
    first = [draw_negatives(concepts, 0, weights, 1, np.random.default_rng(s))[0][0] for s in range(4000)]
    assert np.mean(np.array(first) == 1) == pytest.approx(0.75, abs=0.03)
    assert 3 not in first


def test_similar_keeps_the_most_similar() -> None:
    assert class_weights([1, 0.1, 0.9, 0.5], 0, "similar", k=2).tolist() == [0, 0, 1, 1]


def test_a_missing_class_names_the_three_ways_out(tmp_path) -> None:  # type: ignore[no-untyped-def]
    bank = _bank(beagle=["long ears"])
    with pytest.raises(ConcordError, match=r'"beagel".*did you mean "beagle".*retrieve.*import.*class_name=1'):
        bank.require(["beagel"])


def test_a_bank_knows_a_class_in_any_case_and_unicode_form() -> None:
    classes = {"caf\u00e9": {"phrases": ["a"]}, "Beagle": {"phrases": ["b"]}, "owl": {"phrases": ["c"]}}
    classes["Owl"] = {"phrases": ["d"]}
    bank = Bank.model_validate({"schema": 1, "name": "x", "classes": classes})
    assert [bank.phrases(name) for name in ("cafe\u0301", "beagle", "owl", "Owl")] == [("a",), ("b",), ("c",), ("d",)]
    with pytest.raises(ConcordError, match=r'no phrases for "OWL" \(did you mean "owl"\?\)'):
        bank.require(["beagle", "OWL"])


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"schema": 2, "name": "x", "classes": {}}', '{"schema": 1, "name": "x", "classes": {"a": {}}}'],
)
def test_a_broken_bank_is_one_clear_line(tmp_path, content: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "bank.json").write_text(content)
    with pytest.raises(ConcordError, match=r"concept bank .*bank.json"):
        load_bank(str(tmp_path / "bank.json"))


def test_unknown_bank_names_the_nearest() -> None:
    with pytest.raises(ConcordError, match='did you mean "reef"'):
        load_bank("reeff")


def test_banks_read_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = {"schema": 1, "name": "x", "provenance": {"source": "by hand"}, "classes": {"käse": {"phrases": ["holes"]}}}
    (tmp_path / "b.json").write_text(json.dumps(data))
    assert load_bank(str(tmp_path / "b.json")).phrases("käse") == ("holes",)
