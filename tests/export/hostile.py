"""Photographs in folders whose names do their worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

HOSTILE = "<script>alert(1)</script>/../x"
"""A class name."""
FOLDERS = {"<script>alert(1)<": 3, "dr. who | `x`/tail": 4, "straße 東京": 3, "train": 3}
"""Folders and their numbers of images: HTML, a nested one with Markdown and dots, other scripts, a split's name."""


def photographs(root: Path, counts: dict[str, int], side: int = 12) -> Path:
    draw = np.random.default_rng(5)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            picture = Image.fromarray(draw.integers(0, 255, (side, side, 3), dtype=np.uint8))
            picture.save(root / folder / f"{i}.png")
    return root
