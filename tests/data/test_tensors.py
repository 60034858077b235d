"""A student sees what is loaded here: a shifted crop or another's label costs accuracy that nobody misses."""

from __future__ import annotations

import io
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from concord.data import ClassSpec, class_table, open_data
from concord.data.tensors import TensorSet, for_testing, for_training, load, training_side
from concord.errors import ConcordError
from concord.storage.images import read_image, read_size
from concord.storage.threads import in_threads
from concord.system import cores


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size[::-1], 3), dtype=np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def mean(image: torch.Tensor) -> list[float]:
    return image.float().mean((1, 2)).tolist()


sides = st.integers(1, 80)


@settings(max_examples=40, deadline=None)
@given(width=sides, height=sides, size=st.integers(1, 40), more=st.integers(0, 10))
def test_as_torchvisions_own_transforms(width: int, height: int, size: int, more: int) -> None:
    image = noise((width, height))
    expected = v2.Compose([v2.Resize(size + more, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])(image)
    assert torch.equal(v2.functional.pil_to_tensor(for_testing(size, size + more)(image)), expected)
    square = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])(image)
    assert torch.equal(v2.functional.pil_to_tensor(for_training(size)(image)), square)


def test_every_kind_of_image_becomes_three_channels_of_bytes(tmp_path: Path) -> None:
    """Each of them red or mid-grey, wide, and read as red or mid-grey."""
    red, deep = Image.new("RGB", (20, 12), (200, 0, 0)), np.full((12, 20), 128 * 257, np.uint16)
    palette = Image.new("P", (20, 12), 1)
    palette.putpalette([0, 0, 0, 200, 0, 0])
    kinds: dict[str, tuple[Image.Image, list[int], dict[str, Any]]] = {
        "rgb.png": (red, [200, 0, 0], {}),
        "rgba.png": (red.convert("RGBA"), [200, 0, 0], {}),
        "clear.png": (Image.new("RGBA", (20, 12), (200, 0, 0, 0)), [255, 255, 255], {}),
        "cmyk.jpg": (red.convert("CMYK"), [200, 0, 0], {"quality": 100}),
        "grey.png": (Image.new("L", (20, 12), 128), [128] * 3, {}),
        "grey_alpha.png": (Image.new("LA", (20, 12), (128, 255)), [128] * 3, {}),
        "deep.png": (Image.fromarray(deep), [128] * 3, {}),
        "deep.tif": (Image.fromarray(deep), [128] * 3, {}),
        "palette.gif": (palette, [200, 0, 0], {}),
        "clear_palette.png": (palette, [255, 255, 255], {"transparency": 1}),
        "bits.png": (Image.new("1", (20, 12), 1), [255] * 3, {}),
    }
    for name, (image, _, options) in kinds.items():
        save(image, tmp_path / name.replace(".", "_") / name, **options)
    data = open_data(str(tmp_path))
    found = load(data, for_testing(8, 10))
    assert (found.images.shape, found.images.dtype) == ((len(kinds), 3, 8, 8), torch.uint8)
    assert found.labels.tolist() == list(range(len(kinds)))
    for name, (_, colour, _) in kinds.items():
        label = data.classes.find(name.replace(".", "_")).label
        assert np.abs(np.array(mean(found.images[label])) - colour).max() <= 4, name


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_corrupt_file_is_named(tmp_path: Path, content: bytes) -> None:
    for i in range(40):
        save(noise((8, 8), i), tmp_path / "a" / f"{i:02d}.png")
    (tmp_path / "a" / "33.png").write_bytes(content)
    with pytest.raises(ConcordError, match=r"a/33\.png"):
        load(open_data(str(tmp_path)), for_training(8))


def test_images_and_labels_are_in_order_and_the_first_of_each_class(tmp_path: Path) -> None:
    for c, count in (("b", 3), ("a", 2), ("c", 4)):
        for i in range(count):
            save(Image.new("RGB", (4, 4), (ord(c), i, 0)), tmp_path / c / f"{i}.png")
    data = open_data(str(tmp_path))
    found = load(data, for_training(4))
    assert found.images[:, :2, 0, 0].tolist() == [
        [ord(c), i] for c, n in (("a", 2), ("b", 3), ("c", 4)) for i in range(n)
    ]
    assert found.labels.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]
    some = load(data, for_training(4), per_class=2)
    assert some.images[:, :2, 0, 0].tolist() == [[ord(c), i] for c in "abc" for i in range(2)]
    with pytest.raises(ConcordError, match='"a" has 2 images, fewer than ipc=3'):
        load(data, for_training(4), per_class=3)


