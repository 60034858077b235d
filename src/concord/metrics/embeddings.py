"""Embeddings of real, made and condition images beside each other, for the picture of their distribution (Fig. 6)."""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from concord.concepts.selection import embed_images
from concord.data.sampling import MOST, spread
from concord.metrics.measure_run import Measuring
from concord.models.encoder import Encoder
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
    encoder, sets = run.models.encoder, dict[str, tuple[np.ndarray, Sequence[int]]]()
    for variant in run.variants:
        every = run.stored.samples(variant)
        samples = [every[i] for i in spread(len(every))]
        labels = [sample.label for sample in samples]
        name = "informed" if variant == "images" else "uninformed"
        sets[name] = embed(encoder, (sample.image for sample in samples)), labels
        if variant == "images" and samples and samples[0].source:
            sets["conditions"] = embed(encoder, (run.data.read(sample.source) for sample in samples)), labels
    most = max(1, MOST // len(run.names))
    real = [embed_images(encoder, run.data, label, most, run.skip) for label in range(len(run.names))]
    sets["real"] = torch.cat(real).half().numpy(), [label for label, rows in enumerate(real) for _ in rows]
    save(run.out / "embeddings.npz", sets)


def save(path: Path, sets: Mapping[str, tuple[np.ndarray, Sequence[int]]]) -> None:
    """Write for each set that has any its embeddings and their labels."""
    arrays = {name: rows for name, (rows, _) in sets.items() if len(rows)}
    labels = {f"labels_{name}": np.asarray(sets[name][1]) for name in arrays}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **labels)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
