"""Where real, uninformed and informed images lie beside each other: t-SNE of their embeddings (the paper's Fig. 6).

It reads `embeddings.npz` (docs/formats.md), any of whose sets may be left out. Where there are as many `conditions` as
`informed`, row i of one conditioned row i of the other.
"""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from concord.errors import ConcordError

SETS = ("real", "uninformed", "informed", "conditions")
MOST = 800
"""Points of a set that are drawn, evenly spaced over its classes."""
WIDTH, HEIGHT, _EDGE = 640, 460, 12


@dataclass(frozen=True)
class Cloud:
    """The points of one set in the plane of the picture, and the class of each."""

    name: str
    points: list[tuple[float, float]]
    labels: list[int]


@dataclass(frozen=True)
class Picture:
    """Clouds in one plane, and lines between points that belong together (x1, y1, x2, y2)."""

    title: str
    clouds: list[Cloud]
    lines: list[tuple[float, float, float, float]]


def pictures(path: Path) -> list[Picture]:
    """Lay out the embeddings of a run; no picture where there are none, or too few to say anything."""
    if not path.is_file():
        return []
    sets = _read(path)
    drawn = {name: _spaced(labels) for name, (_, labels) in sets.items()}
    if {"informed", "conditions"} <= sets.keys() and len(sets["informed"][1]) == len(sets["conditions"][1]):
        drawn["conditions"] = drawn["informed"]
    if sum(map(len, drawn.values())) < 8 or len(sets) < 2:
        return []
    plane = _layout(np.concatenate([sets[name][0][rows] for name, rows in drawn.items()]))
    clouds, found, parts = {}, [], np.split(plane, np.cumsum([len(rows) for rows in drawn.values()]))
    for (name, rows), part in zip(drawn.items(), parts, strict=False):
        clouds[name] = Cloud(name, [(x, y) for x, y in part.tolist()], sets[name][1][rows].astype(int).tolist())
    first = [clouds[name] for name in ("real", "uninformed", "informed") if name in clouds]
    if len(first) > 1:
        *others, last = (cloud.name for cloud in first)
        found.append(Picture(f"{', '.join(others)} and {last} images".capitalize(), first, []))
    if {"informed", "conditions"} <= clouds.keys():
        pair = [clouds["conditions"], clouds["informed"]]
        paired = len(pair[0].points) == len(pair[1].points)
        lines = [(*a, *b) for a, b in zip(pair[0].points, pair[1].points, strict=True)] if paired else []
        found.append(Picture("Informed images and the real images that conditioned them", pair, lines))
    return found


def _read(path: Path) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            values = {name: np.asarray(archive[name]) for name in archive.files}
    except (ValueError, OSError, zipfile.BadZipFile):
        damaged = f"{path} is damaged: expected the arrays of embeddings; take it away to do without"
        raise ConcordError(damaged) from None
    sets = {}
    for name in SETS:
        if name not in values:
            continue
        points, labels = values[name], values.get(f"labels_{name}", np.zeros(len(values[name]), dtype=int))
        if points.ndim != 2 or labels.shape != (len(points),) or not np.isfinite(points).all():
            raise ConcordError(
                f"{path}: {name} has shape {points.shape} and labels_{name} {labels.shape};"
                " expected finite numbers (N, D) and (N,)"
            )
        if len(points):
            sets[name] = points.astype(np.float32), labels
    return sets


def _spaced(labels: np.ndarray) -> np.ndarray:
    """Rows of at most `MOST` points, evenly spaced in the order of their classes, (n,)."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[np.unique(np.linspace(0, len(order) - 1, min(MOST, len(order))).round().astype(int))])


def _layout(points: np.ndarray) -> np.ndarray:
    """Positions (N, 2) in the picture of embeddings (N, D), by t-SNE on cosine distance."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    unit = points / np.linalg.norm(points, axis=1, keepdims=True).clip(1e-12)
    perplexity = min(30.0, (len(unit) - 1) / 3)
    with threadpool_limits(1):  # or the last bits, and with them the picture, depend on the machine's cores
        plane = TSNE(2, perplexity=perplexity, init="random", random_state=0).fit_transform(unit)
    low, high = plane.min(0), plane.max(0)
    scaled = (plane - low) / np.maximum(high - low, 1e-9)
    return _EDGE + scaled * (np.array([WIDTH, HEIGHT]) - 2 * _EDGE)
