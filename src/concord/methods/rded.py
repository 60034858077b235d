"""RDED (docs/coresets.md): images put together from crops of real images that a teacher is surest of (Sun et al. 2024).

Image i has the crops of rank f i to f i + f - 1 with f = factor^2, where RDED gives crop k n + i to cell k of n images:
the set holds the same crops either way, but here a smaller set is part of a larger one.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from concord.data import ImageSet
from concord.data.prefetch import read_ahead
from concord.errors import ConcordError
from concord.methods.base import GeneratedImage
from concord.methods.real import ImagePool, RealImages, shuffled
from concord.methods.teacher import open_teacher, seen_side, try_teacher
from concord.plan import Crop, Sample, sample_seed
from concord.recipe import Recipe
from concord.text import listed

if TYPE_CHECKING:
    from torch import Tensor

    from concord.models.teachers import Teacher

SCALE, ATTEMPTS = (0.08, 1.0), 10
"""A crop's share of its image's area, uniform between these; draws of it before the middle is taken."""


def random_square(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a square of an image: left, top and side in pixels, as torchvision's RandomResizedCrop at ratio (1, 1)."""
    for _ in range(ATTEMPTS):
        side = round(math.sqrt(width * height * rng.uniform(*SCALE)))
        if 0 < side <= min(width, height):
            return int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1)), side
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side


def cut(image: Image.Image, crop: Crop, side: int) -> np.ndarray:
    """A crop of an image at `side` pixels: uint8 (side, side, 3); bilinear, antialiased."""
    # Cropped before it is scaled: with `box`, Pillow would let pixels from beyond the crop in at its edges.
    return np.asarray(image.crop(crop.box).resize((side, side), Image.Resampling.BILINEAR))


def ranks(losses: np.ndarray) -> list[tuple[int, int]]:
    """Put the crops of some images, by losses (images, crops), in the order in which they are taken: pairs (image,
    crop).

    The best crop of each image goes first, those with the lowest loss in front; then the second-best of each, and so
    on. What is as good keeps its order.
    """
    best = np.argsort(losses, axis=1, kind="stable")
    ranked = np.take_along_axis(losses, best, axis=1)
    rounds = (np.argsort(column, kind="stable") for column in ranked.T)
    return [(int(image), int(best[image, nth])) for nth, images in enumerate(rounds) for image in images]


