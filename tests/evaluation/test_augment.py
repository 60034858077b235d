"""Views: every step must be torchvision's or its authors' on the same numbers, or accuracies do not compare.

And a saved view must show the same pixels again, or a stored soft label belongs to an image that nobody sees.
"""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from scipy.stats import ks_2samp, kstest
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as TF

from concord.errors import ConcordError
from concord.evaluation.augment import Augment, View, apply, draw

EVERYTHING = Augment(
    patch_shuffle=2, crop=(0.5, 1), pad_crop=2, flip=True, color=0.4, lighting=0.1, dsa="color_crop_cutout_flip_scale"
)
SIDES = st.integers(2, 40)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=seeded(seed))


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, st.integers(1, 40), st.integers(0, 2**20), st.booleans())
def test_a_resized_crop_and_flip_is_torchvisions(height: int, width: int, size: int, seed: int, flip: bool) -> None:
    chosen, images = Augment(crop=(0.05, 1), flip=flip), pictures(4, height, width, seed)
    view = draw(chosen, 4, height, width, seeded(seed))
    expected = [
        TF.resized_crop(image, *box, [size, size], antialias=True)
        for image, box in zip(images, view["crop"].tolist(), strict=True)
    ]
    if flip:
        expected = [TF.horizontal_flip(x) if f else x for x, f in zip(expected, view["flip"], strict=True)]
    torch.testing.assert_close(apply(chosen, images, view, size), torch.stack(expected), atol=1e-5, rtol=0)


def test_a_resized_crop_stays_exact_at_the_size_of_imagenet() -> None:
    """Float32 weights lose their last digits as sides grow; they must not lose more than a byte's rounding."""
    images, view = pictures(2, 500, 375), {"crop": torch.tensor([[3, 7, 490, 360], [100, 200, 20, 30]])}
    expected = torch.stack(
        [
            TF.resized_crop(x.double(), *box, [224, 224], antialias=True)
            for x, box in zip(images, view["crop"].tolist(), strict=True)
        ]
    )
    made = apply(Augment(crop=(0.1, 1)), images, view, 224)
    torch.testing.assert_close(made.double(), expected, atol=5e-5, rtol=0)


@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(1, 40))
def test_without_a_crop_images_are_resized_where_their_side_differs(height: int, width: int, size: int) -> None:
    images = pictures(2, height, width)
    expected = TF.resize(images, [size, size], antialias=True)
    torch.testing.assert_close(apply(Augment(), images, {}, size), expected, atol=1e-5, rtol=0)


def test_no_settings_leave_every_pixel_alone() -> None:
    images = torch.randint(256, (3, 3, 9, 9), dtype=torch.uint8, generator=seeded())
    assert torch.equal(apply(Augment(), images, {}, 9), images.float() / 255)
    assert torch.equal(apply(Augment(), images.float() / 255, {}, 9), images.float() / 255)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 24), st.integers(1, 30), st.integers(0, 2**20), st.booleans())
def test_a_padded_crop_is_torchvisions_to_the_last_bit(side: int, pad: int, seed: int, flip: bool) -> None:
    """Also where the padding is wider than the image: torchvision then may show nothing but zeros."""
    chosen, images = Augment(pad_crop=pad, flip=flip), pictures(5, side, side, seed)
    view = draw(chosen, 5, side, side, seeded(seed))
    made = apply(chosen, images, view, side)
    for n, (down, right) in enumerate(view["shift"].tolist()):
        expected = TF.crop(TF.pad(images[n], [pad]), down + pad, right + pad, side, side)
        assert torch.equal(made[n], TF.horizontal_flip(expected) if flip and view["flip"][n] else expected)


def test_a_padded_crop_looks_everywhere_alike() -> None:
    shift = draw(Augment(pad_crop=4), 9000, 32, 32, seeded())["shift"]
    for column in shift.T:
        counts = Counter(column.tolist())
        assert sorted(counts) == list(range(-4, 5))
        assert all(880 < count < 1120 for count in counts.values())  # 1000, and four standard deviations


def shuffled(image: np.ndarray, columns: list[int], rows: list[int]) -> np.ndarray:
    """Strips of a (3, H, W) image in another order, spelled out."""
    for axis, order in ((2, columns), (1, rows)):
        step = image.shape[axis] // len(order)
        strips = np.split(image, [step * i for i in range(1, len(order))], axis=axis)
        image = np.concatenate([strips[i] for i in order], axis=axis)
    return image


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 20), st.integers(2, 4), st.integers(0, 2**20))
def test_patch_shuffle_reorders_columns_then_rows_and_keeps_every_pixel(side: int, factor: int, seed: int) -> None:
    chosen, images = Augment(patch_shuffle=factor), pictures(6, side, side, seed)
    view = draw(chosen, 6, side, side, seeded(seed))
    made = apply(chosen, images, view, side)
    for n in range(6):
        expected = shuffled(images[n].numpy(), view["columns"][n].tolist(), view["rows"][n].tolist())
        assert np.array_equal(made[n].numpy(), expected)
        assert torch.equal(made[n].flatten(1).sort().values, images[n].flatten(1).sort().values)


