"""A recipe's teacher for methods that go by it: tried on some real images before it is believed."""

from typing import TYPE_CHECKING

import numpy as np

from concord.data import ImageSet
from concord.data.prefetch import read_ahead
from concord.methods.real import ImagePool
from concord.recipe import Recipe
from concord.storage.images import square
from concord.system import resolve_device

if TYPE_CHECKING:
    from concord.models.teachers import Teacher

TRIED = 10
"""Real images a class that a teacher is tried on."""
ANY = 224
"""Side at which a network that takes any size sees an image, where nothing else says."""


def seen_side(teacher: "Teacher", size: int | None) -> int:
    """Side at which a teacher is shown images: what it was trained at, else `size`, that of the stored ones."""
    return teacher.size or size or teacher.network.size or ANY


def open_teacher(recipe: Recipe, data: ImageSet, spec: str | None = None) -> "Teacher":
    """Load the recipe's teacher, or another one for its data, onto the recipe's device."""
    from concord.models.teachers import load_teacher

    return load_teacher(spec or recipe.teacher or "", data.classes, device=resolve_device(recipe.device))


def try_teacher(teacher: "Teacher", recipe: Recipe, data: ImageSet, pool: ImagePool) -> "Teacher":
    """Return the teacher, if it does on the first images of the pool what one of these classes must.

    Raises ConcordError: it is near chance, or right in another order of its classes.
    """
    import torch

    from concord.data.tensors import TensorSet
    from concord.models.teachers import check_teacher, require_sound

    side, images, labels = seen_side(teacher, recipe.size), list[np.ndarray](), list[int]()
    for entry in data.classes:
        some = pool.readable(entry.label, TRIED)
        for batch in read_ahead(data, some, lambda _, image: np.asarray(square(image, side))):
            images += [pixels for _, pixels in batch]
            labels += [entry.label] * len(batch)
    tried = TensorSet(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels))
    require_sound(check_teacher(teacher, tried), teacher)
    return teacher
