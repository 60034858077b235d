"""Whole runs on tiny models with each lever: what must not change an image does not, and what stops, stops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_reef import with_tiny

from concord.data.sampling import some_images
from concord.methods.diffusion import Generate
from concord.runs.store import read_manifest
from concord.storage import images
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data


def pixels(out: Path) -> np.ndarray:
    rows = read_manifest(out / "images")
    return np.stack([np.asarray(Image.open(out / "images" / row["file_name"])) for row in rows]).astype(int)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`Module.compile` traces forward and backward as ever, but runs them by PyTorch: no minutes of C++ in a test."""
    names: list[str] = []
    stock = torch.nn.Module.compile

    def quick(module: torch.nn.Module) -> None:
        names.append(type(module).__name__)
        stock(module, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", quick)
    return names


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_compiled_networks_make_the_same_images(
    models: Path,
    tmp_path: Path,
    compiled: list[str],
    mode: str,
) -> None:
    informing = {"mode": mode}
    distill(with_tiny(models, informing=informing), tmp_path / "plain", measured=False)
    assert not compiled
    distill(with_tiny(models, informing=informing, memory={"compile": True}), tmp_path / "compiled", measured=False)
    assert sorted(compiled) == ["CLIPVisionModel", "Decoder", "DecoderTiny", "DiTTransformer2DModel"]
    assert np.abs(pixels(tmp_path / "compiled") - pixels(tmp_path / "plain")).max() <= 1


def test_channels_last_makes_the_same_images(models: Path, tmp_path: Path) -> None:
    distill(with_tiny(models), tmp_path / "plain", measured=False)
    distill(with_tiny(models, memory={"channels_last": True}), tmp_path / "last", measured=False)
    assert np.abs(pixels(tmp_path / "last") - pixels(tmp_path / "plain")).max() <= 1


def test_batches_make_the_same_images(models: Path, tmp_path: Path) -> None:
    """One at once, four at once, and a finished set goes on with other ways of making it."""
    distill(with_tiny(models), tmp_path / "four", measured=False)
    distill(with_tiny(models, memory={"batch": 1}), tmp_path / "one", measured=False)
    assert np.abs(pixels(tmp_path / "one") - pixels(tmp_path / "four")).max() <= 1
    again = distill(with_tiny(models, memory={"batch": 2, "channels_last": True}), tmp_path / "four", measured=False)
    assert again["made"] == 0


def test_an_image_stops_where_its_loss_is_among_those_of_real_images(
    models: Path,
    tmp_path: Path,
) -> None:
    recipe = with_tiny(models, informing={"stop": 0.3, "temperature": 0.2}, concepts={"bank": "reef", "images": 4})
    results = distill(recipe, tmp_path)
    rows = read_manifest(tmp_path / "images")
    shares = [row["scores"]["active_share"] for row in rows]
    assert results["active_share"] == json.loads((tmp_path / "results.json").read_text())["active_share"]
    assert results["active_share"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert all(0 < share <= 1 for share in shares)

    # The threshold itself: Eq. 12 of the class's real images with this sample's concepts, written out.
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    sampler, encoder = method.sampler, method.models.encoder
    batch = [method.sample(c, 0) for c in (1, 4)]
    guide = sampler._concept_guide(batch, sampler.model(""))
    assert guide.thresholds is not None
    for sample, threshold in zip(batch, guide.thresholds.tolist(), strict=True):
        real = torch.cat([encoder.images(p) for p in images.batches(list(some_images(data, sample.class_index, 4)))])
        p = (real @ encoder.texts(sample.positives).T / 0.2).exp()
        n = (real @ encoder.texts(sample.negatives).T / 0.2).exp().sum(dim=1, keepdim=True)
        losses = -(p / (p + n)).log().mean(dim=1)
        assert threshold == pytest.approx(float(losses.quantile(0.3)), rel=1e-4)


def test_decode_size_auto_is_what_the_encoder_sees_where_that_is_smaller(
    models: Path,
) -> None:
    recipe = with_tiny(models, informing={"decode_size": "auto"})
    method = Generate(recipe, open_recipe_data(recipe))
    assert method.sampler._decode_side() == 16 == method.models.encoder.preprocess.side
    assert with_tiny(models).informing.decode_size is None
