"""Preprocessing: a wrong mean or size misleads every similarity without an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from concord.errors import ConcordError
from concord.models.preprocess import Preprocess

CONFIG = tiny.preprocessor_config()


def photo(height: int, width: int) -> Image.Image:
    """A smooth picture with an edge in it."""
    y, x = np.mgrid[0:height, 0:width] / 20
    values = np.stack([np.sin(x + y), np.cos(x - y), np.where(x > 1, 0.6, -0.6)], axis=-1) * 100 + 128
    return Image.fromarray(values.astype(np.uint8))


def as_pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize(("number", "pillow"), [(2, Image.Resampling.BILINEAR), (3, Image.Resampling.BICUBIC)])
@pytest.mark.parametrize("size", [(60, 60), (48, 90), (91, 40)])
def test_it_does_what_pillow_and_a_processor_do(number: int, pillow: Image.Resampling, size: tuple[int, int]) -> None:
    image = photo(*size)
    preprocess = Preprocess.from_config(
        {**CONFIG, "resample": number, "size": {"shortest_edge": 24}, "crop_size": {"height": 20, "width": 22}}
    )
    short = min(size)
    resized = image.resize((24 * size[1] // short, 24 * size[0] // short), pillow)
    left, top = (resized.width - 22) // 2, (resized.height - 20) // 2
    values = np.asarray(resized.crop((left, top, left + 22, top + 20))) / 255
    expected = (values - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.4])
    ours = preprocess(as_pixels(image))[0].permute(1, 2, 0).numpy()
    assert ours.shape == (20, 22, 3)
    # Pillow rounds to bytes twice and clips overshoot; one byte is 0.02 of the smallest deviation.
    assert np.abs(ours - expected).mean() < 0.01
    assert np.abs(ours - expected).max() < 0.12


def test_an_image_of_the_right_size_is_only_normalised() -> None:
    pixels = torch.rand(2, 3, 8, 8) * 2 - 1
    mean, std = (torch.tensor(CONFIG[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    torch.testing.assert_close(Preprocess.from_config(CONFIG)(pixels), ((pixels + 1) / 2 - mean) / std)


def test_gradients_reach_every_pixel_even_beyond_the_range() -> None:
    pixels = (3 * torch.randn(1, 3, 11, 11, dtype=torch.float64)).requires_grad_()
    preprocess = Preprocess.from_config({**CONFIG, "crop_size": {"height": 8, "width": 8}})
    (g,) = torch.autograd.grad(preprocess(pixels).square().sum(), pixels)
    assert (g != 0).all()
    assert torch.autograd.gradcheck(preprocess, pixels[:, :, :9, :9].detach().requires_grad_())


@pytest.mark.parametrize(
    ("change", "shape"),
    [
        ({"size": {"height": 6, "width": 5}, "do_center_crop": False}, (6, 5)),  # SigLIP's form
        ({"size": 6, "do_center_crop": False}, (6, 6)),  # old CLIP's form
        ({"crop_size": 7}, (7, 7)),
        ({"do_resize": False, "do_center_crop": False}, (12, 12)),
        (
            {"image_processor_type": "ConvNextImageProcessor", "do_center_crop": None, "size": {"shortest_edge": 6}},
            (6, 6),
        ),
        (
            {
                "feature_extractor_type": "ConvNextFeatureExtractor",
                "do_center_crop": False,
                "size": {"shortest_edge": 384},
            },
            (384, 384),
        ),
    ],
)
def test_the_forms_that_configs_take(change: dict[str, Any], shape: tuple[int, int]) -> None:
    assert Preprocess.from_config({**CONFIG, **change})(torch.zeros(1, 3, 12, 12)).shape[-2:] == shape


def test_a_convnext_processor_enlarges_before_it_crops() -> None:
    """HF's ResNets are evaluated at 224 cut out of 256."""
    config = {**CONFIG, "image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 224}}
    preprocess = Preprocess.from_config({**config, "do_center_crop": False, "crop_pct": 0.875})
    assert (preprocess.resize, preprocess.crop) == (256, (224, 224))


def test_channels_are_normalised_by_their_own_numbers_and_bytes_where_told() -> None:
    plain = Preprocess.from_config({**CONFIG, "do_normalize": False})
    torch.testing.assert_close(plain(torch.ones(1, 3, 8, 8)), torch.ones(1, 3, 8, 8))
    raw = Preprocess.from_config({**CONFIG, "do_normalize": False, "do_rescale": False})
    torch.testing.assert_close(raw(torch.ones(1, 3, 8, 8)), torch.full((1, 3, 8, 8), 255.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"longest_edge": 9}}, "size"),
        ({"resample": 17}, "resample 17"),
        ({"image_mean": None}, "image_mean"),
    ],
)
def test_what_is_not_understood_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConcordError, match=message):
        Preprocess.from_config({**CONFIG, **change})


def test_a_crop_larger_than_the_image_is_refused() -> None:
    preprocess = Preprocess.from_config({**CONFIG, "do_resize": False})
    with pytest.raises(ConcordError, match="smaller than the encoder's crop"):
        preprocess(torch.zeros(1, 3, 4, 4))


def test_it_reads_the_config_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CONFIG))
    assert Preprocess.from_pretrained(str(tmp_path)) == Preprocess.from_config(CONFIG)
    with pytest.raises(ConcordError, match="set `teacher`"):
        Preprocess.from_pretrained(str(tmp_path / "none"), key="teacher")
