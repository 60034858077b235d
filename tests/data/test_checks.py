"""Test images that were trained on make any accuracy look good; a false alarm would stop an honest comparison."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import open_data, open_test
from concord.data.checks import duplicates, overlap, shared_images, survey
from concord.data.folder import FolderSet
from concord.errors import ConcordError


def noise(seed: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Two sets of two classes, of images of their own."""
    for place in ("train", "test"):
        for i in range(4):
            sizes = ((8, 8), (9, 8), (8, 9), (7, 7))
            save(noise(i + 10 * (place == "test"), sizes[i]), tmp_path / place / "ab"[i % 2] / f"{i}.png")
    return tmp_path / "train", tmp_path / "test"


def found(places: tuple[Path, Path]) -> list[tuple[str, str]]:
    return overlap(*(open_data(str(place)) for place in places))


def test_sets_of_their_own_share_nothing(places: tuple[Path, Path]) -> None:
    assert found(places) == []
    assert shared_images(*(open_data(str(place)) for place in places)) == []


def test_a_copy_is_found_whatever_its_name_class_and_format(places: tuple[Path, Path]) -> None:
    train, test = places
    shutil.copy(test / "a" / "0.png", train / "b" / "other.png")
    photograph = test / "b" / "photo.jpg"
    save(noise(50, (20, 12)), photograph)
    save(Image.open(photograph), train / "a" / "photo.webp", lossless=True)
    upright = noise(51, (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(upright, test / "a" / "upright.png")
    save(upright.transpose(Image.Transpose.ROTATE_90), train / "a" / "turned.png", exif=exif)
    grey = noise(52).convert("L")
    save(grey, test / "a" / "grey.png")
    save(grey.convert("RGBA"), train / "a" / "rgba.png")
    assert found(places) == [
        ("b/other.png", "a/0.png"),
        ("a/rgba.png", "a/grey.png"),
        ("a/turned.png", "a/upright.png"),
        ("a/photo.webp", "b/photo.jpg"),
    ]


def test_equal_bytes_of_another_shape_are_another_image(places: tuple[Path, Path]) -> None:
    train, test = places
    save(Image.new("RGB", (8, 9), "red"), train / "a" / "x.png")
    save(Image.new("RGB", (9, 8), "red"), test / "a" / "x.png")
    assert found(places) == []


def test_one_pixel_makes_another_image(places: tuple[Path, Path]) -> None:
    train, test = places
    changed = Image.open(test / "a" / "0.png").copy()
    red, *rest = changed.getpixel((7, 7))  # type: ignore[misc]
    changed.putpixel((7, 7), (red ^ 1, *rest))
    save(changed, train / "a" / "x.png")
    assert found(places) == []


def test_doubles_within_a_set_are_found_in_sets_of_one_size_and_of_many(
    tmp_path: Path, places: tuple[Path, Path]
) -> None:
    train, _ = places
    shutil.copy(train / "a" / "0.png", train / "b" / "0.png")
    assert duplicates(open_data(str(train))) == [("a/0.png", "b/0.png")]
    for i, seed in enumerate((0, 1, 0, 0)):
        save(noise(seed), tmp_path / "squares" / "ab"[i % 2] / f"{i}.png")
    assert duplicates(open_data(str(tmp_path / "squares"))) == [("a/0.png", "a/2.png"), ("a/0.png", "b/3.png")]


def test_the_lines_count_and_name_a_few(places: tuple[Path, Path]) -> None:
    train, test = places
    for i in range(4):
        shutil.copy(test / "a" / "0.png", train / "a" / f"x{i}.png")
        save(noise(90 + i), train / "b" / f"y{i}.png")
        save(noise(90 + i), test / "b" / f"z{i}.png")
    shared, double = shared_images(*(open_data(str(place)) for place in places))
    assert shared == (
        "5 images of the test set are in the training set too: a/0.png = a/x0.png, b/z0.png = b/y0.png,"
        " b/z1.png = b/y1.png ..."
    )
    assert double.startswith("3 images of the training set are there twice: a/x1.png = a/x0.png")


def test_only_images_of_a_size_that_both_have_are_decoded(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, _ = places
    shutil.rmtree(train / "b")
    (train / "a" / "2.png").unlink()
    read: list[str] = []
    whole = FolderSet.read

    def counted(self: FolderSet, item: str) -> Image.Image:
        read.append(f"{self.root.name}/{item}")
        return whole(self, item)

    monkeypatch.setattr(FolderSet, "read", counted)
    assert found(places) == []
    assert sorted(read) == ["test/a/0.png", "train/a/0.png"]


def test_an_image_that_cannot_be_read_is_named(places: tuple[Path, Path]) -> None:
    (places[0] / "a" / "0.png").write_bytes(b"broken")
    with pytest.raises(ConcordError, match=r"train/a/0\.png"):
        found(places)


def scans(root: Path, top: int, count: int = 6, **options: Any) -> Path:
    """Two classes of 16-bit grey images of which none is brighter than `top`."""
    for i in range(2 * count):
        grey = np.random.default_rng(i).integers(0, top, (16, 16), endpoint=True).astype(np.uint16)
        grey[0, 0] = top
        save(Image.fromarray(grey), root / "ab"[i % 2] / f"{i}.png", **options)
    return root


@pytest.mark.parametrize(("top", "white"), [(4095, 4095), (2600, 4095), (1023, 1023), (200, 255), (16383, 16383)])
def test_nearly_black_16_bits_are_said_with_the_range_that_scales_them(tmp_path: Path, top: int, white: int) -> None:
    data = open_data(str(scans(tmp_path, top)))
    [note] = data.notes
    assert f"brightest pixel looked at is {top} of 65535; grey_range=[0, {white}] scales them" in note
    assert survey(data).grey == (0, white)
    scaled = open_data(str(tmp_path), grey_range=(0, white))
    assert not scaled.notes and survey(scaled).grey is None
    assert np.asarray(scaled.read("a/0.png")).max() == round(top / white * 255)
    assert np.asarray(data.read("a/0.png")).max() == round(top / 257), "as before"


def test_what_is_bright_or_has_no_16_bits_is_left_alone(tmp_path: Path) -> None:
    assert not open_data(str(scans(tmp_path / "bright", 20_000))).notes
    save(noise(1), tmp_path / "eight" / "a" / "0.png")
    assert not open_data(str(tmp_path / "eight")).notes
    [note] = open_data(str(tmp_path / "eight"), grey_range=(0, 4095)).notes
    assert note == "grey_range does nothing here: no image looked at has 16 bits of grey"
    with pytest.raises(ConcordError, match="grey_range: it is of 16-bit files, and reef has none"):
        open_data("reef", grey_range=(0, 4095))


def test_dark_images_of_8_bits_are_said_when_a_set_is_surveyed(tmp_path: Path) -> None:
    for i in range(6):
        save(noise(i).point(lambda value: value // 16), tmp_path / "ab"[i % 2] / f"{i}.png")
    assert (
        "most images are nearly black: they have no pixel that is brighter than 64 of 255"
        in survey(open_data(str(tmp_path))).warnings
    )


def test_the_limit_of_pixels_is_that_of_the_setting(tmp_path: Path) -> None:
    for i in range(4):
        save(noise(i, (40, 30) if i else (60, 50)), tmp_path / "a" / f"{i}.png")
    data = open_data(str(tmp_path), max_pixels=1200)
    assert data.size("a/1.png") == (40, 30)
    with pytest.raises(
        ConcordError, match=r"a/0\.png: it has more than 1200 pixels; max_pixels=\.\.\. allows them; unre"
    ):
        data.read("a/0.png")
    with pytest.raises(ConcordError, match=r"3 of the 4 images looked at cannot be read|4 of the 4"):
        open_test(str(tmp_path), max_pixels=99)


@pytest.mark.parametrize("command", ["select", "score", "compare"])
def test_commands_on_concepts_read_scans_by_a_range(tmp_path: Path, command: str) -> None:
    def said(*options: str) -> str:
        banks = ["reef", "reef"] if command == "compare" else ["reef"]
        words = ["concepts", command, *banks, str(tmp_path), "--encoder", "no/encoder", *options]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2
        return done.output

    scans(tmp_path, 4095)
    assert "nearly black" in said()
    assert "nearly black" not in said("--grey-range", "0", "4095")
    assert "expected black below white, as in 0 4095, got [9, 9]" in said("--grey-range", "9", "9")
