"""Embeddings of real, made and condition images beside each other, for the picture of their distribution (Fig. 6)."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from concord.data.sampling import MOST, evenly
from concord.metrics.class_images import ClassImages
from concord.metrics.measure_run import Measuring
from concord.storage.atomic import write_atomically


def of_class(run: Measuring, of: ClassImages) -> dict[str, np.ndarray]:
    """Unit embeddings (N, D), float16, of some images of one class, by set; none where no concepts inform."""
    if run.kept is None:
        return {}
    network, most = run.models.encoder.images, max(1, MOST // len(run.names))
    some = {variant: evenly(made, most) for variant, made in of.made.items()}
    sets = {
        "informed" if variant == "images" else "uninformed": of.rows(network, made) for variant, made in some.items()
    }
    if sources := [one.source for one in some.get("images", ()) if one.source]:
        sets["conditions"] = of.rows(network, sources)
    sets["real"] = of.rows(network, of.real(most))
    return {name: rows.half().numpy() for name, rows in sets.items() if len(rows)}


def measure(run: Measuring) -> None:
    """The metric `embeddings`, where concepts inform: leave embeddings.npz, some of each set with their labels."""
    if run.kept is None:
        return
    found: list[dict[str, np.ndarray]] = run.parts("embeddings")
    sets = {}
    for name in ("informed", "uninformed", "conditions", "real"):
        if rows := {label: of[name] for label, of in enumerate(found) if name in of}:
            labels = np.repeat([*rows], [len(some) for some in rows.values()])
            sets[name] = np.concatenate([*rows.values()]), labels
    save(run.out / "embeddings.npz", sets)


def save(path: Path, sets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write for each set that has any its embeddings and their labels."""
    arrays = {name: rows for name, (rows, _) in sets.items() if len(rows)}
    labels = {f"labels_{name}": np.asarray(sets[name][1]) for name in arrays}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **labels)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
