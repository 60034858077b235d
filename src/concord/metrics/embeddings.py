"""Embeddings of real, made and condition images beside each other, for the picture of their distribution (Fig. 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from concord.models.encoder import Encoder
from concord.storage import images

BATCH = 64


def embed(encoder: Encoder, pictures: Iterator[Image.Image]) -> np.ndarray:
    """Unit embeddings (N, D), float16, of images that are read one by one."""
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        while some := list(islice(pictures, BATCH)):
            rows += [encoder.images(pixels).half().cpu() for pixels in images.batches(some)]
    return torch.cat(rows).numpy() if rows else np.empty((0, 0), np.float16)


def save(path: Path, sets: dict[str, tuple[np.ndarray, Sequence[int]]]) -> None:
    """Write `embeddings.npz`: for each set that has any, its embeddings and their labels."""
    from io import BytesIO

    from concord.storage.atomic import write_atomically

    arrays = {name: rows for name, (rows, _) in sets.items() if len(rows)}
    labels = {f"labels_{name}": np.asarray(of) for name, (rows, of) in sets.items() if len(rows)}
    buffer = BytesIO()
    np.savez(buffer, **arrays, **labels)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
