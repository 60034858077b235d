"""A labelled image set as one tensor: small sets live whole in memory, so that nothing is decoded twice."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concord.data import ImageSet
from concord.data.space import Space
from concord.errors import ConcordError
from concord.storage.threads import in_threads


@dataclass(frozen=True)
class TensorSet:
    """Images (N, C, S, S) and their labels int64 (N,), in the order of label and then of reference.

    images: uint8 of pixels or float32 of them in [0, 1], or values of a `space` that students see as they are. soft:
    float32 (N, K), the set's own probabilities, where its labels are such; `labels` are then the classes that it gives
    most.
    """

    images: Tensor
    labels: Tensor
    space: Space | None = None
    soft: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def side(self) -> int:
        """Pixels of an image's side."""
        return int(self.images.shape[-1])

    @property
    def targets(self) -> Tensor:
        """What a student is taught: `soft`, or else `labels`."""
        return self.labels if self.soft is None else self.soft

    def to(self, device: torch.device | str) -> "TensorSet":
        space = None if self.space is None else self.space.to(device)
        soft = None if self.soft is None else self.soft.to(device)
        return TensorSet(self.images.to(device), self.labels.to(device), space, soft)

    def some(self, index: Tensor | slice) -> Self:
        """Some of the images."""
        soft = None if self.soft is None else self.soft[index]
        return replace(self, images=self.images[index], labels=self.labels[index], soft=soft)

    def part(self, count: int) -> Self:
        """The first so many images."""
        return self.some(slice(count))

    def share(self) -> None:
        """Move it to memory that other processes see without a copy; a RuntimeError where there is no room for it."""
        for tensor in (self.images, self.labels, self.soft):
            if tensor is not None:
                tensor.share_memory_()

    @cached_property
    def digest(self) -> str:
        """A text that changes when an image, a label or the space does."""
        found = hashlib.sha256(str(tuple(self.images.shape)).encode())
        space = [] if self.space is None else [self.space.tensors()[name] for name in sorted(self.space.tensors())]
        for tensor in (self.images, self.labels, *space, *([] if self.soft is None else [self.soft])):
            found.update(tensor.cpu().contiguous().numpy().data)
        return found.hexdigest()[:16]

    def pixels(self, index: Tensor | slice) -> Tensor:
        """Some images as a student sees them, float32 (B, C, S, S): in [0, 1], or values of the space."""
        some = self.images[index]
        return some if some.is_floating_point() else some.float().div_(255)

    def colours(self, seen: Tensor) -> Tensor:
        """What a student sees, (B, C, S, S), as a teacher sees it: three channels, in [0, 1] or a little beyond."""
        pixels = seen if self.space is None else self.space.pixels(seen)
        return pixels if pixels.shape[1] == 3 else pixels.expand(-1, 3, -1, -1)

    def within(self, space: Space, channels: int) -> "TensorSet":
        """Pictures as values of a space, of three channels or one: the brightness, as Pillow weighs it."""
        parts = of_channels(self.images, channels).split(_AT_ONCE)
        return TensorSet(torch.cat([space.of_pixels(part.float().div_(255)) for part in parts]), self.labels, space)


_AT_ONCE = 500


def of_channels(images: Tensor, channels: int) -> Tensor:
    """Pictures uint8 (N, 3, H, W) with three channels, or with one (N, 1, H, W): the brightness as Pillow weighs it."""
    if channels == 3:
        return images
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).to(torch.uint8)[:, None]


Read = Callable[[Image.Image], Image.Image]


def for_testing(size: int, resize: int) -> Read:
    """Shorter side to `resize`, then the middle square of `size`, which is no larger.

    Pixels are those of torchvision's Resize and CenterCrop on PIL images; loading torchvision takes seconds.
    """

    def read(image: Image.Image) -> Image.Image:
        shorter = min(image.size)
        if shorter != resize:
            width, height = (resize * side // shorter for side in image.size)
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, upper = (round((side - size) / 2) for side in image.size)
        return image.crop((left, upper, left + size, upper + size))

    return read


def for_training(side: int) -> Read:
    """The middle square at `side` pixels; a square image of that side is left as it is."""
    return lambda image: image if image.size == (side, side) else for_testing(side, side)(image)


def training_side(data: ImageSet, least: int, per_class: int | None = None) -> int:
    """Pixels at which a training set is kept: its images' own side where all are squares alike, else `least`.

    RDED, Minimax and concord store squares, and crops are taken from them at full size; photographs of any shape come
    as the middle square at the student's size. A side above twice the student's is brought down to that.
    """
    side = None
    items = (item for entry in data.classes for item in _first(data, entry.label, per_class))
    for width, height in map(data.size, items):
        if width != height or side not in (None, width):
            return least
        side = width
    return least if side is None else min(side, 2 * least)


def load(data: ImageSet, read: Read, per_class: int | None = None) -> TensorSet:
    """Read a set into memory, several images at a time; `per_class`: so many of each class, the first in its order.

    read: what brings every image to the same square, `for_testing` or `for_training`.
    """
    labelled = [(entry.label, item) for entry in data.classes for item in _first(data, entry.label, per_class)]
    if not labelled:
        raise ConcordError("the data hold no images")

    def pixels(place: int) -> Tensor:
        return torch.from_numpy(np.array(read(data.read(labelled[place][1])))).permute(2, 0, 1)

    # In the order of the references: so files lie on a disk, and rows in a Parquet file.
    order = sorted(range(len(labelled)), key=lambda place: labelled[place][1])
    images = torch.empty(len(order), *pixels(order[0]).shape, dtype=torch.uint8)

    def fill(place: int) -> None:
        images[place] = pixels(place)

    for _ in in_threads(fill, order):
        pass
    return TensorSet(images, torch.tensor([label for label, _ in labelled]))


def _first(data: ImageSet, label: int, per_class: int | None) -> Sequence[str]:
    items = data.items(label)
    if per_class is None:
        return items
    if len(items) < per_class:
        raise ConcordError(f'the class "{data.classes[label].key}" has {len(items)} images, fewer than ipc={per_class}')
    return items[:per_class]