def test_patch_shuffle_has_four_outcomes_for_two_strips() -> None:
    """Columns and rows move as a whole: the two patches of a row stay in a row, not four free cells (24 orders)."""
    images = torch.tensor([[1.0, 2], [3, 4]]).expand(4000, 3, 2, 2)
    chosen = Augment(patch_shuffle=2)
    made = apply(chosen, images, draw(chosen, 4000, 2, 2, seeded()), 2)
    counts = Counter(tuple(x.flatten().int().tolist()) for x in made[:, 0])
    assert set(counts) == {(1, 2, 3, 4), (2, 1, 4, 3), (3, 4, 1, 2), (4, 3, 2, 1)}
    assert all(890 < count < 1110 for count in counts.values())  # 1000, and four standard deviations


def test_a_crop_is_taken_from_the_shuffled_image() -> None:
    """RDED's order: shuffle, crop, flip. With strips of unequal width the border between them moves, too."""
    chosen, images = Augment(patch_shuffle=3, crop=(0.2, 1), pad_crop=3, flip=True), pictures(8, 23, 17)
    view = draw(chosen, 8, 23, 17, seeded(5))
    made = apply(chosen, images, view, 11)
    for n in range(8):
        whole = torch.from_numpy(shuffled(images[n].numpy(), view["columns"][n].tolist(), view["rows"][n].tolist()))
        crop = TF.resized_crop(whole, *view["crop"][n].tolist(), [11, 11], antialias=True)
        down, right = view["shift"][n].tolist()
        padded = TF.crop(TF.pad(crop, [3]), down + 3, right + 3, 11, 11)
        torch.testing.assert_close(made[n], TF.horizontal_flip(padded) if view["flip"][n] else padded)


def test_more_strips_than_pixels_are_refused() -> None:
    with pytest.raises(ConcordError, match="patch_shuffle: 5 strips do not fit in images of 8 x 4 px"):
        draw(Augment(patch_shuffle=5), 1, 8, 4, seeded())


@pytest.mark.parametrize(
    ("height", "width", "scale"),
    [(64, 64, (0.5, 1.0)), (64, 64, (0.08, 1.0)), (48, 48, (0.9, 1.0)), (40, 60, (0.9, 1.0))],
)
def test_crops_are_distributed_as_torchvisions(height: int, width: int, scale: tuple[float, float]) -> None:
    """Near the whole area a try fits seldom: the number of tries shows in how often it is the central crop."""
    image = torch.empty(3, height, width)
    torch.manual_seed(7)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(3000)])
    ours = draw(Augment(crop=scale), 3000, height, width, seeded(1))["crop"].numpy().astype(int)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= [height, width]).all()
    measures = [lambda box, i=i: box[:, i] for i in range(4)]
    measures += [lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 2] / box[:, 3]]
    for measure in measures:
        assert ks_2samp(measure(ours), measure(theirs), method="asymp").pvalue > 0.01


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (7, 11), (30, 31)])
def test_a_crop_that_never_fits_is_torchvisions_central_one(height: int, width: int) -> None:
    """A share of 1 fits only where the drawn ratio is the image's own; nearly always it is the fallback."""
    ours = draw(Augment(crop=(1, 1)), 50, height, width, seeded())["crop"].tolist()
    torch.manual_seed(0)
    image = torch.empty(3, height, width)
    theirs = [RandomResizedCrop.get_params(image, [1.0, 1.0], [3 / 4, 4 / 3]) for _ in range(50)]
    assert Counter(map(tuple, ours)).most_common(1)[0][0] == Counter(theirs).most_common(1)[0][0]


def test_half_of_the_images_are_flipped() -> None:
    assert abs(int(draw(Augment(flip=True), 10000, 8, 8, seeded())["flip"].sum()) - 5000) < 200


def blended(image: Tensor, factors: list[float], order: tuple[int, ...]) -> Tensor:
    """IDC's jitter of one image as its repository describes it: one blend after another."""
    for step in order:
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        other = (torch.zeros_like(grey), grey.mean().expand_as(grey), grey)[step]
        image = factors[step] * image + (1 - factors[step]) * other
    return image


def test_colour_jitter_is_the_same_in_every_order_and_clamps_nothing() -> None:
    """The repositories shuffle the three blends; were they not to commute, the order would have to be drawn."""
    images, jitter = pictures(4, 6, 6), torch.tensor([[1.4, 1.3, 0.6], [0.6, 0.7, 1.4], [1, 1, 0], [1.4, 1.4, 1.4]])
    made = apply(Augment(color=0.4), images, {"jitter": jitter}, 6)
    assert made.min() < 0 and made.max() > 1
    for order in itertools.permutations(range(3)):
        for n in range(4):
            expected = blended(images[n].double(), jitter[n].tolist(), order)
            torch.testing.assert_close(made[n].double(), expected, atol=1e-6, rtol=0)


