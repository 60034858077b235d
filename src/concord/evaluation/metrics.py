"""Metrics of a student's predictions: functions of logits (N, K) and true labels (N,); accuracies are in percent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from concord.errors import ConcordError
from concord.registry import METRICS, Measure, MetricSpec

if TYPE_CHECKING:  # a specification is light
    from torch import Tensor

BINS = 15
"""Of the calibration error, as in Guo et al. 2017."""


def top1(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    best = logits.topk(min(k, logits.shape[1]), dim=1).indices
    return 100 * float((best == labels[:, None]).any(1).double().mean())


top5 = partial(top1, k=5)


def _recalls(logits: Tensor, labels: Tensor) -> Tensor:
    """The recalls, in percent, of those classes that have images."""
    counts = labels.bincount(minlength=logits.shape[1])
    right = labels[logits.argmax(1) == labels].bincount(minlength=logits.shape[1])
    return 100 * right[counts > 0] / counts[counts > 0].double()


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """The mean of the recalls of those classes that have images."""
    return float(_recalls(logits, labels).mean())


def worst_class(logits: Tensor, labels: Tensor) -> float:
    """The least of these recalls."""
    return float(_recalls(logits, labels).min())


def nll(logits: Tensor, labels: Tensor) -> float:
    return -float(logits.double().log_softmax(1).gather(1, labels[:, None]).mean())


def brier(logits: Tensor, labels: Tensor) -> float:
    """sum_k (p_k - y_k)^2, the mean over images: 0 to 2 (Brier 1950)."""
    p = logits.double().softmax(1)
    return float((p.square().sum(1) - 2 * p.gather(1, labels[:, None])[:, 0] + 1).mean())


def ece(logits: Tensor, labels: Tensor) -> float:
    """sum_b |B_b| / N * |accuracy(B_b) - confidence(B_b)|, over bins of equal width (Guo et al. 2017, Eq. 3)."""
    confidence, predicted = logits.double().softmax(1).max(1)
    bins = (confidence * BINS).ceil().long().clamp(1, BINS)
    gaps = bins.bincount(weights=(predicted == labels).double() - confidence)
    return float(gaps.abs().sum()) / len(labels)


def _spec(
    name: str, label: str, unit: Literal["percent", "number", "share"], better: Literal[-1, 1], about: str
) -> MetricSpec:
    rows = (Measure(name, label, unit, better, explained=about),)
    return MetricSpec(name, "predictions", f"concord.evaluation.metrics:{name}", about, rows)


TOP1 = _spec("top1", "top-1 in %", "percent", 1, "Images whose class is the likeliest.")
TOP5 = _spec("top5", "top-5 in %", "percent", 1, "Images whose class is among the five likeliest.")
BALANCED = _spec("balanced_accuracy", "balanced accuracy in %", "percent", 1, "Mean of the classes' recalls.")
WORST = _spec("worst_class", "worst class in %", "percent", 1, "Recall of the class that is recognised least.")
NLL = _spec("nll", "negative log-likelihood", "number", -1, "Of the true class, in nats.")
BRIER = _spec("brier", "Brier score", "number", -1, "Squared distance of the probabilities from the truth, 0 to 2.")
ECE = _spec("ece", "calibration error", "share", -1, f"Expected calibration error over {BINS} bins.")


def measured(names: Sequence[str], logits: Tensor, labels: Tensor) -> dict[str, float]:
    """The value of each metric; a ConcordError if one is unknown, not of predictions, or fails."""
    found = {}
    for name in names:
        spec = METRICS.get(name)
        if spec.of != "predictions":
            raise ConcordError(f"metric \"{name}\" is of a set's images, not of a student's predictions")
        with METRICS.blamed(name):
            found[name] = float(METRICS.build(name, spec.compute)(logits, labels))
    return found


def shown(name: str) -> Measure:
    """How a metric is shown; by its bare name where its package is here no more or does not say."""
    try:
        return METRICS.get(name).rows[0]
    except (ConcordError, IndexError):
        return Measure(name, name, "number", 0)
