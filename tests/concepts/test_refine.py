"""Which classes are mixed up, and which phrases tell them apart: by hand-made embeddings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from concord.concepts.bank import Bank, ClassConcepts
from concord.concepts.refine import Pair, Telling, kept, mixed_up, shares, tell_apart, with_phrases


def test_pairs_are_those_that_are_mixed_up_most_whatever_their_images() -> None:
    confusion = np.array([[80, 20, 0], [0, 10, 10], [0, 0, 50]])
    mixed = shares(confusion)
    assert mixed[0, 1] == mixed[1, 0] == pytest.approx(0.1)
    assert mixed[1, 2] == pytest.approx(0.25)
    assert mixed_up(confusion, 5) == [Pair(1, 2, pytest.approx(0.25)), Pair(0, 1, pytest.approx(0.1))]
    assert mixed_up(confusion, 1) == [Pair(1, 2, pytest.approx(0.25))]
    assert mixed_up(np.eye(3, dtype=int), 3) == []


def test_phrases_are_kept_that_are_borne_out_and_tell_apart() -> None:
    """Axes: shared look, own detail, the other's detail, nothing that is seen."""
    axes = dict(zip(("shared", "own", "other's", "unseen"), torch.eye(4), strict=True))
    own, other = (
        F.normalize(torch.tensor([[2.0, 1, 0, 0]]), dim=-1),
        F.normalize(torch.tensor([[2.0, 0, 1, 0]]), dim=-1),
    )

    def embed(texts: list[str]) -> torch.Tensor:
        assert texts[0] == "perch" and all(text.startswith("perch with ") for text in texts[1:])
        named = F.normalize(torch.tensor([3.0, 1, 0, 0]), dim=-1)  # a name tells a little, too
        return torch.stack([named, *(axes[text.removeprefix("perch with ")] for text in texts[1:])])

    rated = tell_apart("perch", ["unseen", "other's", "shared", "own", "own"], own, [other], embed)
    assert [one.phrase for one in (rated[0], rated[-1])] == ["own", "other's"]
    by_phrase = {one.phrase: one for one in rated}
    of_name = 1 / 50**0.5
    assert by_phrase["own"].margin == pytest.approx(1 / 5**0.5 - of_name)
    assert by_phrase["shared"].activation == pytest.approx(2 / 5**0.5)
    assert by_phrase["shared"].margin == pytest.approx(-of_name)
    two = {one.phrase: one.margin for one in tell_apart("perch", list(axes), own, [other, own], embed)}
    assert two["own"] == pytest.approx(0)  # the likest of several others counts


def test_what_adds_nothing_to_the_name_is_not_kept() -> None:
    own, shared, another = Telling("own", 0.4, 0.1), Telling("shared", 0.5, 0.01), Telling("another", 0.4, 0.06)
    unseen = Telling("unseen", 0.1, 0.3)
    assert kept([unseen, own, another, shared], 5) == [own, another]
    assert kept([unseen, own, another, shared], 1) == [own]
    assert kept([Telling("b", 0.4, -0.1), Telling("a", 0.4, -0.2)], 5) == [Telling("b", 0.4, -0.1)], "something informs"


def test_a_refined_bank_says_so_and_leaves_the_others_alone() -> None:
    classes = {name: ClassConcepts(phrases=(f"{name} phrase",)) for name in ("a", "b")}
    bank = Bank(schema=1, name="mine", provenance={"source": "me"}, shared=("x",), classes=classes)
    new = with_phrases(bank, "other", {"a": ClassConcepts(phrases=("new",))})
    assert (new.name, new.shared, new.phrases("a"), new.phrases("b")) == ("other", ("x",), ("new",), ("b phrase",))
    assert new.provenance == {"source": "me", "refined": "a of mine, by concord refine"}
