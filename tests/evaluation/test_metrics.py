"""What is read of a student's predictions: each metric against scikit-learn or its formula, and from the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commanding import HARD, record, refused, sets, succeed
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score, top_k_accuracy_score
from torch import Tensor

from concord import registry
from concord.errors import ConcordError
from concord.evaluation import metrics
from concord.evaluation.record import Trial, has_seed, with_trial
from concord.registry import METRICS, MetricSpec


@pytest.fixture(params=[3, 8])
def predictions(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(request.param)
    labels = torch.randint(request.param, (400,), generator=generator)
    logits = 2 * torch.randn(400, request.param, generator=generator)
    logits[torch.arange(400), labels] += 1
    return logits, labels


def test_accuracies_are_scikit_learns(predictions: tuple[Tensor, Tensor]) -> None:
    logits, labels = predictions
    k = logits.shape[1]
    for compute, top in ((metrics.top1, 1), (metrics.top5, 5)):
        theirs = 1.0 if top >= k else top_k_accuracy_score(labels, logits, k=top, labels=range(k))
        assert compute(logits, labels) == pytest.approx(100 * theirs)
    assert metrics.balanced_accuracy(logits, labels) == pytest.approx(
        100 * balanced_accuracy_score(labels, logits.argmax(1))
    )
    recalls = recall_score(labels, logits.argmax(1), average=None, zero_division=0)
    assert metrics.worst_class(logits, labels) == pytest.approx(100 * min(recalls))
    some = labels < k - 1  # a class without images counts nothing
    assert metrics.balanced_accuracy(logits[some][:, :k], labels[some]) == pytest.approx(
        100 * np.mean([float((logits[labels == c].argmax(1) == c).float().mean()) for c in range(k - 1)])
    )


def test_losses_are_their_formulas(predictions: tuple[Tensor, Tensor]) -> None:
    logits, labels = predictions
    p = logits.double().softmax(1).numpy()
    assert metrics.nll(logits, labels) == pytest.approx(log_loss(labels, p))
    assert metrics.brier(logits, labels) == pytest.approx(((p - np.eye(p.shape[1])[labels]) ** 2).sum(1).mean())


def test_the_calibration_error_is_summed_over_fifteen_bins(predictions: tuple[Tensor, Tensor]) -> None:
    logits, labels = predictions
    confidence, predicted = logits.double().softmax(1).max(1)
    total = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            right = (predicted[inside] == labels[inside]).double().mean()
            total += float(inside.double().mean() * (right - confidence[inside].mean()).abs())
    assert metrics.ece(logits, labels) == pytest.approx(total)
    sure = torch.eye(4) * 1e3
    assert metrics.ece(sure, torch.arange(4)) == pytest.approx(0)
    assert metrics.ece(sure, torch.tensor([1, 0, 3, 2])) == pytest.approx(1)


@pytest.mark.parametrize("name", ["top1", "top5", "balanced_accuracy", "worst_class", "nll", "brier", "ece"])
def test_a_metric_is_registered_under_its_name_with_a_row(name: str) -> None:
    spec = METRICS.get(name)
    assert (spec.name, spec.of, spec.rows[0].key) == (name, "predictions", name)
    assert metrics.measured([name], torch.eye(3), torch.arange(3)).keys() == {name}


def trial(seed: int, accuracy: float, **values: float) -> Trial:
    of = {name: {"last": value, "best": value + 1} for name, value in values.items()}
    return Trial(seed, accuracy, accuracy, 1.0, np.eye(2, dtype=int), of)


def test_a_metric_that_is_asked_for_later_joins_the_seeds_that_are_there() -> None:
    plain: dict[str, Any] = {}
    for seed in (2, 0):
        plain = with_trial(plain, trial(seed, 50.0 + seed))
    asked = with_trial(plain, trial(2, 52.0, nll=0.5))
    assert {key: asked[key] for key in plain} == plain, "accuracies, time and confusion are counted once"
    assert asked["metrics"] == {
        "nll": {
            "seeds": [2],
            "last": {"mean": 0.5, "std": 0.0, "values": [0.5]},
            "best": {"mean": 1.5, "std": 0.0, "values": [1.5]},
        }
    }
    assert (has_seed(asked, 2, ["nll"]), has_seed(asked, 0, ["nll"]), has_seed(asked, 0, [])) == (True, False, True)
    both = with_trial(asked, trial(0, 50.0, nll=float("nan")))
    assert both["metrics"]["nll"]["seeds"] == [0, 2]
    assert both["metrics"]["nll"]["last"] == {"mean": None, "std": None, "values": [None, 0.5]}
    json.dumps(both, allow_nan=False)


def test_the_command_reads_metrics_and_trains_as_without(tmp_path: Path) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD, "seeds=2", "epochs=20")
    succeed(*command, "--out", tmp_path / "plain.json")
    said, _ = succeed(*command, "--out", tmp_path / "all.json", "metrics=top1,top5,ece,nll")
    [plain], [full] = (record(tmp_path / name)["cells"] for name in ("plain.json", "all.json"))
    assert "metrics" not in plain
    assert full["top1"] == plain["top1"]
    assert full["confusion"] == plain["confusion"]
    for which in ("last", "best"):
        assert full["metrics"]["top1"][which]["values"] == pytest.approx(full["top1"][which]["values"], abs=1e-3)
    assert full["metrics"]["top5"]["last"]["values"] == [100.0, 100.0], "there are three classes"
    assert "calibration error" in said
    assert f"{100 * full['metrics']['ece'][full['reports']]['mean']:.1f} %" in said
    succeed(*command, "--out", tmp_path / "plain.json", "metrics=nll")
    [later] = record(tmp_path / "plain.json")["cells"]
    assert later["metrics"] == {"nll": full["metrics"]["nll"]}
    assert later["top1"] == plain["top1"]


def test_what_is_no_metric_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = sets(tmp_path)
    command = ("evaluate", train, "--test", test, *HARD)
    assert 'unknown metric "top6" (did you mean "top5"?)' in refused(*command, "metrics=top6")
    specs = {
        "images": MetricSpec("images", "run", "concord.evaluation.metrics:top1", ""),
        "broken": MetricSpec("broken", "predictions", "concord.evaluation.metrics:BINS", ""),
    }
    really = registry.Registry.get
    monkeypatch.setattr(registry.Registry, "get", lambda self, name: specs.get(name) or really(self, name))
    monkeypatch.setattr(registry.Registry, "package", lambda self, name: "stranger 1.0")
    assert "not of a student's predictions" in refused(*command, "metrics=images")
    assert "of the package stranger 1.0 fails (TypeError" in refused(*command, "metrics=broken")
    with pytest.raises(ConcordError):
        metrics.measured(["broken"], torch.eye(3), torch.arange(3))
    assert not (train / "evaluation.json").exists()


def test_a_metric_without_a_row_goes_by_its_name() -> None:
    assert metrics.shown("gone").label == "gone"
    assert metrics.shown("ece").unit == "share"
