"""CutMix and mixup: a box or a share that is off by a little trains on labels that do not fit the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from scipy.stats import kstest

from concord.evaluation.mixing import Mixing, cut_box, draw_mix, mix, mixed_share

SIDES = st.integers(1, 300)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.floats(0, 1), SIDES, SIDES, st.data())
def test_the_box_is_that_of_the_authors(lam: float, height: int, width: int, data: st.DataObject) -> None:
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    corners = []
    for side, centre in ((height, y), (width, x)):
        cut = int(side * np.sqrt(1.0 - lam))
        corners.append((np.clip(centre - cut // 2, 0, side), np.clip(centre + cut // 2, 0, side)))
    (y1, y2), (x1, x2) = corners
    assert cut_box(lam, y, x, height, width) == (y1, x1, y2, x2)


@pytest.mark.parametrize(
    ("lam", "y", "x", "box"),
    [
        (1.0, 5, 5, (5, 5, 5, 5)),  # nothing
        (0.0, 4, 4, (0, 0, 8, 8)),  # everything
        (0.0, 0, 7, (0, 3, 4, 8)),  # a corner of everything
        (0.75, 4, 4, (2, 2, 6, 6)),  # a quarter of the area
        (0.9, 4, 4, (3, 3, 5, 5)),  # int(8 * 0.316) is 2
    ],
)
def test_boxes_at_the_border(lam: float, y: int, x: int, box: tuple[int, ...]) -> None:
    assert cut_box(lam, y, x, 8, 8) == box


def test_cutmix_pastes_the_box_and_leaves_the_batch_alone(tmp_path: Path) -> None:
    images = torch.rand(6, 3, 10, 14, generator=seeded())
    before = images.clone()
    for seed in range(20):
        view = draw_mix(Mixing(kind="cutmix"), 6, 10, 14, seeded(seed))
        y1, x1, y2, x2 = view["box"].tolist()
        mixed = mix(images, view)
        assert torch.equal(images, before)
        own = 0
        for n, other in enumerate(view["index"].tolist()):
            for y in range(10):
                for x in range(14):
                    pasted = y1 <= y < y2 and x1 <= x < x2
                    own += not pasted
                    assert torch.equal(mixed[n, :, y, x], before[other if pasted else n, :, y, x])
        assert mixed_share(view, 10, 14) == pytest.approx(own / (6 * 10 * 14))
        save_file(view, tmp_path / "mix.safetensors")
        assert torch.equal(mix(images, load_file(tmp_path / "mix.safetensors")), mixed)


def test_mixup_is_the_weighted_mean() -> None:
    images = torch.rand(5, 3, 4, 4, generator=seeded())
    view = draw_mix(Mixing(kind="mixup", alpha=0.8), 5, 4, 4, seeded(1))
    lam = float(view["lam"])
    expected = lam * images.double() + (1 - lam) * images.double()[view["index"].long()]
    torch.testing.assert_close(mix(images, view).double(), expected, atol=1e-6, rtol=0)
    assert mixed_share(view, 4, 4) == lam


@pytest.mark.parametrize("alpha", [1.0, 0.8, 0.2])
def test_shares_are_beta_distributed(alpha: float) -> None:
    generator = seeded(2)
    views = [draw_mix(Mixing(kind="mixup", alpha=alpha), 3, 8, 8, generator) for _ in range(2000)]
    assert kstest([float(view["lam"]) for view in views], "beta", args=(alpha, alpha)).pvalue > 0.01
    assert all(sorted(view["index"].tolist()) == [0, 1, 2] for view in views)


def test_centres_of_boxes_are_uniform_over_height_and_width() -> None:
    """Told by boxes too small to be cut off where the test looks: with lam above 0.96 a side is a fifth at most."""
    generator = seeded(4)
    views = [draw_mix(Mixing(kind="cutmix"), 1, 1000, 500, generator) for _ in range(3000)]
    boxes = np.array([view["box"].tolist() for view in views if view["lam"] > 0.96])
    for centres, side in ((boxes[:, 0] + boxes[:, 2]) / 2, 1000), ((boxes[:, 1] + boxes[:, 3]) / 2, 500):
        inner = centres[(centres > 0.1 * side) & (centres < 0.9 * side)]
        assert len(inner) > 50
        assert kstest(inner, "uniform", args=(0.1 * side, 0.8 * side)).pvalue > 0.01


def test_a_batch_is_mixed_with_the_probability() -> None:
    generator = seeded(3)
    views = [draw_mix(Mixing(kind="cutmix", probability=0.25), 4, 8, 8, generator) for _ in range(2000)]
    assert abs(sum(bool(view) for view in views) - 500) < 80


def test_unmixed_batches_are_as_they_were() -> None:
    images = torch.rand(2, 3, 4, 4)
    assert draw_mix(Mixing(), 2, 4, 4, seeded()) == {}
    assert draw_mix(Mixing(kind="mixup", probability=0), 2, 4, 4, seeded()) == {}
    assert mix(images, {}) is images
    assert mixed_share({}, 4, 4) == 1


def test_the_same_generator_mixes_alike() -> None:
    first, second = (draw_mix(Mixing(kind="cutmix"), 9, 32, 32, seeded(6)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_settings_that_mean_nothing_are_refused() -> None:
    for values in ({"kind": "cutout"}, {"alpha": 0}, {"probability": 1.5}):
        with pytest.raises(ValidationError):
            Mixing.model_validate(values)
