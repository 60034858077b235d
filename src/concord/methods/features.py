"""Where real images lie: the space that a coreset measures distances in.

`features` of a recipe names it. ``encoder``: unit vectors of the recipe's image-text encoder. ``teacher``: what the
recipe's classifier has before its last layer, the space of the field's tables. ``pixels``: the image at 32 pixels, for
want of a model. A recipe that says nothing has the teacher's where it names one, and pixels elsewhere: the encoder has
a default of 1.7 GB, and a choice among real images shall not fail, nor fetch it, because nobody said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from concord.data import ClassTable, ImageSet
from concord.data.ahead import read_ahead
from concord.data.reading import square
from concord.recipe import Recipe
from concord.resources import model_path, resolve_device

if TYPE_CHECKING:
    from concord.models.teachers import Teacher

PIXELS = 32
"""Side of an image in the space of its pixels."""
ANY = 224
"""Side at which a network that takes any size sees an image, where nothing else says."""


@dataclass(frozen=True)
class Space:
    """A feature space: its name for the records, the side of the square that it sees, and the map into it.

    embed: uint8 (B, side, side, 3) to float32 (B, D).
    """

    name: str
    side: int
    embed: Callable[[np.ndarray], np.ndarray]


def feature_space(recipe: Recipe, classes: ClassTable) -> Space:
    """Open the space that the recipe names; this loads its model.

    Raises:
        ConcordError: the model cannot be loaded, or does not know the classes.
    """
    if recipe.features == "encoder":
        return _encoder(recipe)
    if recipe.features == "teacher" and recipe.teacher is not None:
        return _teacher(recipe, recipe.teacher, classes)
    return Space(
        f"pixels at {PIXELS} px", PIXELS, lambda bytes_: bytes_.reshape(len(bytes_), -1).astype(np.float32) / 255
    )


def class_features(
    data: ImageSet, items: Sequence[str], space: Space, skip_unreadable: bool = False
) -> tuple[list[str], np.ndarray]:
    """Return the images that were read, and their features float32 (N, D) in the same order, of their middle squares.

    Raises:
        ConcordError: an image cannot be read; with `skip_unreadable` it is left out.
    """

    def seen(item: str, image: Image.Image) -> np.ndarray:
        return np.asarray(square(image, space.side))

    names: list[str] = []
    rows = [np.empty((0, 0), np.float32)]
    for batch in read_ahead(data, items, seen, skip_unreadable=skip_unreadable):
        if batch:
            names += [name for name, _ in batch]
            rows.append(space.embed(np.stack([pixels for _, pixels in batch])))
    return names, np.concatenate(rows[1:] or rows)


def seen_side(teacher: Teacher, size: int | None) -> int:
    """Side at which a teacher is shown images: what it was trained at, else `size`, that of the stored ones."""
    return teacher.size or size or teacher.network.size or ANY


def _encoder(recipe: Recipe) -> Space:
    import torch

    from concord.encoder import Encoder
    from concord.resources import resolve_dtype

    device = resolve_device(recipe.device)
    dtype = getattr(torch, resolve_dtype(recipe.dtype, device))
    encoder = Encoder.from_pretrained(model_path(recipe.encoder), dtype=dtype, device=device)

    @torch.no_grad()
    def embed(bytes_: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(bytes_).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        return encoder.images(pixels).float().cpu().numpy()

    return Space(f"encoder {recipe.encoder}", encoder.preprocess.side or ANY, embed)


def _teacher(recipe: Recipe, model: str, classes: ClassTable) -> Space:
    import torch

    from concord.models.teachers import load_teacher

    device = resolve_device(recipe.device)
    teacher = load_teacher(model, classes, device=device)

    @torch.no_grad()
    def embed(bytes_: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(bytes_).permute(0, 3, 1, 2).float().div(255)
        return teacher.features(pixels).cpu().numpy()

    return Space(f"teacher {model}", seen_side(teacher, recipe.size), embed)
