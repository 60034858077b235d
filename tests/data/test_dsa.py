"""DSA: the condensation tables of CIFAR are trained with it, on normalised pixels; each family has a reference."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from concord.data import dsa
from concord.evaluation.augment import Augment, apply, draw

MEAN, STD = torch.tensor([0.49, 0.48, 0.45]), torch.tensor([0.2, 0.21, 0.22])
SHAPES = [(8, 8), (9, 13), (5, 6)]


def view_of(family: str, u: Tensor) -> dict[str, Tensor]:
    return {"dsa_family": torch.tensor(list(dsa.FAMILIES).index(family)), "dsa": u}


def case(family: str, shape: tuple[int, int], n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random (n, 3, H, W) images, uniform numbers, and what the family makes of them."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(n, 3, *shape, generator=generator)
    u = torch.rand(n, 3, generator=generator)
    return images.double().numpy(), u.double().numpy(), dsa.apply(images, view_of(family, u), None, None).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_color_is_brightness_then_saturation_then_contrast(shape: tuple[int, int]) -> None:
    images, u, made = case("color", shape)
    for image, (brightness, saturation, contrast), got in zip(images, u, made, strict=True):
        x = image + (brightness - 0.5)
        x = x.mean(0) + 2 * saturation * (x - x.mean(0))
        x = x.mean() + (contrast + 0.5) * (x - x.mean())
        np.testing.assert_allclose(got, x, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_shifts_by_up_to_an_eighth_and_leaves_blanks(shape: tuple[int, int]) -> None:
    images, u, made = case("crop", shape, n=200)
    reach = [int(side * 0.125 + 0.5) for side in shape]
    seen = set()
    for image, numbers, got in zip(images, u, made, strict=True):
        down, right = (int(v * (2 * r + 1)) for v, r in zip(numbers, reach, strict=False))
        seen.add((down, right))
        padded = np.pad(image, ((0, 0), (reach[0],) * 2, (reach[1],) * 2))
        np.testing.assert_array_equal(got, padded[:, down : down + shape[0], right : right + shape[1]].astype("f4"))
    assert len(seen) == (2 * reach[0] + 1) * (2 * reach[1] + 1)


@pytest.mark.parametrize("shape", SHAPES)
def test_cutout_blanks_half_of_each_side_around_any_pixel(shape: tuple[int, int]) -> None:
    """The authors clamp the box's indices to the image; a box with an even side may be centred just beyond it."""
    images, u, made = case("cutout", shape, n=300)
    cuts = [int(side * 0.5 + 0.5) for side in shape]
    for image, numbers, got in zip(images, u, made, strict=True):
        centre = [int(v * (side + 1 - cut % 2)) for v, side, cut in zip(numbers, shape, cuts, strict=False)]
        hit = [
            np.clip(np.arange(cut) + c - cut // 2, 0, side - 1)
            for c, cut, side in zip(centre, cuts, shape, strict=True)
        ]
        expected = image.copy()
        expected[:, hit[0][:, None], hit[1][None]] = 0
        np.testing.assert_array_equal(got, expected.astype("f4"))


def test_flip_mirrors_where_the_number_is_below_a_half() -> None:
    images, u, made = case("flip", (4, 5))
    expected = np.where(u[:, :1, None, None] < 0.5, images[..., ::-1], images)
    np.testing.assert_array_equal(made, expected.astype("f4"))


def resampled(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Bilinear look-up by scipy, zero outside; matrix maps (x, y) in [-1, 1] over the image's area to the source."""
    height, width = image.shape[1:]
    y, x = np.meshgrid((2 * np.arange(height) + 1) / height - 1, (2 * np.arange(width) + 1) / width - 1, indexing="ij")
    from_x, from_y = np.einsum("ij,jhw->ihw", matrix, np.stack([x, y]))
    places = [((from_y + 1) * height - 1) / 2, ((from_x + 1) * width - 1) / 2]
    return np.stack([map_coordinates(channel, places, order=1, mode="grid-constant") for channel in image])


@pytest.mark.parametrize("shape", SHAPES)
def test_scale_takes_a_factor_for_each_side(shape: tuple[int, int]) -> None:
    images, u, made = case("scale", shape)
    low = 1 / 1.2
    for image, numbers, got in zip(images, u, made, strict=True):
        factors = low + (1.2 - low) * numbers[:2]
        np.testing.assert_allclose(got, resampled(image, np.diag(factors)), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_rotate_turns_by_up_to_fifteen_degrees(shape: tuple[int, int]) -> None:
    images, u, made = case("rotate", shape)
    for image, numbers, got in zip(images, u, made, strict=True):
        angle = np.deg2rad(30 * numbers[0] - 15)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        np.testing.assert_allclose(got, resampled(image, turn), atol=1e-5)


def test_rotate_is_torchvisions_on_squares() -> None:
    images, u, made = case("rotate", (9, 9))
    for image, numbers, got in zip(images, u, made, strict=True):
        expected = TF.rotate(
            torch.tensor(image, dtype=torch.float32), 30 * numbers[0] - 15, TF.InterpolationMode.BILINEAR
        )
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("family", dsa.FAMILIES)
def test_with_mean_and_std_it_is_what_the_student_would_see_normalised(family: str) -> None:
    """DSA is defined on normalised pixels: its blanks are the mean colour, its brightness a step in deviations."""
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    view = draw(Augment(dsa=family), 6, 8, 8, torch.Generator().manual_seed(1))
    mean, std = MEAN.double()[:, None, None], STD.double()[:, None, None]
    seen = dsa.apply((images.double() - mean) / std, {**view, "dsa": view["dsa"].double()}, None, None)
    made = apply(Augment(dsa=family), images, view, 8, MEAN, STD)
    torch.testing.assert_close((made.double() - mean) / std, seen, atol=1e-5, rtol=0)


def test_a_blank_is_the_mean_colour() -> None:
    made = apply(
        Augment(dsa="cutout"), torch.ones(1, 3, 8, 8), view_of("cutout", torch.full((1, 3), 0.5)), 8, MEAN, STD
    )
    torch.testing.assert_close(made[0, :, 4, 4], MEAN)
    assert (made[0, :, 0] == 1).all()


def test_one_family_of_the_strategy_is_chosen_for_a_batch_each_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    names = list(dsa.FAMILIES)
    chosen = Counter(names[int(dsa.draw("rotate_color_flip", 1, generator)["dsa_family"])] for _ in range(3000))
    assert set(chosen) == {"rotate", "color", "flip"}
    assert all(890 < count < 1110 for count in chosen.values())  # 1000, and four standard deviations


def test_each_image_draws_its_own_numbers() -> None:
    drawn = dsa.draw("color", 50, torch.Generator().manual_seed(0))["dsa"]
    assert len(drawn[:, 0].unique()) == 50


def test_the_largest_number_below_one_never_reaches_past_the_last_choice() -> None:
    """Rounded up, it would blank or show a row that is not there; every count that a side up to 4096 px asks for."""
    u = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    counts = torch.arange(1, 4100)
    assert torch.equal((u * counts).long(), counts - 1)


@pytest.mark.parametrize("family", dsa.FAMILIES)
def test_one_draw_for_all_is_the_same_for_real_and_synthetic_images(family: str) -> None:
    real, synthetic = (torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in (7, 2))
    one = dsa.draw(family, 1, torch.Generator().manual_seed(4))
    for images in (real, synthetic):
        each = {**one, "dsa": one["dsa"].repeat(len(images), 1)}
        assert torch.equal(dsa.apply(images, one, None, None), dsa.apply(images, each, None, None))


@pytest.mark.parametrize("family", dsa.FAMILIES)
def test_gradients_pass_through_every_family(family: str) -> None:
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    view = view_of(family, torch.tensor([[0.3, 0.8, 0.6]], dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: dsa.apply(x, view, None, None), images)
