"""Images small enough to lie inside one HTML file: as many and as large as a budget of bytes lets."""

import base64
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from concord.errors import ConcordError
from concord.storage.images import open_image
from concord.system import cores

BUDGET = 16_000_000
"""Bytes of all images in a page, as text: what a browser opens in a second."""
SIDES = (256, 192, 160, 128, 96)
_BYTES_A_PIXEL = 0.35  # of a photograph as WebP of this quality, a third more as text: a guess on the safe side
_QUALITY = 82
_AT_ONCE = 256
EXACT = 96
"""Longest edge of images that keep every pixel: there is next to nothing to save, and each is seen."""


def side_for(images: int, budget: int) -> int:
    """The longest edge in pixels at which so many images are likely to keep to the budget; the smallest, if none is."""
    return next((side for side in SIDES if images * side**2 * _BYTES_A_PIXEL <= budget), SIDES[-1])


def thumbnail(path: Path, side: int) -> str:
    """An image as a data URI, its edges shrunk to `side` pixels at most; empty where the file is gone or no image."""
    try:
        with open_image(path) as image:
            image.draft("RGB", (side, side))
            small = image.convert("RGB")
    except ConcordError:
        return ""
    return data_uri(small, side, effort=2)


def data_uri(image: Image.Image, side: int, effort: int) -> str:
    """An RGB image as a data URI, with edges of at most `side` pixels. effort: 0 to 6, the time to make it small."""
    drawn = max(image.size) <= EXACT
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=drawn, quality=_QUALITY, method=effort)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def fitting(groups: Iterable[Sequence[Path]], side: int, budget: int) -> Iterator[list[str]]:
    """Yield the data URIs of one group of files after the other, as long as whole groups keep to the budget."""
    spent = 0
    with ThreadPoolExecutor(cores()) as pool:  # Pillow lets other threads run while it works
        for some in _portions(groups):
            uris = iter(list(pool.map(lambda path: thumbnail(path, side), [path for group in some for path in group])))
            for group in some:
                texts = [next(uris) for _ in group]
                spent += sum(map(len, texts))
                if spent > budget:
                    return
                yield texts


def _portions(groups: Iterable[Sequence[Path]]) -> Iterator[list[Sequence[Path]]]:
    portion: list[Sequence[Path]] = []
    for group in groups:
        portion.append(group)
        if sum(map(len, portion)) >= _AT_ONCE:
            yield portion
            portion = []
    yield portion


def samples_within(images_a_sample: int, classes: int, budget: int) -> int:
    """How many samples a class can be shown at the smallest size, at least 1."""
    return max(1, math.floor(budget / (SIDES[-1] ** 2 * _BYTES_A_PIXEL * images_a_sample * max(1, classes))))
