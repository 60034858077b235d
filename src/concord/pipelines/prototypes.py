"""Prototypes of a class: the middles of clusters (k-means) of its real images' latents.

D4M (Su et al. 2024) begins its samplings from them, MGD3 (Chan-Santiago et al. 2025) guides towards them. Both cluster
anew for each IPC; here their number is a setting of its own, so that a small set stays part of a larger one.
"""

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from concord.data import ImageSet
from concord.data.sampling import some_images
from concord.errors import ConcordError
from concord.plan import sample_seed
from concord.storage.images import fitted, to_pixels

MOST = 500
"""Real images of a class that are encoded, evenly spaced."""


class Encodes(Protocol):
    """What of a family encodes images; `sides`: (height, width) in pixels of those that it makes."""

    @property
    def sides(self) -> tuple[int, int]: ...

    def encode(self, pixels: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor: ...


_KNOWN: WeakKeyDictionary[Encodes, dict[tuple[str, str, int, int], Tensor]] = WeakKeyDictionary()


def prototypes(
    model: Encodes, data: ImageSet, class_index: int, count: int, seed: int = 0, skip_unreadable: bool = False
) -> Tensor:
    """The prototypes (K, C, h, w) of a class, that of the largest cluster first; worked out once for a model.

    count: how many; K is less where a class has fewer images. seed: the recipe's, which with the class seeds k-means.
    """
    entry = data.classes[class_index]
    known, key = _KNOWN.setdefault(model, {}), (data.fingerprint, entry.key, count, seed)
    if key not in known:
        real = some_images(data, class_index, MOST, skip_unreadable)
        found = [model.encode(to_pixels(fitted(image, model.sides))[None]) for image in real]
        if not found:
            raise ConcordError(f'no image of the class "{entry.key}" can be read to find its prototypes')
        latents = torch.cat(found)
        middles = cluster_middles(latents.cpu().flatten(1).numpy(), count, sample_seed(seed, entry.key, "prototypes"))
        known[key] = torch.from_numpy(middles).view(-1, *latents.shape[1:]).to(latents)
    return known[key]


def cluster_middles(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The middles of at most `count` clusters of rows (N, D), by k-means, (K, D) float32, the largest cluster first."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    clusters = min(count, len(np.unique(rows, axis=0)))
    with threadpool_limits(1):  # or the last bits depend on the machine's cores
        fitted_to = KMeans(clusters, n_init=1, random_state=seed % 2**32).fit(rows)
    sizes = np.bincount(fitted_to.labels_, minlength=clusters)
    return fitted_to.cluster_centers_[np.argsort(-sizes, kind="stable")].astype(np.float32)
