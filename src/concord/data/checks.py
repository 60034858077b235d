"""A look at a data set before anything is made of it, and the images that two sets share."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from concord.data import ImageSet, Relabelled, open_test
from concord.data.folder import FolderSet, open_folder
from concord.data.image_files import ImageFiles, refuse_most
from concord.data.parquet import ParquetSet
from concord.data.sampling import evenly
from concord.errors import ConcordError
from concord.storage.threads import in_threads

FEW, UNEVEN, DARK = 10, 5, 64


@dataclass(frozen=True)
class Split:
    """Images held out beside those of the survey. same: whether they are of the same classes."""

    path: Path
    images: int
    same: bool


@dataclass(frozen=True)
class Survey:
    """What was found, with the counts in label order, the (width, height) of images that were opened, and warnings.

    grey: the range in use, where 16-bit images come out nearly black.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    unreadable: tuple[str, ...]
    warnings: tuple[str, ...]
    grey: tuple[int, int] | None = None

    @property
    def images(self) -> int:
        return sum(self.counts)

    @property
    def looked_at(self) -> int:
        """How many images were opened, or could not be."""
        return len(self.sizes) + len(self.unreadable)

    @property
    def sides(self) -> tuple[int, int]:
        """The smallest and the largest of the opened images' shorter sides, in pixels; 0 where none could be opened."""
        sides = [min(size) for size in self.sizes]
        return (min(sides), max(sides)) if sides else (0, 0)

    @property
    def median_side(self) -> int:
        """The median of the opened images' shorter sides, in pixels; 0 where none could be opened."""
        sides = sorted(min(size) for size in self.sizes)
        return sides[len(sides) // 2] if sides else 0


def survey(data: ImageSet, opened: int = 200) -> Survey:
    """Count a data set's images and open some `opened` of them, evenly spread; most of them must be readable."""
    names = tuple(entry.class_name for entry in data.classes)
    items = [data.items(entry.label) for entry in data.classes]
    each = max(1, opened // max(1, len(items)))
    sizes: list[tuple[int, int]] = []
    brightest: list[int] = []
    unreadable: dict[str, str] = {}
    for item in (item for of_class in items for item in evenly(of_class, each)):
        try:
            image = data.read(item)
            sizes.append(image.size)
            brightest.append(int(np.asarray(image).max()))
        except ConcordError as error:
            unreadable[item] = str(error)
    refuse_most([*unreadable.values()], len(sizes) + len(unreadable))
    counts = tuple(map(len, items))
    lines = _warnings(names, counts, sizes, [*unreadable])
    grey = files.grey if (files := files_of(data)) else None
    if grey is None and 2 * sum(top < DARK for top in brightest) > len(brightest):
        lines.append(f"most images are nearly black: they have no pixel that is brighter than {DARK} of 255")
    return Survey(names, counts, tuple(sizes), tuple(unreadable), tuple(lines), grey)


def held_out(data: ImageSet, folder: Path) -> list[Split]:
    """Return the splits of `folder` beside the training split that `data` was opened from; none where it has none.

    Of a folder of Parquet files it is the one that `open_test` takes, with the folder as its path.
    """
    own: set[str] = {entry.key for entry in data.classes}
    found: list[Split] = []
    if isinstance(data, ParquetSet) and folder.expanduser().is_dir():
        with contextlib.suppress(ConcordError):  # there is no other split, or it has no labels
            if (test := open_test(str(folder))).fingerprint != data.fingerprint:
                found.append(_split(folder, test, own))
    for path in data.held_out if isinstance(data, FolderSet) else ():
        try:
            found.append(_split(path, open_folder(path), own))
        except ConcordError:
            found.append(Split(path, 0, False))  # its images lie there without classes
    return found


def _split(path: Path, beside: ImageSet, own: set[str]) -> Split:
    count = sum(len(beside.items(entry.label)) for entry in beside.classes)
    return Split(path, count, {entry.key for entry in beside.classes} == own)


def _warnings(
    names: Sequence[str], counts: Sequence[int], sizes: Sequence[tuple[int, int]], unreadable: Sequence[str]
) -> list[str]:
    lines = []
    if few := [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < FEW]:
        lines.append(f"few images to go by in {', '.join(few[:5])}" + (" ..." if len(few) > 5 else ""))
    if max(counts) > UNEVEN * min(counts):
        uneven = f"classes are uneven: {min(counts)} to {max(counts)} images"
        lines.append(f"{uneven}; each gets the same number of made ones")
    if unreadable:
        some = ", ".join(unreadable[:3]) + (" ..." if len(unreadable) > 3 else "") + "; unreadable=skip leaves such out"
        lines.append(f"{len(unreadable)} of the images looked at cannot be read: {some}")
    if sum(min(size) < 128 for size in sizes) > len(sizes) / 2:
        lines.append("most images are smaller than 128 pixels: details that CLIP should see may be lost")
    if len(names) < 2:
        lines.append("a single class has no other classes to be told from: there are no negative concepts")
    return lines


def overlap(train: ImageSet, test: ImageSet) -> list[tuple[str, str]]:
    """Return the images that both sets hold, as (reference in `train`, reference in `test`), each of `test` once.

    Images are the same where their pixels are, once read (RGB, upright): a PNG copy of a JPEG's pixels is found, a
    smaller copy or one saved as JPEG again is not. Only images of a size that both sets have are decoded.
    """
    mine, theirs = _items(train), _items(test)
    if not _are_of_one_size(train, test):
        sizes, others = list(in_threads(train.size, mine)), list(in_threads(test.size, theirs))
        common = set(sizes) & set(others)
        mine = [item for item, size in zip(mine, sizes, strict=True) if size in common]
        theirs = [item for item, size in zip(theirs, others, strict=True) if size in common]
    first: dict[bytes, str] = {}
    for item, digest in _digests(train, mine):
        first.setdefault(digest, item)
    return [(first[digest], item) for item, digest in _digests(test, theirs) if digest in first]


def duplicates(data: ImageSet) -> list[tuple[str, str]]:
    """Return the images that a set holds more than once, as (the first one's reference, a further one's)."""
    items = _items(data)
    if not _are_of_one_size(data):
        counts = Counter(sizes := list(in_threads(data.size, items)))
        items = [item for item, size in zip(items, sizes, strict=True) if counts[size] > 1]
    first: dict[bytes, str] = {}
    return [(first[d], item) for item, d in _digests(data, items) if first.setdefault(d, item) != item]


def shared_images(train: ImageSet, test: ImageSet, shown: int = 3) -> list[str]:
    """Return what the user should know before training, a line each: shared and double images, with the first few."""
    lines = []
    both, twice = "of the test set are in the training set too", "of the training set are there twice"
    for what, pairs in ((both, overlap(train, test)), (twice, duplicates(train))):
        if pairs:
            some = ", ".join(f"{theirs} = {mine}" for mine, theirs in pairs[:shown])
            lines.append(f"{len(pairs)} images {what}: {some}" + (" ..." if len(pairs) > shown else ""))
    return lines


def files_of(data: ImageSet) -> ImageFiles | None:
    """The image files that a set's images lie in, of all classes there; None where they lie in none."""
    while isinstance(data, Relabelled):
        data = data.whole
    return data if isinstance(data, ImageFiles) else None


def _items(data: ImageSet) -> list[str]:
    """All references, in the order in which they are read fastest."""
    return sorted(item for entry in data.classes for item in data.items(entry.label))


def _are_of_one_size(*sets: ImageSet) -> bool:
    """Say whether the first images of all classes are, as in CIFAR-10: then a look at all sizes would spare nothing."""
    return len({data.size(item) for data in sets for e in data.classes for item in data.items(e.label)[:1]}) == 1


def _digests(data: ImageSet, items: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (reference, digest of size and pixels)."""

    def digest(item: str) -> bytes:
        image = data.read(item)
        return hashlib.blake2b(image.tobytes(), digest_size=16, person=b"%dx%d" % image.size).digest()

    return zip(items, in_threads(digest, items), strict=True)