def mosaic(crops: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Put f x f crops together, row by row, to one image: uint8 (size, size, 3).

    Where `size` is no multiple of f, the first rows and columns of cells are a pixel larger, and a crop fills its cell
    by the nearest of its pixels.
    """
    factor = math.isqrt(len(crops))
    edges = [size // factor + (i < size % factor) for i in range(factor)]

    def fill(crop: np.ndarray, height: int, width: int) -> np.ndarray:
        rows, columns = (np.arange(n) * crop.shape[0] // n for n in (height, width))
        return crop[rows][:, columns]

    cells = [[fill(crops[i * factor + j], h, w) for j, w in enumerate(edges)] for i, h in enumerate(edges)]
    return np.concatenate([np.concatenate(row, axis=1) for row in cells])


def on_canvas(crops: "Tensor", size: int, mean: "Tensor") -> "Tensor":
    """Crops (B, 3, s, s) in [0, 1] amid images (B, 3, size, size) of the colour that the network's `mean` makes 0."""
    s = crops.shape[-1]
    start = (size - s) // 2
    canvas = mean.to(crops).view(1, 3, 1, 1).expand(len(crops), 3, size, size).clone()
    canvas[..., start : start + s, start : start + s] = crops
    return canvas


AT_ONCE = 64
"""Crops that the teacher sees at once, or those of one image."""


class Rded(RealImages):
    """See the module's text; a `Method`. Where images are put together no teacher is loaded: samples have the crops."""

    quick = False

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        super().__init__(recipe, data, ImagePool(data, shuffled(recipe.seed), recipe.unreadable == "skip"))
        self._settings, self._cells = recipe.rded, recipe.rded.factor**2
        self._best: dict[int, list[tuple[Crop, float]]] = {}

    def count(self, class_index: int, ipc: int) -> int:
        if self._room(class_index, ipc) < ipc:
            raise ConcordError(self._too_few(ipc))
        return ipc

    def _room(self, class_index: int, ipc: int) -> int:
        """For how many images, at most `ipc`, the class has crops."""
        wanted = min(self._settings.images, math.ceil(ipc * self._cells / self._settings.crops))
        images = len(self._pool.readable(class_index, wanted))
        return min(ipc, images * self._settings.crops // self._cells)

    def _too_few(self, ipc: int) -> str:
        rooms = {e.key: self._room(e.label, ipc) for e in self._data.classes}
        short = {key: room for key, room in rooms.items() if room < ipc}
        some = listed((f'"{key}" for {room}' for key, room in short.items()), noun="classes")
        least = min(short.values())
        way = f"give ipc={least} or less, or more" if least else "give more"
        each, most = self._settings.crops, self._settings.images
        return (
            f"rded takes {self._cells} crops an image, {each} from each of at most {most} real ones: too few for"
            f" ipc={ipc}: {some}; {way} rded.crops (or rded.images, where a class has more)"
        )

    def sample(self, class_index: int, index: int) -> Sample:
        key = self._data.classes[class_index].key
        crops = tuple(crop for crop, _ in self._ranked(class_index)[index * self._cells : (index + 1) * self._cells])
        sources = " + ".join(dict.fromkeys(crop.source for crop in crops))
        return Sample(class_index, index, sample_seed(self._recipe.seed, key, index), source=sources, crops=crops)

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        return [GeneratedImage(self._put_together(sample.crops)) for sample in batch]

    def _put_together(self, crops: Sequence[Crop]) -> Image.Image:
        images = {source: self._data.read(source) for source in {crop.source for crop in crops}}
        size = self._recipe.size or min(images[crops[0].source].size)
        side = max(1, size // self._settings.factor)
        return Image.fromarray(mosaic([cut(images[crop.source], crop, side) for crop in crops], size))

    def facts(self) -> dict[str, Any]:
        losses = [loss for ranked in self._best.values() for _, loss in ranked]
        mean = round(float(np.mean(losses)), 4) if losses else None
        return {"teacher_loss": mean, **super().facts()}

    def _trial(self, class_index: int, source: str) -> Sample:
        boxes = self._boxes(class_index, source, self._data.read(source).size)
        return Sample(class_index, 0, 0, crops=tuple(boxes[i % len(boxes)] for i in range(self._cells)))

    # --- scoring, in the parent alone ----------------------------------------------------------------------------

    @cached_property
    def _teacher(self) -> "Teacher":
        """The teacher, tried: one with its classes in another order would take the wrong crops."""
        return try_teacher(open_teacher(self._recipe, self._data), self._recipe, self._data, self._pool)

    def _ranked(self, class_index: int) -> list[tuple[Crop, float]]:
        """The class's crops in the order in which they are taken, as many as the set needs, with their losses."""
        if class_index not in self._best:
            items = self._pool.first(class_index, self._settings.images)[: self._settings.images]
            crops, losses = self._score(class_index, items)
            order = ranks(losses)[: self._recipe.ipc * self._cells]
            self._best[class_index] = [(crops[n][m], float(losses[n, m])) for n, m in order]
        return self._best[class_index]

    def _boxes(self, class_index: int, item: str, size: tuple[int, int]) -> list[Crop]:
        """Random crops of an image; they depend on it and the seed, not on what else is cropped."""
        rng = np.random.default_rng(sample_seed(self._recipe.seed, self._data.classes[class_index].key, item))
        return [Crop(item, *random_square(*size, rng)) for _ in range(self._settings.crops)]

    def _score(self, class_index: int, items: Sequence[str]) -> tuple[list[list[Crop]], np.ndarray]:
        """Crops of each image, and the teacher's loss of each, (N, crops)."""
        import torch
        from torch.nn import functional as F

        teacher, crops = self._teacher, list[list[Crop]]()
        rows = [np.empty((0, self._settings.crops))]
        size = seen_side(teacher, self._recipe.size)
        side = max(1, size // self._settings.factor)

        def cropped(item: str, image: Image.Image) -> tuple[list[Crop], np.ndarray]:
            boxes = self._boxes(class_index, item, image.size)
            return boxes, np.stack([cut(image, box, side) for box in boxes])

        for batch in read_ahead(self._data, items, cropped, max(1, AT_ONCE // self._settings.crops)):
            crops += [boxes for _, (boxes, _) in batch]
            bytes_ = torch.from_numpy(np.concatenate([squares for _, (_, squares) in batch]))
            pixels = bytes_.permute(0, 3, 1, 2).float() / 255
            with torch.no_grad():
                logits = teacher.logits(on_canvas(pixels, size, teacher.network.mean))
            labels = torch.full((len(logits),), class_index, device=logits.device)
            losses = F.cross_entropy(logits, labels, reduction="none")
            rows.append(losses.double().cpu().numpy().reshape(len(batch), -1))
        return crops, np.concatenate(rows)
