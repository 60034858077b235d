"""The GPU benchmark runs as one command; here on toy networks, so that it does not fail first on a rented card."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gpu_throughput
import pytest


def test_the_toy_variant_fills_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_throughput.py", "--tiny", "--channels-last", "--out", str(tmp_path)])
    gpu_throughput.main()
    (path,) = tmp_path.glob("gpu_throughput_*_channels_last.json")
    record = json.loads(path.read_text())
    assert record["product_tflop_per_second"] > 0
    assert [(row["setting"], row["batch"]) for row in record["rows"]] == [
        (setting, batch) for setting in ("uninformed", "fast", "exact") for batch in (1, 2)
    ]
    for row in record["rows"]:
        assert row["images_per_second"] == pytest.approx(row["batch"] / row["seconds"], rel=0.01)
        assert 0 < row["share_of_product_rate"] < 1
    uninformed, _, fast, _, exact, _ = (row["tflop_per_image"] for row in record["rows"])
    assert 0 < uninformed < min(fast, exact)
