"""A data set: coloured dots on grey, three classes, drawn when they are asked for."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from concord.data import ClassSpec, class_table
from concord.registry import DatasetSpec

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 60, 220)}


class Dots:
    known_details = None
    notes: Sequence[str] = ()

    def __init__(self, part: str) -> None:
        self.classes = class_table([ClassSpec(name, f"{name} dot") for name in COLOURS])
        self.fingerprint, self._first = f"dots-{part}", 0 if part == "train" else 1000

    def items(self, class_index: int) -> Sequence[str]:
        return [f"{self.classes[class_index].key}/{self._first + i:04d}" for i in range(12)]

    def read(self, item: str) -> Image.Image:
        name, number = item.split("/")
        rng = np.random.default_rng([int(number), *name.encode()])
        pixels = np.full((32, 32, 3), 128) + rng.integers(-20, 20, (32, 32, 3))
        row, column = rng.integers(6, 26, 2)
        there = np.hypot(*np.ogrid[-row : 32 - row, -column : 32 - column]) < 6
        pixels[there] = COLOURS[name]
        return Image.fromarray(pixels.astype(np.uint8))

    def size(self, item: str) -> tuple[int, int]:
        return 32, 32


DATASET = DatasetSpec("dots", "concord_example.dataset:Dots", "Coloured dots, three classes.", "CC0-1.0")
