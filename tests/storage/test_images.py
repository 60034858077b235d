"""A wrong reading would train on sideways, black or clipped pictures, and nobody would see why accuracy is low."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

import concord
from concord.errors import ConcordError
from concord.storage.files import KINDS, Kind
from concord.storage.images import SUFFIXES, ReadOptions, as_rgb, read_image, read_size, square


def _saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def _file(image: Image.Image) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.fspath(path))


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
        read_image(path, ReadOptions("; do this"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("; do this")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (bytes(700), "it holds nothing but zeros"),
        (b"no image at all", "it is not an image, or damaged"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "it begins as PNG does, but is damaged or cut off"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 64, "it begins as JPEG does, but is damaged or cut off"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "it is a Git LFS pointer; git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "it is HTML; it came from a link to a page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is PostScript"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", "it is a video"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "it is a camera's raw file"),
        (b"8BPS\0\1" + bytes(99), "it is Photoshop's"),
        (bytes(128) + b"DICM", "it is DICOM"),
        (b"PK\3\4" + bytes(99), "it is an archive; unpack it"),
    ],
)
def test_what_is_no_image_is_named_as_what_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for source, name in ((path, ""), (io.BytesIO(content), "set/a.jpg")):
        with pytest.raises(ConcordError, match=rf"cannot read the image \S+a\.jpg: {said}"):
            read_image(source, name=name)


@given(st.binary(max_size=600), st.sampled_from(KINDS))
def test_no_bytes_come_as_another_error(body: bytes, kind: Kind) -> None:
    for at, magic in kind.magic or ((0, b""),):
        with contextlib.suppress(ConcordError):
            read_image(io.BytesIO(body[:at].ljust(at, b"\0") + magic + body[at:]))


def test_only_formats_that_are_named_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def ghostscript(*given: object, **more: object) -> object:
        started.append(given)
        return Image.new("RGB", (8, 8)).im

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", ghostscript)
    for name in ("a.eps", "a.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name, "EPS")
        with pytest.raises(ConcordError, match="it is PostScript"):
            read_image(tmp_path / name)
        assert not started
    Image.open(tmp_path / "a.png").load()
    assert started, "Pillow by itself starts it"


def test_no_other_file_opens_images_by_itself() -> None:
    source = Path(concord.__file__).parent
    found = [path for path in source.rglob("*.py") if re.search(r"\bImage\.open\(", path.read_text(encoding="utf-8"))]
    assert [path.relative_to(source).as_posix() for path in found] == ["storage/images.py"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, _socket, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused_before_it_hangs(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "a.png")
    for read in (read_image, read_size):
        with pytest.raises(
            ConcordError, match=r"a\.png: it is a (pipe|folder|socket|device), where a file is expected"
        ):
            read(tmp_path / "a.png")


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
    for read in (read_image, read_size):
        with pytest.raises(
            ConcordError, match=r"bomb: it has more than 178956970 pixels; max_pixels=\.\.\. allows them"
        ):
            read(buffer, name="bomb")
        with pytest.raises(ConcordError, match="it has more than 99 pixels"):
            read(_file(Image.new("L", (10, 10))), ReadOptions(max_pixels=99))
    assert read_size(buffer, ReadOptions(max_pixels=200_000_000)) == (20_000, 10_000)
    with pytest.raises(ConcordError, match="more than 178956970"):
        read_size(buffer)
    assert read_image(_file(Image.new("L", (10, 10))), ReadOptions(max_pixels=100)).size == (10, 10)


@pytest.mark.parametrize(("low", "high"), [(0, 4095), (0, 65535), (1000, 1255), (30000, 40000)])
def test_sixteen_bits_are_scaled_by_the_range_that_is_named(low: int, high: int) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    values[0, :4] = low, high, low + 1, high - 1
    read = np.asarray(read_image(_file(Image.fromarray(values)), ReadOptions(grey_range=(low, high))))[..., 0]
    expected = (values.clip(low, high).astype(float) - low) / (high - low) * 255
    assert np.abs(read - expected).max() <= 0.5 + 1e-9
    assert (read[0, 0], read[0, 1]) == (0, 255)


def test_photographs_of_phones_are_read_where_the_plugin_is(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (40, 30), (200, 30, 40))
    image.save(tmp_path / "a.heic", "HEIF")
    image.save(tmp_path / "b.jpg", "HEIF")
    for name in ("a.heic", "b.jpg"):
        read = read_image(tmp_path / name)
        assert read.size == read_size(tmp_path / name) == (40, 30)
        assert np.abs(np.asarray(read).astype(int) - [200, 30, 40]).max() <= 6
    assert ".heic" in SUFFIXES


def test_a_plugin_of_pillow_is_taken_in_where_it_is_installed(tmp_path: Path) -> None:
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image, PngImagePlugin\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', PngImagePlugin.PngImageFile, lambda prefix: prefix[:4] == b'\\x89PNG')\n"
    )
    lines = "from concord.storage.images import FORMATS, SUFFIXES; print('HEIF' in FORMATS, '.heic' in SUFFIXES)"
    there = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", lines], env=there, capture_output=True, text=True)
    assert done.stdout.strip() == "True True", done.stderr


def test_square_keeps_the_middle_and_the_size() -> None:
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste("blue", (30, 0, 60, 30))
    assert square(wide, 10).size == (10, 10)
    assert np.asarray(square(wide, 30)).reshape(-1, 3)[..., 2].min() == 255
    assert square(Image.new("RGB", (4, 7)), 16).size == (16, 16)
