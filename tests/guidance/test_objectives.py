"""Eq. 11 and 12 against their definitions: these decide what the images are pulled towards."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

import tiny
from concord.guidance import Objective, class_name, classifier, contrastive, cosine, total

SIZES = st.integers(1, 4)


def units(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def eq_12(image: list[float], positives: list[list[float]], negatives: list[list[float]], tau: float) -> float:
    """Eq. 12 for one image, in plain Python."""

    def e(concept: list[float]) -> float:
        return math.exp(sum(a * b for a, b in zip(image, concept, strict=True)) / tau)

    against = sum(map(e, negatives))
    return -sum(math.log(e(p) / (e(p) + against)) for p in positives) / len(positives)


@given(SIZES, SIZES, SIZES, st.sampled_from([0.05, 0.3, 1.0]))
def test_contrastive_is_eq_12(b: int, p: int, n: int, tau: float) -> None:
    image, positives, negatives = units(b, 5, seed=1), units(b, p, 5, seed=2), units(b, n, 5, seed=3)
    expected = [eq_12(image[i].tolist(), positives[i].tolist(), negatives[i].tolist(), tau) for i in range(b)]
    assert contrastive(image, positives, negatives, tau).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(SIZES, SIZES)
def test_cosine_is_eq_11_and_what_contrastive_becomes_without_negatives(b: int, p: int) -> None:
    image, positives = units(b, 5, seed=1), units(b, p, 5, seed=2)
    expected = -(image[:, None] * positives).sum(dim=-1).mean(dim=1)
    torch.testing.assert_close(cosine(image, positives), expected)
    torch.testing.assert_close(contrastive(image, positives, None, 0.1), expected)
    torch.testing.assert_close(contrastive(image, positives, positives[:, :0], 0.1), expected)


def test_the_class_name_alone_is_eq_11_with_one_concept() -> None:
    image, names = units(3, 5, seed=1), units(3, 5, seed=2)
    torch.testing.assert_close(class_name(image, names), -(image * names).sum(dim=1))


def test_classifier_is_the_cross_entropy_of_each_image() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    expected = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(1))]
    assert classifier(logits, torch.tensor([0, 0])).tolist() == pytest.approx(expected)


def test_a_temperature_of_a_hundredth_overflows_nothing() -> None:
    image = units(2, 5, seed=1, dtype=torch.float32).requires_grad_()
    positives = torch.stack([image.detach(), -image.detach()])[:, :, None].transpose(0, 1).reshape(2, 2, 5)
    loss = contrastive(image, positives, -positives, 0.001)
    (g,) = torch.autograd.grad(loss.sum(), image)
    assert loss.isfinite().all()
    assert g.isfinite().all()


def test_images_with_fewer_concepts_are_as_if_alone() -> None:
    """A class may have three phrases beside another's five; padding must change neither loss nor gradient."""
    image = units(3, 5, seed=1).requires_grad_()
    positives = [units(k, 5, seed=k) for k in (1, 3, 2)]
    negatives = [units(k, 5, seed=10 + k) for k in (4, 0, 2)]
    for batched, alone in (
        (Objective.contrastive(positives, negatives, 0.1), lambda i: contrastive(i[0], i[1], i[2], 0.1)),
        (Objective.cosine(positives), lambda i: cosine(i[0], i[1])),
    ):
        loss = batched.loss(image, torch.zeros(3, 3, 2, 2))
        expected = torch.cat([alone((image[i : i + 1], positives[i][None], negatives[i][None])) for i in range(3)])
        torch.testing.assert_close(loss, expected)
        (g,) = torch.autograd.grad(loss.sum(), image, retain_graph=True)
        (h,) = torch.autograd.grad(expected.sum(), image)
        torch.testing.assert_close(g, h)


def test_similarities_of_half_precision_are_taken_in_float32() -> None:
    image, positives = units(2, 5, seed=1).bfloat16(), units(2, 3, 5, seed=2)
    assert cosine(image, positives).dtype == torch.float32
    assert contrastive(image, positives, positives, 0.1).dtype == torch.float32


def test_total_is_the_weighted_sum_and_encodes_only_for_those_that_look() -> None:
    encoder = tiny.encoder()
    pixels = torch.randn(2, 3, tiny.PIXELS, tiny.PIXELS).clamp(-1, 1)
    positives, names = units(2, 3, 12, seed=2).float(), units(2, 12, seed=3).float()
    labels = torch.tensor([0, 1])

    def logits(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :4]

    objectives = [
        Objective.cosine(positives, weight=0.5),
        Objective.class_name(names, weight=2.0),
        Objective.classifier(logits, labels, weight=0.05),
    ]
    image = encoder.images(pixels)
    expected = 0.5 * cosine(image, positives) + 2 * class_name(image, names) + 0.05 * classifier(logits(pixels), labels)
    torch.testing.assert_close(total(objectives, pixels, encoder), expected)
    torch.testing.assert_close(total(objectives[2:], pixels, None), 0.05 * classifier(logits(pixels), labels))
    with pytest.raises(ValueError, match="needs an encoder"):
        total(objectives, pixels, None)
    with pytest.raises(ValueError, match="at least one"):
        total([], pixels, encoder)
