"""Sets of images that are read as they are asked for: in their order, ahead of who asks, and never all at once."""

from __future__ import annotations

import threading
import weakref
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from concord.errors import ConcordError
from concord.metrics import unread
from concord.metrics.completeness import completeness
from concord.metrics.measure_run import Pictures
from concord.metrics.scorers import Concept, Vocabulary
from concord.metrics.unread import Unread
from concord.storage.images import batches, to_pixels

SIDE = 10


class Shelf:
    """Grey images by their number; it counts how often each was taken, and how many are in use at once."""

    def __init__(self) -> None:
        self.taken, self._lock = Counter[int](), threading.RLock()
        self.in_use = self.most = 0

    def read(self, number: int) -> Image.Image:
        self.taken[number] += 1
        image = Image.new("RGB", (SIDE, SIDE), (number % 256,) * 3)
        with self._lock:
            self.in_use += 1
            self.most = max(self.most, self.in_use)
        weakref.finalize(image, self._given_back)
        return image

    def _given_back(self) -> None:
        with self._lock:
            self.in_use -= 1


def test_a_small_set_is_read_once_and_in_its_order() -> None:
    shelf = Shelf()
    images = Unread(shelf.read, range(100))
    for _ in range(3):
        assert [image.getpixel((0, 0))[0] for image in images] == list(range(100))  # type: ignore[index]
    assert len(images) == 100
    assert images[-1].getpixel((0, 0)) == (99, 99, 99)
    assert [image.getpixel((0, 0)) for image in images[2:4]] == [(2, 2, 2), (3, 3, 3)]
    assert set(shelf.taken.values()) == {1}


def test_of_a_large_set_only_a_few_are_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unread, "KEPT", 20 * 3 * SIDE**2)
    shelf = Shelf()
    images = Unread(shelf.read, range(2000))
    found = [int(pixels[0, 0, 0, 0].add(1).mul(127.5).round()) for pixels in batches(images, 1)]
    assert found == [number % 256 for number in range(2000)]
    assert shelf.most < 200
    assert sum(1 for _ in images) == 2000
    assert Counter(shelf.taken.values()) == {1: 20, 2: 1980}


def test_who_asks_for_an_image_that_is_gone_is_told() -> None:
    def read(number: int) -> Image.Image:
        if number == 7:
            raise ConcordError("number 7 is gone")
        return Image.new("RGB", (SIDE, SIDE))

    with pytest.raises(ConcordError, match="number 7 is gone"):
        list(Unread(read, range(20)))


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4, 4], [4, 5, 5, 4, 4], [4], []])
def test_batches_take_images_one_by_one_and_end_where_the_size_changes(sizes: list[int]) -> None:
    images = [Image.new("RGB", (side, side), (10 * n, 0, 0)) for n, side in enumerate(sizes)]
    expected, start = list[list[Image.Image]](), 0
    for end in range(1, len(images) + 1):
        if end == len(images) or end - start == 2 or images[end].size != images[start].size:
            expected.append(images[start:end])
            start = end
    found = list(batches(iter(images), 2))
    assert [len(pixels) for pixels in found] == [len(some) for some in expected]
    for pixels, some in zip(found, expected, strict=True):
        assert all((a == to_pixels(b)).all() for a, b in zip(pixels, some, strict=True))


def test_details_are_counted_batch_by_batch_as_at_once() -> None:
    """The first column of an image says which concepts it shows; 150 images are three batches."""
    rng = np.random.default_rng(0)
    shown, labels = rng.uniform(size=(150, 4)) < 0.5, rng.integers(0, 2, 150)
    pixels = np.zeros((150, SIDE, SIDE, 3), np.uint8)
    pixels[:, :4, 0] = 255 * shown[..., None]

    class Column:
        threshold = 0.5

        def rate(self, images: object, concepts: list[Concept]) -> object:
            return (images[:, 0, :4, 0] + 1) / 2  # type: ignore[index]

    vocabulary = Vocabulary.of(["a", "b"], [["w", "x"], ["x", "y", "z"]], shared=True)
    own = vocabulary.own[labels]
    share, foreign = (shown & own).sum(1) / own.sum(1), (shown & ~own).sum(1)
    made = Pictures(Unread(lambda n: Image.fromarray(pixels[n]), range(150)), labels)
    found = completeness(Column(), vocabulary, {"informed": made})["informed"]  # type: ignore[arg-type]
    assert found == {"mean": share.mean(), "complete": (share == 1).mean(), "foreign": foreign.mean(), "n": 150}