def test_colour_jitter_is_torchvisions_where_nothing_is_clamped() -> None:
    images = 0.4 + 0.2 * pictures(8, 10, 10)  # stays inside [0, 1] with factors up to 1.4
    view = draw(Augment(color=0.4), 8, 10, 10, seeded(2))
    made = apply(Augment(color=0.4), images, view, 10)
    for n, (brightness, contrast, saturation) in enumerate(view["jitter"].tolist()):
        expected = TF.adjust_contrast(TF.adjust_brightness(images[n], brightness), contrast)
        expected = TF.adjust_saturation(expected, saturation)
        assert expected.min() > 0 and expected.max() < 1
        torch.testing.assert_close(made[n], expected, atol=1e-4, rtol=0)  # 0.2989 or 0.299 of red in a grey


def test_jitter_factors_are_uniform_around_one() -> None:
    jitter = draw(Augment(color=0.4), 3000, 8, 8, seeded(3))["jitter"].numpy()
    for column in jitter.T:
        assert kstest(column, "uniform", args=(0.6, 0.8)).pvalue > 0.01


def test_lighting_shifts_every_pixel_along_the_eigenvectors() -> None:
    images, chosen = pictures(5, 4, 4), Augment(lighting=0.1)
    view = draw(chosen, 5, 4, 4, seeded())
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    assert np.allclose(vectors.T @ vectors, np.eye(3), atol=2e-3)
    shift = (apply(chosen, images, view, 4) - images).double()
    for n, amplitudes in enumerate(view["lighting"].double().numpy()):
        rgb = vectors @ (amplitudes * [0.2175, 0.0188, 0.0045])
        torch.testing.assert_close(shift[n], torch.tensor(rgb)[:, None, None].expand(3, 4, 4), atol=1e-6, rtol=0)
    many = draw(chosen, 3000, 4, 4, seeded(1))["lighting"].numpy().ravel()
    assert kstest(many, "norm", args=(0, 0.1)).pvalue > 0.01


def test_the_same_generator_draws_the_same_view_whatever_was_drawn_elsewhere() -> None:
    torch.manual_seed(0)
    first = draw(EVERYTHING, 6, 12, 12, seeded(9))
    torch.rand(3)
    second = draw(EVERYTHING, 6, 12, 12, seeded(9))
    other = draw(EVERYTHING, 6, 12, 12, seeded(10))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["crop"], other["crop"])


@pytest.mark.parametrize("family", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_a_view_saved_and_read_shows_the_same_pixels(family: str, tmp_path: Path) -> None:
    chosen, images = EVERYTHING.model_copy(update={"dsa": family}), pictures(6, 15, 12)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    before, kept = draw(chosen, 6, 15, 12, seeded(4)), images.clone()
    save_file(before, tmp_path / "view.safetensors")
    after = load_file(tmp_path / "view.safetensors")
    made = apply(chosen, images, before, 10, mean, std)
    assert made.shape == (6, 3, 10, 10) and made.dtype == torch.float32
    assert torch.equal(made, apply(chosen, images, after, 10, mean, std))
    assert torch.equal(images, kept)


def test_a_view_costs_few_bytes_an_image() -> None:
    """A soft label of ten classes is some 40 bytes; a view must not outweigh it."""
    view = draw(Augment(patch_shuffle=2, crop=(0.5, 1), flip=True), 100, 224, 224, seeded())
    assert sum(value.nbytes for value in view.values()) == 100 * (4 + 8 + 1)


def test_half_precision_around_it_does_not_reach_the_pixels() -> None:
    images, view = pictures(4, 16, 16), draw(EVERYTHING, 4, 16, 16, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        inside = apply(EVERYTHING, images, view, 12)
    assert torch.equal(inside, apply(EVERYTHING, images, view, 12))


@pytest.mark.parametrize(("chosen", "other"), [(Augment(flip=True), Augment(pad_crop=2)), (Augment(), EVERYTHING)])
def test_a_view_drawn_with_other_settings_is_refused(chosen: Augment, other: Augment) -> None:
    """Stored labels that are replayed under another protocol would be wrong without a word."""
    view: View = draw(other, 2, 8, 8, seeded())
    with pytest.raises(ConcordError, match="drawn with other settings"):
        apply(chosen, pictures(2, 8, 8), view, 8)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"crop": (0.9, 0.5)}, "smaller share of the area first"),
        ({"crop": (0, 1)}, "greater than 0"),
        ({"dsa": "color_zoom"}, 'unknown operation "zoom"; join some of color, crop, cutout, flip, scale, rotate'),
        ({"flips": True}, "Extra inputs"),
        ({"color": -1}, "greater than or equal to 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Augment.model_validate(values)
