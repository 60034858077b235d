"""Images from files of whatever mode, to file bytes, and to tensors of pixels in [-1, 1] and back."""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from concord.errors import ConcordError
from concord.storage.files import HEAD, KINDS, require_file, what_is

if TYPE_CHECKING:
    from torch import Tensor

with contextlib.suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
Image.init()
FORMATS = tuple(kind.format for kind in KINDS if kind.format in Image.OPEN)
"""Pillow's names of the formats that are read here. It has others; one of them would start Ghostscript."""
SUFFIXES = frozenset(suffix for kind in KINDS if kind.format in FORMATS for suffix in kind.suffixes.split())
"""File names that are taken for images."""
MAX_PIXELS = 178_956_970
"""Pixels of the largest image that is opened where nothing else is said, as Pillow's own limit has it: a file of a few
kilobytes may claim to be of terabytes."""
_SIZE_IN_FRONT = frozenset({"JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "PPM"})
"""Formats whose header gives the size that the pixels will have, but for EXIF orientation."""
_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)
Source = Path | BinaryIO


@dataclass(frozen=True)
class ReadOptions:
    """How image files are read.

    hint: added to the error on one that cannot be read, what the user may do. grey_range: values of 16-bit grey that
    become black and white, None for [0, 65535]. max_pixels: of an image that is opened, None for `MAX_PIXELS`.
    """

    hint: str = ""
    grey_range: tuple[int, int] | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        if self.grey_range and self.grey_range[0] >= self.grey_range[1]:
            raise ConcordError(f"grey_range: expected black below white, as in 0 4095, got {[*self.grey_range]}")


PLAIN = ReadOptions()


def read_image(source: Source, options: ReadOptions = PLAIN, name: str = "") -> Image.Image:
    """Read an image file: RGB, 8 bits, EXIF orientation applied, transparency over white, 16 bits scaled to 8.

    The result carries no metadata (position, profile), so that what is written from it depends on its pixels alone.
    name: what the error (the file is missing, truncated, no image, or too large) calls a source that is no path.
    """
    with open_image(source, options, name) as image:
        image.load()
        return as_rgb(image, options.grey_range)


def read_size(source: Source, options: ReadOptions = PLAIN, name: str = "") -> tuple[int, int]:
    """Return (width, height) that `read_image` gives, from the file's head where that tells."""
    with open_image(source, options, name) as image:
        width, height = image.size
        # A PNG may have its EXIF data behind the pixels, so that Pillow decodes it all to see: not for a square.
        if width != height and (image.format not in _SIZE_IN_FRONT or image.getexif().get(_ORIENTATION) in _SIDEWAYS):
            image.load()
            width, height = ImageOps.exif_transpose(image).size
        return width, height


@contextlib.contextmanager
def open_image(source: Source, options: ReadOptions = PLAIN, name: str = "") -> Iterator[Image.Image]:
    """Open an image by Pillow, as nothing else does, and turn whatever goes wrong with it into a line for the user."""
    most = options.max_pixels or MAX_PIXELS
    try:
        if isinstance(source, Path):
            require_file(source)
        if Image.MAX_IMAGE_PIXELS is not None:
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, -(-most // 2))  # it refuses above twice
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as image:
                if image.width * image.height > most:
                    raise Image.DecompressionBombError
                yield image
    except MemoryError:
        raise
    except Exception as error:  # decoders meet hostile bytes with errors of every kind: all mean the same to the user
        bomb = f"it has more than {most} pixels; max_pixels=... allows them"
        reason = bomb if isinstance(error, Image.DecompressionBombError) else _reason(error, source)
        raise ConcordError(f"cannot read the image {name or source}: {reason}{options.hint}") from error


def as_rgb(image: Image.Image, grey_range: tuple[int, int] | None = None) -> Image.Image:
    """Return an image of any mode as upright 8-bit RGB without metadata, see `read_image`."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit grey: Pillow's own convert("RGB") clips at 255 instead of scaling. 65535 / 257 = 255.
        low, high = grey_range or (0, 65535)
        grey = np.asarray(image).astype(np.int64).clip(low, high) - low
        image = Image.fromarray(((255 * grey + (high - low) // 2) // (high - low)).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range; store 8 or 16 bits")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    clean = Image.new("RGB", rgb.size)
    clean.paste(rgb)
    return clean


def square(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` pixels and keep the middle square: (size, size)."""
    return fitted(image, (size, size))


def fitted(image: Image.Image, sides: tuple[int, int]) -> Image.Image:
    """Scale and keep the middle, as large as can be of the shape of `sides`: (height, width)."""
    return ImageOps.fit(image, sides[::-1], Image.Resampling.BICUBIC)


def _reason(error: Exception, source: Source) -> str:
    """Say why a file could not be read, in one line and without its name."""
    if isinstance(error, UnidentifiedImageError):
        with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as file:
            file.seek(0)
            return what_is(file.read(HEAD), FORMATS) or "it is not an image, or damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__


class ImageFormat(Protocol):
    """kind: png, webp or jpeg; quality is JPEG's."""

    @property
    def kind(self) -> str: ...

    @property
    def quality(self) -> int: ...


def encode(image: Image.Image, form: ImageFormat) -> bytes:
    """Return an RGB image as file bytes: PNG and WebP lossless, JPEG with the quality given and full colour."""
    buffer = io.BytesIO()
    if form.kind == "png":
        image.save(buffer, "PNG")
    elif form.kind == "webp":
        image.save(buffer, "WEBP", lossless=True, quality=80, method=4)  # lossless: quality is the encoder's effort
    else:
        image.save(buffer, "JPEG", quality=form.quality, subsampling=0)
    return buffer.getvalue()


def to_pixels(image: Image.Image) -> "Tensor":
    """A PIL image as pixels (3, H, W) in [-1, 1]."""
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(127.5).sub(1)


def to_pil(pixels: "Tensor") -> list[Image.Image]:
    """Pixels (B, 3, H, W) in [-1, 1] as PIL images, rounded as diffusers rounds; values outside are clamped."""
    array = (pixels.float() / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(a) for a in (array * 255).round().astype(np.uint8)]


def shrunk(image: Image.Image, side: int) -> Image.Image:
    """The image with a shorter side of at most `side` pixels, its aspect kept; smaller ones are left as they are."""
    if (short := min(image.size)) <= side:
        return image
    width, height = (round(edge * side / short) for edge in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def batches(images: Iterable[Image.Image], size: int = 64) -> "Iterator[Tensor]":
    """Pixels (B, 3, H, W) of images in their order, which are taken as they are needed.

    A batch ends where the image size changes.
    """
    import torch

    def pixels() -> "Tensor":
        return torch.stack([to_pixels(image) for image in some])

    some: list[Image.Image] = []
    for image in images:
        if some and (len(some) == size or image.size != some[-1].size):
            yield pixels()
            some = []
        some.append(image)
    if some:
        yield pixels()
