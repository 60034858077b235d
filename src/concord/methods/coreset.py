"""Coresets (docs/coresets.md): real images that stand for their class by where they lie in a feature space.

Both orders are greedy, so that a smaller set is part of a larger one. The encoder has a default of 1.7 GB: a choice
among real images shall not fail, nor fetch it, because nobody said otherwise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image

from concord.data import ClassTable, ImageSet
from concord.data.prefetch import Reads, read_ahead
from concord.methods.real import ImagePool, RealImages
from concord.methods.teacher import ANY, seen_side
from concord.recipe import Recipe
from concord.storage.images import square

PIXELS = 32
"""Side of an image in the space of its pixels."""
Greedy = Callable[[np.ndarray], Iterator[int]]
"""Features (N, D) to their rows in the order in which they are taken."""


@dataclass(frozen=True)
class Space:
    """A feature space: its name, the side of its squares, and uint8 (B, side, side, 3) to float32 (B, D)."""

    name: str
    side: int
    embed: Callable[[np.ndarray], np.ndarray]


def feature_space(recipe: Recipe, classes: ClassTable) -> Space:
    """Open the space that the recipe names; this loads its model, which must know the classes."""
    if recipe.space == "pixels":
        return Space(f"pixels at {PIXELS} px", PIXELS, lambda b: b.reshape(len(b), -1).astype(np.float32) / 255)
    import torch

    from concord.models.cache import ModelCache
    from concord.models.encoder import Encoder
    from concord.models.hub import model_path
    from concord.models.teachers import load_teacher

    def space(name: str, side: int, network: Callable[[torch.Tensor], torch.Tensor]) -> Space:
        @torch.no_grad()
        def embed(bytes_: np.ndarray) -> np.ndarray:
            return network(torch.from_numpy(bytes_).permute(0, 3, 1, 2).float()).cpu().numpy()

        return Space(name, side, embed)

    models = ModelCache(recipe)
    if recipe.space == "teacher":
        teacher = load_teacher(str(recipe.teacher), classes, device=str(models.device))
        side = seen_side(teacher, recipe.size)
        return space(f"teacher {recipe.teacher}", side, lambda pixels: teacher.features(pixels.div(255)))
    encoder = Encoder.from_pretrained(model_path(recipe.encoder), dtype=models.dtype, device=models.device)
    side = encoder.preprocess.side or ANY
    return space(f"encoder {recipe.encoder}", side, lambda pixels: encoder.images(pixels.div(127.5).sub(1)).float())


def class_features(
    data: Reads, items: Sequence[str], space: Space, skip_unreadable: bool = False
) -> tuple[list[str], np.ndarray]:
    """The images that were read, and their features float32 (N, D) in the same order, of their middle squares."""

    def seen(item: str, image: Image.Image) -> np.ndarray:
        return np.asarray(square(image, space.side))

    names, rows = list[str](), list[np.ndarray]()
    for batch in filter(None, read_ahead(data, items, seen, skip_unreadable=skip_unreadable)):
        names += [name for name, _ in batch]
        rows.append(space.embed(np.stack([pixels for _, pixels in batch])))
    return names, np.concatenate(rows or [np.empty((0, 0), np.float32)])


SLACK = 1e-12
"""Squared distances closer than this part of the largest from the mean are as good: two images, say, lie equally far
from their mean, and rounding shall not choose among them."""
ROWS = 256
"""Features whose distances are taken at once: their differences stay in the processor's cache."""


def k_center(features: np.ndarray) -> Iterator[int]:
    """Yield the rows of `features` (N, D) in the order of k-center greedy (Sener & Savarese 2018).

    The first is the row nearest to the mean (theirs is any), each next one the farthest from all before it. The first
    k leave no row farther away than twice what the best k rows would.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    distances = squared_distances(features, mean)
    slack = SLACK * distances.max()
    chosen = first_least(distances, slack)
    nearest = np.full(len(features), np.inf)
    for _ in range(len(features)):
        yield chosen
        np.minimum(nearest, squared_distances(features, features[chosen]), out=nearest)
        nearest[chosen] = -1  # never again, not even where all others equal one that is chosen
        chosen = first_least(-nearest, slack)


def herding(features: np.ndarray) -> Iterator[int]:
    """Yield the rows of `features` (N, D) in the order of herding (Welling 2009) without repetition, as iCaRL has it.

    Each next row brings the mean of those chosen nearest to the mean mu of all: for the k-th, the minimum of
    ||mu - (s + x) / k|| over x, with s the sum of those before, is the row nearest to k mu - s.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    total, taken = np.zeros_like(mean), np.zeros(len(features), bool)
    slack = SLACK * squared_distances(features, mean).max()
    for k in range(1, len(features) + 1):
        distances = squared_distances(features, k * mean - total)
        distances[taken] = np.inf
        chosen = first_least(distances, slack)
        yield chosen
        taken[chosen] = True
        total += features[chosen]


def first_least(values: np.ndarray, slack: float) -> int:
    """The first place of the least of the values, or of what exceeds it by no more than `slack`."""
    return int(np.argmax(values <= values.min() + slack))


def squared_distances(features: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances float64 (N,) of rows (N, D) from a point (D,); equal rows have equal ones."""
    distances = np.empty(len(features))
    for start in range(0, len(features), ROWS):
        # As differences: the expanded square cancels, and a matrix product sums a row by its place in the matrix.
        difference = features[start : start + ROWS] - point.astype(np.float64)
        np.einsum("nd,nd->n", difference, difference, out=distances[start : start + ROWS])
    return distances


class CoresetPool(ImagePool):
    """The images of each class in the order of a coreset, of which the first `most` are kept.

    A class's features are worked out when its first image is asked for, of all its images that can be read.
    """

    def __init__(self, data: ImageSet, order: Greedy, space: Callable[[], Space], most: int, skip: bool) -> None:
        super().__init__(data, lambda entry, items: list(items), skip)
        self._greedy, self._space, self._most = order, space, most
        self._chosen: dict[int, list[str]] = {}

    def readable(self, class_index: int, most: int) -> Sequence[str]:
        return super().first(class_index, most)[:most]

    def first(self, class_index: int, count: int) -> list[str]:
        if len(self._chosen.get(class_index, ())) < count:
            items = self._data.items(class_index)
            read, features = class_features(self._data, items, self._space(), self._skip)
            self.unreadable += sorted(set(items).difference(read, self.unreadable))
            order = self._greedy(features) if read else iter(())
            self._chosen[class_index] = [read[i] for i in islice(order, max(count, self._most))]
        return self._chosen[class_index]


class SupplyPool(CoresetPool):
    """The first `most` images of each class in the order of a coreset, and then these again; see `ImagePool.cyclic`."""

    def first(self, class_index: int, count: int) -> list[str]:
        return self._chosen[class_index] if class_index in self._chosen else super().first(class_index, self._most)


class Coreset(RealImages):
    """Real images in the order of `k_center` or `herding`; a `Method`. Where they are copied no model is loaded."""

    quick = False

    def __init__(self, recipe: Recipe, data: ImageSet, order: Greedy) -> None:
        skip = recipe.unreadable == "skip"
        super().__init__(recipe, data, CoresetPool(data, order, lambda: self._space, recipe.ipc, skip))

    @cached_property
    def _space(self) -> Space:
        return feature_space(self._recipe, self._data.classes)

    def facts(self) -> dict[str, Any]:
        return {"features": self._space.name, **super().facts()}


k_center_set, herding_set = partial(Coreset, order=k_center), partial(Coreset, order=herding)
