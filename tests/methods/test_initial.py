"""What pixels are optimised from: a wrong order, scale or space would be another method's start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_reef import PHOTOGRAPHED
from torch import Tensor

from concord.data import open_data
from concord.data.space import Space
from concord.data.tensor_set import TensorForm, decoded, encoded, save_tensors
from concord.errors import ConcordError
from concord.methods.initial import Initial
from concord.recipe import Recipe, validate
from concord.workflows.distill import distill

SPACE = Space.normalised((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
SIDE = 8


def recipe(photos: Path, **values: Any) -> Recipe:
    return validate({"method": "random", "data": str(photos), "ipc": 2, "seed": 3, **values})


def begun(photos: Path, init: str, factor: int = 1, **values: Any) -> Tensor:
    data, of = open_data(str(photos)), recipe(photos, **values)
    initial = Initial(of, data, init, "dm.init", factor)
    for entry in data.classes:
        initial.require(entry)
    return initial.values(SPACE, SIDE)


def normalised(path: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(path), float).transpose(2, 0, 1) / 255
    return (pixels - np.array([0.5, 0.4, 0.3])[:, None, None]) / np.array([0.1, 0.2, 0.3])[:, None, None]


def test_real_images_are_those_of_a_random_choice(photos: Path, tmp_path: Path) -> None:
    distill(recipe(photos), tmp_path / "random")
    expected = [normalised(path) for path in sorted((tmp_path / "random" / "images").rglob("*.png"))]
    np.testing.assert_allclose(begun(photos, "real"), np.stack(expected), atol=1e-5)


def test_in_parts_an_image_holds_four_means_of_two_by_two_pixels(photos: Path, tmp_path: Path) -> None:
    whole = begun(photos, "real", ipc=4).view(3, 4, 3, 4, 2, 4, 2).mean((4, 6))
    made = begun(photos, "real", factor=2, ipc=1)
    assert made.shape == (3, 3, SIDE, SIDE)
    corners = [made[..., :4, :4], made[..., :4, 4:], made[..., 4:, :4], made[..., 4:, 4:]]
    for place, corner in enumerate(corners):
        torch.testing.assert_close(corner, whole[:, place])


def test_encoding_undoes_decoding_where_parts_are_even() -> None:
    parts = torch.randn(8, 3, 1, 1).expand(-1, -1, 6, 6)
    torch.testing.assert_close(decoded(encoded(parts, 2), 2), parts)


def test_noise_is_normal_in_the_space_and_an_images_own(photos: Path) -> None:
    two, three = begun(photos, "noise", ipc=2), begun(photos, "noise", ipc=3)
    assert torch.equal(two.view(3, 2, -1), three.view(3, 3, -1)[:, :2])
    assert abs(float(two.mean())) < 0.15 and abs(float(two.std()) - 1) < 0.1
    assert len(two.flatten().unique()) == two.numel()


def test_herding_is_the_coreset(photos: Path, tmp_path: Path) -> None:
    distill(recipe(photos, method="herding"), tmp_path / "herding")
    expected = [normalised(path) for path in sorted((tmp_path / "herding" / "images").rglob("*.png"))]
    np.testing.assert_allclose(begun(photos, "herding"), np.stack(expected), atol=1e-5)


def test_a_finished_set_is_taken_by_its_classes(photos: Path, tmp_path: Path) -> None:
    distill(recipe(photos, classes=[PHOTOGRAPHED[2], PHOTOGRAPHED[0], PHOTOGRAPHED[1]]), tmp_path / "set")
    assert torch.equal(begun(photos, str(tmp_path / "set")), begun(photos, "real"))


def test_floats_of_a_finished_set_are_taken_unrounded_from_their_space(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    distill(recipe(photos, ipc=4), out)
    theirs, classes = Space.named("cifar10"), open_data(str(photos)).classes
    values = 5 * torch.randn(12, 3, SIDE, SIDE)
    labels = torch.arange(3).repeat_interleave(4)
    expected = SPACE.of_pixels(theirs.pixels(values)).view(3, 4, 3, SIDE, SIDE)
    save_tensors(out / "tensors.safetensors", values, labels, classes, TensorForm(theirs))
    torch.testing.assert_close(begun(photos, str(out)).view(3, 2, 3, SIDE, SIDE), expected[:, :2])
    in_parts = encoded(expected.flatten(0, 1), 2)
    torch.testing.assert_close(begun(photos, str(out), factor=2, ipc=1), in_parts)
    save_tensors(out / "tensors.safetensors", values, labels, classes, TensorForm(theirs, decode=2))
    torch.testing.assert_close(begun(photos, str(out), factor=2).view(3, 2, 3, SIDE, SIDE), expected[:, :2])
    parts = decoded(expected[:, 0], 2).view(3, 4, 3, SIDE, SIDE)
    torch.testing.assert_close(begun(photos, str(out)).view(3, 2, 3, SIDE, SIDE), parts[:, :2])


@pytest.mark.parametrize(
    ("init", "factor", "said"),
    [
        ("real", 2, 'dm.init: ipc=2 takes 8 images to begin from, and the class "coral perch" has 6'),
        ("nowhere", 1, "dm.init: there is no directory nowhere; expected real, noise, herding, or a set's one"),
    ],
)
def test_too_few_images_and_no_set_are_refused(photos: Path, init: str, factor: int, said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        begun(photos, init, factor)


def test_a_set_with_too_few_images_is_refused(photos: Path, tmp_path: Path) -> None:
    distill(recipe(photos, ipc=1), tmp_path / "set")
    with pytest.raises(ConcordError, match="has 1 image of coral perch, and ipc=2 asks for more"):
        begun(photos, str(tmp_path / "set"))
