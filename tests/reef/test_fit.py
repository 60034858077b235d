"""The training loop of all of reef's models: it ends by steps or by the clock, and goes on after a stop."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from concord.reef.train import fit


def _loss(model: Any, step: int, rng: np.random.Generator) -> Tensor:
    x = torch.from_numpy(rng.normal(size=(8, 3)).astype(np.float32))
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def test_a_clock_ends_the_training_and_more_of_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(model: Any, step: int, rng: np.random.Generator) -> Tensor:
        now[0] += 2.0
        return _loss(model, step, rng)

    def run(limit: float) -> nn.Linear:
        return fit("m", _model(), slow, steps=math.inf, lr=0.01, work=tmp_path, seed=1, limit=limit)

    clock = SimpleNamespace(monotonic=lambda: now[0], process_time=lambda: now[0])
    monkeypatch.setattr("concord.reef.train.time", clock)
    first = run(30)
    (end,) = _rows(tmp_path / "m.log.jsonl")
    assert (end["step"], end["seconds"]) == (15, 30)
    now[0] += 1000  # between two calls nothing is spent
    again = run(30)  # finished: kept as it is
    assert torch.equal(first.weight, again.weight) and _rows(tmp_path / "m.log.jsonl") == [end]
    run(50)
    assert _rows(tmp_path / "m.log.jsonl")[-1]["step"] == 25


def test_a_resumed_training_equals_an_undisturbed_one(tmp_path: Path) -> None:
    def run(work: Path, stop: int | None = None) -> nn.Linear:
        def loss(model: Any, step: int, rng: np.random.Generator) -> Tensor:
            if step == stop:
                raise KeyboardInterrupt
            return _loss(model, step, rng)

        work.mkdir(exist_ok=True)
        return fit("m", _model(), loss, steps=30, lr=0.05, work=work, seed=1, decay=0.9, save_every=0)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=17)
    resumed = run(tmp_path / "cut")
    assert torch.allclose(whole.weight, resumed.weight, atol=1e-6)


def test_copies_of_the_average_are_kept_on_the_way(tmp_path: Path) -> None:
    model = fit("m", _model(), _loss, steps=40, lr=0.1, work=tmp_path, seed=1, decay=0.9, snapshots=1e-9)
    copies = sorted(tmp_path.glob("m-*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert torch.equal(load_file(copies[-1])["weight"], model.weight)
