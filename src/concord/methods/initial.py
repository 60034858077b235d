"""What an optimisation of pixels begins from: real images, noise, a coreset, or a set that another method made."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from concord.choices import INITS, TENSORS
from concord.data import ClassEntry, ImageSet
from concord.data.space import Space
from concord.data.tensor_set import TensorImages, decoded, encoded, open_tensors
from concord.data.tensors import for_training
from concord.errors import ConcordError
from concord.methods.coreset import CoresetPool, feature_space, herding
from concord.methods.real import ImagePool, shuffled
from concord.pipelines.starts import StartSet
from concord.plan import sample_seed
from concord.recipe import Recipe
from concord.runs.directory import Run


class Initial:
    """Values that images begin with, in the order of label and index.

    Args:
        init: ``real`` images chosen at random; ``noise`` of mean 0 and deviation 1 in the space; ``herding``, in the
            space that `features` names; or the directory of a finished set, whose floats are taken where it has such
            and its pictures else, classes matched by folder or by name.
        key: of the recipe, as errors name it.
        factor: each image holds factor x factor smaller ones (`decoded`), so that it begins from as many; but a set of
            floats with this very factor is taken as it is stored.
    """

    def __init__(self, recipe: Recipe, data: ImageSet, init: str, key: str, factor: int = 1) -> None:
        self._recipe, self._data, self._factor, self._key = recipe, data, factor, key
        self._noise, self._pool, self._set = init == "noise", None, None
        self._tensors: TensorImages | None = None
        skip = recipe.unreadable == "skip"
        if init == "real":
            self._pool = ImagePool(data, shuffled(recipe.seed), skip)
        elif init == "herding":
            most = recipe.ipc * factor**2
            self._pool = CoresetPool(data, herding, lambda: feature_space(recipe, data.classes), most, skip)
        elif not self._noise:
            self._set, self._directory = StartSet(init, key, INITS), Path(init)
            path = self._directory / TENSORS
            self._tensors = open_tensors(path) if path.is_file() else None

    def require(self, entry: ClassEntry) -> None:
        """Raise a ConcordError where a class has too few images to begin from: none is taken twice."""
        each, ipc = self._factor**2, self._recipe.ipc
        if self._set is not None:
            theirs = self._tensors.form.decode**2 if self._tensors else 1
            self._set.require(entry, ipc, max(1, -(-each // theirs)))
        elif self._pool is not None and (there := len(self._pool.readable(entry.label, ipc * each))) < ipc * each:
            wants = f'{ipc * each} images to begin from, and the class "{entry.key}" has {there}'
            raise ConcordError(f"{self._key}: ipc={ipc} takes {wants}; give a smaller ipc, or {self._key}=noise")

    def values(self, space: Space, side: int) -> Tensor:
        """Float32 (classes x IPC, 3, side, side) in a space. Raises ConcordError: floats of another size, or grey."""
        return torch.cat([self._of_class(entry, space, side) for entry in self._data.classes])

    def _of_class(self, entry: ClassEntry, space: Space, side: int) -> Tensor:
        ipc, key = self._recipe.ipc, entry.key
        if self._noise:
            seeds = (sample_seed(self._recipe.seed, key, index) for index in range(ipc))
            each = [torch.randn(3, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            return torch.stack(each)
        wanted = ipc * self._factor**2
        if self._tensors is not None:
            return self._of_tensors(self._tensors, entry, space, side)[:ipc]
        if self._pool is not None:
            items = self._pool.first(entry.label, wanted)[:wanted]
            return encoded(_values((self._data.read(item) for item in items), space, side), self._factor)
        assert self._set is not None
        files = {sample.file: sample for sample in Run(self._directory).samples()}
        pictures = (files[self._set.file(entry, index)].image for index in range(wanted))
        return encoded(_values(pictures, space, side), self._factor)

    def _of_tensors(self, tensors: TensorImages, entry: ClassEntry, space: Space, side: int) -> Tensor:
        labels = [
            one.label for one in tensors.classes if entry.folder == one.folder or entry.class_name == one.class_name
        ]
        theirs, form = tensors.images[tensors.labels == labels[0]], tensors.form
        if tensors.channels != 3:
            raise ConcordError(f"{self._key}: {self._directory} holds images of one channel, where three are expected")
        values = space.of_pixels(form.space.pixels(theirs))
        if form.decode == self._factor:
            if values.shape[-1] != side and self._factor > 1:
                raise ConcordError(
                    f"{self._key}: {self._directory} holds images of {values.shape[-1]} px in parts; give size="
                    f"{values.shape[-1]}, not {side}"
                )
            return _resized(values, side)
        parts = _resized(decoded(values, form.decode), side)
        return encoded(parts[: len(parts) // self._factor**2 * self._factor**2], self._factor)


_AT_ONCE = 500


def _values(pictures: Iterator[Image.Image], space: Space, side: int) -> Tensor:
    fit, parts = for_training(side), list[Tensor]()
    while batch := [np.array(fit(picture)) for picture in islice(pictures, _AT_ONCE)]:
        parts.append(space.of_pixels(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).float().div_(255)))
    return torch.cat(parts)


def _resized(values: Tensor, side: int) -> Tensor:
    if values.shape[-1] == side:
        return values
    return F.interpolate(values, (side, side), mode="bilinear", antialias=True)
