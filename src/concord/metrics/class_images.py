"""One class of a set as it is measured: each of its images is read once, and put through a network once.

A class is what measuring is shared out by: what a metric needs of it is worked out wherever its images are at hand.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor

from concord.data import ImageSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.metrics.unread import AHEAD, AT_ONCE, Remembered
from concord.storage import images
from concord.storage.threads import in_threads

SIDE, BATCH = 512, 32
"""The shorter side that images are measured at, where they are larger, and how many go through a network at once."""


@dataclass(frozen=True, eq=False)
class Made:
    """A made image: its place below the run's directory, its condition image or "", and its file, or what it holds."""

    file: str
    source: str
    content: Path | bytes

    def read(self) -> Image.Image:
        if isinstance(self.content, Path):
            return images.read_image(self.content)
        return images.read_image(BytesIO(self.content), name=self.file)


@dataclass(frozen=True)
class ClassJob:
    """The made images of a class, by variant, in the manifest's order."""

    label: int
    made: Mapping[str, Sequence[Made]]

    def __str__(self) -> str:
        return f"measuring class {self.label}"

    def packed(self) -> Self:
        """The same with what the files hold, for a machine where they are not."""

        def pack(one: Made) -> Made:
            return replace(one, content=one.content.read_bytes()) if isinstance(one.content, Path) else one

        return replace(self, made={variant: [pack(one) for one in some] for variant, some in self.made.items()})


Item = Made | str
"""A made image, or the reference of a real one."""


class ClassImages:
    """The images of one class: `made` by variant, and real ones."""

    def __init__(self, job: ClassJob, data: ImageSet, skip_unreadable: bool = False) -> None:
        """skip_unreadable: real images that cannot be read are passed over."""
        self.label, self.made = job.label, job.made
        self._data, self._skip = data, skip_unreadable
        self._image = Remembered[Item](self._read)
        self._digests = dict[Item, str]()
        self._rows = dict[Callable[[Tensor], Tensor], dict[Item, Tensor]]()

    def real(self, most: int, further: Sequence[str] = (), label: int | None = None) -> list[str]:
        """References of real images, sorted: at most `most`, evenly spaced, and `further` ones.

        label: of another class, such as one of the same name.
        Raises ConcordError: none can be read.
        """
        label = self.label if label is None else label
        items: list[str] = sorted({*evenly(self._data.items(label), most), *further})
        if self._skip:
            items = [item for item in items if self._can_be_read(item)]
        if not items:
            key = self._data.classes[label].key
            raise ConcordError(f'no image of the class "{key}" can be read to measure by; take it out with classes=...')
        return items

    def rows(self, network: Callable[[Tensor], Tensor], items: Sequence[Item]) -> Tensor:
        """What a network makes of images, (N, ...), on the CPU.

        network: of pixels (B, 3, H, W) in [-1, 1]; a bound method is known again, and asked for what is new.
        Raises ConcordError: an image cannot be read.
        """
        known = self._rows.setdefault(network, {})
        new = [item for item in dict.fromkeys(items) if item not in known]
        pictures = in_threads(self._image, new, ahead=AHEAD, at_once=AT_ONCE)
        with torch.no_grad():
            said = (row for pixels in images.batches(pictures, BATCH) for row in network(pixels).cpu())
            known.update(zip(new, said, strict=True))
        return torch.stack([known[item] for item in items]) if items else torch.empty(0, 1)

    def digests(self, items: Sequence[Item]) -> list[str]:
        """`pixel_digest` of each image as it was stored."""
        for item in items:
            if item not in self._digests:
                self._image(item)
        return [self._digests[item] for item in items]

    def _read(self, item: Item) -> Image.Image:
        image = item.read() if isinstance(item, Made) else self._data.read(item)
        self._digests[item] = pixel_digest(image)
        return images.shrunk(image, SIDE)

    def _can_be_read(self, item: str) -> bool:
        try:
            self._image(item)
        except ConcordError:
            return False
        return True


def pixel_digest(picture: Image.Image) -> str:
    """SHA-256 of an image's size and RGB pixels: equal for equal pictures, however they are stored."""
    return hashlib.sha256(repr(picture.size).encode() + picture.convert("RGB").tobytes()).hexdigest()
