"""Representativeness and diversity by hand on three vectors, and memories whose first in is the first out."""

from __future__ import annotations

import math

import pytest
import torch

from concord.diffusion.minimax import Memory, diversity, minimax_loss, representativeness


def vectors(*rows: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rows).view(-1, 3, 1, 1)


PREDICTED = vectors((3.0, 4.0, 0.0))
MEMORY = vectors((1.0, 0.0, 0.0), (0.0, 2.0, 0.0), (-1.0, 0.0, 0.0))
"""Their cosines with it: 3 / 5, 4 / 5, -3 / 5."""


def test_the_terms_by_hand() -> None:
    assert representativeness(PREDICTED, MEMORY).item() == pytest.approx(1 + 3 / 5)  # 1 - the least
    assert diversity(PREDICTED, MEMORY).item() == pytest.approx(4 / 5)  # the most
    both = torch.cat([PREDICTED, vectors((0.0, 0.0, 1.0))])  # the second is at right angles to all
    assert representativeness(both, MEMORY).item() == pytest.approx((1.6 + 1) / 2)
    assert diversity(both, MEMORY).item() == pytest.approx((0.8 + 0) / 2)


def test_minimising_goes_towards_the_farthest_real_one_and_away_from_the_nearest_made_one() -> None:
    start = PREDICTED.clone().requires_grad_()
    for term, other, sign in ((representativeness, MEMORY[2], 1), (diversity, MEMORY[1], -1)):
        [slope] = torch.autograd.grad(term(start, MEMORY), start)
        moved = (start - 0.1 * slope).detach()
        before, after = (torch.cosine_similarity(x.flatten(), other.flatten(), dim=0) for x in (start, moved))
        assert (after - before) * sign > 0


def test_memories_forget_the_oldest_first() -> None:
    memory = Memory(2)
    memory.add(vectors((1, 0, 0), (2, 0, 0), (3, 0, 0)), [5, 5, 7])
    memory.add(vectors((4, 0, 0)), [5])
    found = memory.of(5)
    assert found is not None and found[:, 0, 0, 0].tolist() == [2, 4]
    other = Memory(2)
    other.load(memory.state())
    other.add(vectors((5, 0, 0)), [5])
    again, seven = other.of(5), other.of(7)
    assert again is not None and again[:, 0, 0, 0].tolist() == [4, 5]
    assert seven is not None and seven[:, 0, 0, 0].tolist() == [3]
    assert other.of(6) is None


def test_the_loss_is_shared_by_the_classes_of_the_batch() -> None:
    """Class 0 has both memories, class 1 a real one only, class 2 none."""
    real, made = Memory(64), Memory(64)
    real.add(MEMORY, [0, 0, 0])
    real.add(vectors((0.0, 0.0, 2.0)), [1])
    made.add(MEMORY, [0, 0, 0])
    predicted = torch.cat([PREDICTED, vectors((0.0, 3.0, 4.0)), vectors((1.0, 1.0, 1.0))])
    found = minimax_loss(predicted, [0, 1, 2], real, made, (0.002, 0.008))
    assert found.item() == pytest.approx((0.002 * 1.6 + 0.008 * 0.8 + 0.002 * (1 - 4 / 5)) / 3)
    assert minimax_loss(predicted, [0, 1, 2], real, made, (0.0, 0.0)).item() == 0
    alone = minimax_loss(predicted[:1], [0], real, made, (0.002, 0.0)).item()
    assert alone == pytest.approx(0.002 * 1.6) and not math.isnan(alone)


def test_gradients_reach_the_prediction_alone() -> None:
    memory, latent = Memory(4), MEMORY.clone().requires_grad_()
    memory.add(latent, [0, 0, 0])
    start = PREDICTED.clone().requires_grad_()
    minimax_loss(start, [0], memory, memory, (1.0, 1.0)).backward()
    assert latent.grad is None
    assert start.grad is not None and (start.grad != 0).any()
