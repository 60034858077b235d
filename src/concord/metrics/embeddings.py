"""Embeddings of real, made and condition images beside each other, for the picture of their distribution (Fig. 6)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from concord.concepts.selection import embed_images
from concord.data.sampling import MOST, spread
from concord.metrics.measure_run import Measuring, load_pictures
from concord.models.encoder import Encoder
from concord.runs.store import read_manifest
from concord.storage import images
from concord.storage.atomic import write_atomically

BATCH = 64


def embed(encoder: Encoder, pictures: Iterator[Image.Image]) -> np.ndarray:
    """Unit embeddings (N, D), float16, of images that are read one by one."""
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        while some := list(islice(pictures, BATCH)):
            rows += [encoder.images(pixels).half().cpu() for pixels in images.batches(some)]
    return torch.cat(rows).numpy() if rows else np.empty((0, 0), np.float16)


def measure(run: Measuring) -> None:
    """The metric `embeddings`, where concepts inform: leave embeddings.npz, some of each set with their labels."""
    if run.concepts is None or not run.concepts.used:
        return
    encoder = run.models.encoder
    sets: dict[str, tuple[np.ndarray, Sequence[int]]] = {}
    for variant in run.variants:
        rows = read_manifest(run.out / variant)
        rows = [rows[i] for i in spread(len(rows))]
        pictures = (picture for row in rows for picture in load_pictures(run.out / variant, [row]))
        name = "informed" if variant == "images" else "uninformed"
        sets[name] = embed(encoder, pictures), [row["label"] for row in rows]
        if variant == "images" and rows and rows[0]["source"]:
            read = (run.data.read(row["source"]) for row in rows)
            sets["conditions"] = embed(encoder, read), [row["label"] for row in rows]
    most = max(1, MOST // len(run.names))
    real = [embed_images(encoder, run.data, label, most, run.skip) for label in range(len(run.names))]
    sets["real"] = torch.cat(real).half().numpy(), [label for label, rows in enumerate(real) for _ in rows]
    save(run.out / "embeddings.npz", sets)


def save(path: Path, sets: Mapping[str, tuple[np.ndarray, Sequence[int]]]) -> None:
    """Write for each set that has any its embeddings and their labels."""
    arrays = {name: rows for name, (rows, _) in sets.items() if len(rows)}
    labels = {f"labels_{name}": np.asarray(of) for name, (rows, of) in sets.items() if len(rows)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **labels)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
