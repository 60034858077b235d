"""A wrong reading would train on sideways, black or clipped pictures, and nobody would see why accuracy is low."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from concord.errors import ConcordError
from concord.storage.images import as_rgb, read_image, square


def _saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def _gradient(dtype: type, top: int) -> np.ndarray:
    return np.linspace(0, top, 256).round().astype(dtype).reshape(16, 16)


@pytest.mark.parametrize(("kind", "suffix"), [("png", "png"), ("tiff", "tif"), ("ppm", "pgm")])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, kind: str, suffix: str) -> None:
    values = _gradient(np.uint16, 65535)
    path = _saved(Image.fromarray(values), tmp_path / f"a.{suffix}", format=kind)
    read = np.asarray(read_image(path))
    assert read.shape == (16, 16, 3)
    assert np.abs(read[..., 0] - values / 257).max() <= 0.5 + 1e-9


def test_grey_bilevel_and_palette_become_equal_channels(tmp_path: Path) -> None:
    grey = Image.fromarray(_gradient(np.uint8, 255))
    for name, image in {"l": grey, "p": grey.convert("P"), "1": grey.convert("1")}.items():
        read = np.asarray(read_image(_saved(image, tmp_path / f"{name}.png")))
        expected = np.asarray(image.convert("L"))
        assert all((read[..., c] == expected).all() for c in range(3))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_lies_over_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.putpixel((0, 0), (0, 0, 0, 255))
    read = np.asarray(as_rgb(image.convert(mode)))
    assert (read[0, 0] == 0).all()
    assert (read[1:] == 255).all()


def test_half_transparency_blends_with_white() -> None:
    read = np.asarray(as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 128))))
    assert np.abs(read[0, 0].astype(int) - [255, 127, 127]).max() <= 1


def test_transparent_colour_of_a_palette_or_rgb_file(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 200, 0, 0])
    palette.putpixel((1, 0), 1)
    read = np.asarray(read_image(_saved(palette, tmp_path / "a.png", transparency=0)))
    assert read[0].tolist() == [[255, 255, 255], [200, 0, 0]]
    plain = Image.new("RGB", (2, 1), (1, 2, 3))
    plain.putpixel((1, 0), (4, 5, 6))
    read = np.asarray(read_image(_saved(plain, tmp_path / "b.png", transparency=(1, 2, 3))))
    assert read[0].tolist() == [[255, 255, 255], [4, 5, 6]]


def test_cmyk_photographs_keep_their_colours(tmp_path: Path) -> None:
    cmyk = Image.new("RGB", (8, 8), (200, 40, 40)).convert("CMYK")
    read = np.asarray(read_image(_saved(cmyk, tmp_path / "a.jpg", quality=100)))
    assert np.abs(read.astype(int) - [200, 40, 40]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10)
    # What a camera stores so that its tag turns it back: the inverse of what the tag says.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(_saved(stored, tmp_path / "a.png", exif=exif))
    assert (np.asarray(read)[..., 0] == np.asarray(upright)).all()


def test_no_metadata_outlives_reading(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = _saved(Image.new("RGB", (4, 4), "red"), tmp_path / "a.jpg", exif=exif, icc_profile=profile, dpi=(300, 300))
    buffer = io.BytesIO()
    read_image(path).save(buffer, "PNG")
    again = Image.open(io.BytesIO(buffer.getvalue()))
    assert not again.info
    assert not again.getexif()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"broken.{kind.lower()}"
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path, kind)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ConcordError, match=r"cannot read the image .*broken") as caught:
        read_image(path, "; do this")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; do this")


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n" + b"\0" * 64])
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ConcordError, match=r"a\.png"):
        read_image(path)


def test_a_missing_or_float_image_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="No such file"):
        read_image(tmp_path / "gone.png")
    path = _saved(Image.fromarray(np.ones((4, 4), np.float32)), tmp_path / "f.tif")
    with pytest.raises(ConcordError, match="floating-point"):
        read_image(path)


def test_square_keeps_the_middle_and_the_size() -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    assert square(wide, 10).size == (10, 10)
    assert np.asarray(square(wide, 30)).reshape(-1, 3)[..., 2].min() == 255
    assert square(Image.new("RGB", (4, 7)), 16).size == (16, 16)