def test_no_more_than_the_result_is_held(tmp_path: Path) -> None:
    data = Drawn({"a": [(8, 8)] * 400})
    held, most = 0, 0

    def read(image: Image.Image) -> Image.Image:
        nonlocal held, most
        held += 1
        most = max(most, held)
        weakref.finalize(image, let_go)
        return image

    def let_go() -> None:
        nonlocal held
        held -= 1

    assert len(load(data, read)) == 400  # type: ignore[arg-type]
    assert most <= 2 * max(2, cores())


def test_pixels_are_between_nought_and_one() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1).expand(3, 3, 2, 2)
    part = TensorSet(images, torch.zeros(3, dtype=torch.long)).pixels(slice(1, 3))
    assert part.dtype == torch.float32
    assert part[:, 0, 0, 0].tolist() == [pytest.approx(0.2), 1]


class Drawn:
    """A set in memory, in which an image counts itself while it is held."""

    known_details, fingerprint, notes = None, "", ()

    def __init__(self, sizes: dict[str, list[tuple[int, int]]]) -> None:
        self.classes, self._sizes = class_table(ClassSpec(key) for key in sizes), sizes
        self.read_items: list[str] = []

    def items(self, class_index: int) -> list[str]:
        key = self.classes[class_index].key
        return [f"{key}/{i}" for i in range(len(self._sizes[key]))]

    def size(self, item: str) -> tuple[int, int]:
        key, _, number = item.partition("/")
        return self._sizes[key][int(number)]

    def read(self, item: str) -> Image.Image:
        self.read_items.append(item)
        return noise(self.size(item))


@pytest.mark.parametrize(
    ("sizes", "least", "side"),
    [
        ([(64, 64)] * 3, 64, 64),
        ([(64, 64)] * 3, 40, 64),
        ([(256, 256)] * 3, 64, 128),
        ([(32, 32)] * 3, 64, 32),
        ([(64, 64), (64, 64), (65, 65)], 32, 32),
        ([(64, 48)] * 3, 32, 32),
    ],
)
def test_squares_are_kept_at_their_side_and_photographs_at_the_students(
    sizes: list[tuple[int, int]], least: int, side: int
) -> None:
    data = Drawn({"a": sizes[:1], "b": sizes[1:]})
    assert training_side(data, least) == side
    assert data.read_items == [], "sizes need no decoding"


def test_the_side_is_that_of_the_images_that_are_taken() -> None:
    data = Drawn({"a": [(64, 64), (64, 64), (9, 5)], "b": [(64, 64), (64, 64), (1, 1)]})
    assert training_side(data, 32, per_class=2) == 64
    assert training_side(data, 32) == 32


_orientations = {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF"]),
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    orientation=st.integers(0, 9),
)
def test_the_size_told_is_the_size_read(kind: str, width: int, height: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    noise((width, height)).save(buffer, kind, **({} if kind in ("GIF", "BMP", "PPM", "JPEG2000") else {"exif": exif}))
    size = read_size(io.BytesIO(buffer.getvalue()))
    assert size == read_image(io.BytesIO(buffer.getvalue())).size
    if kind in ("JPEG", "PNG", "WEBP"):
        assert size == ((height, width) if 5 <= orientation <= 8 else (width, height))


def test_a_png_that_tells_of_its_turning_last_has_the_size_it_is_read_in(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    noise((7, 4)).save(buffer, "PNG", exif=exif)
    data = buffer.getvalue()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = data.index(b"IEND") - 4
    moved = data[:start] + data[end:last] + data[start:end] + data[last:]
    assert read_size(io.BytesIO(moved)) == read_image(io.BytesIO(moved)).size == (4, 7)


def test_a_file_without_a_size_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ConcordError, match=r"a\.png"):
        read_size(tmp_path / "a.png")


def test_threads_keep_the_order_and_begin_nothing_after_an_error() -> None:
    assert list(in_threads(lambda i: i * i, range(1000))) == [i * i for i in range(1000)]
    begun, lock = 0, threading.Lock()

    def work(i: int) -> int:
        nonlocal begun
        with lock:
            begun += 1
        if i == 5:
            raise ConcordError("five")
        threading.Event().wait(0.001)
        return i

    with pytest.raises(ConcordError, match="five"):
        list(in_threads(work, range(5000)))
    assert begun < 2500
