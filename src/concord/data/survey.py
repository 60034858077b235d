"""A look at a data set before anything is made of it: counts, sizes, and what might surprise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from concord.data import ImageSet, open_test
from concord.data.folder import FolderSet, open_folder
from concord.data.parquet import ParquetSet
from concord.data.sampling import evenly
from concord.errors import ConcordError

FEW, UNEVEN = 10, 5


@dataclass(frozen=True)
class Split:
    """Images held out beside those of the survey. same: whether they are of the same classes."""

    path: Path
    images: int
    same: bool


@dataclass(frozen=True)
class Survey:
    """What was found.

    counts: images of each class, in label order. sizes: (width, height) of the images that were opened.
    unreadable: references of those that could not be. warnings: one line each.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    unreadable: tuple[str, ...]
    warnings: tuple[str, ...]

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
    """Count a data set's images and open some `opened` of them, evenly spread over classes."""
    names = tuple(entry.class_name for entry in data.classes)
    items = [data.items(entry.label) for entry in data.classes]
    each = max(1, opened // max(1, len(items)))
    sizes, unreadable = [], []
    for of_class in items:
        for item in evenly(of_class, each):
            try:
                sizes.append(data.read(item).size)
            except ConcordError:
                unreadable.append(item)
    counts = tuple(map(len, items))
    return Survey(names, counts, tuple(sizes), tuple(unreadable), tuple(_warnings(names, counts, sizes, unreadable)))


def held_out(data: ImageSet, folder: Path) -> list[Split]:
    """Return the splits of `folder` beside the training split that `data` was opened from; none where it has none.

    Of a folder of Parquet files it is the one that `open_test` takes, with the folder as its path.
    """
    own: set[str] = {entry.key for entry in data.classes}
    found: list[Split] = []
    if isinstance(data, ParquetSet) and folder.expanduser().is_dir():
        with contextlib.suppress(ConcordError):  # there is no other split, or it has no labels
            test = open_test(str(folder))
            if test.fingerprint != data.fingerprint:
                found.append(_split(folder, test, own))
        return found
    if (
        not isinstance(data, FolderSet)
        or data.root.parent != folder.expanduser()
        or (data.root / "metadata.jsonl").is_file()
    ):
        return []
    for path in sorted(
        p for p in data.root.parent.iterdir() if p.is_dir() and p != data.root and not p.name.startswith(".")
    ):
        try:
            beside = open_folder(path)
        except ConcordError:
            found.append(Split(path, 0, False))  # its images lie there without classes, or there are none
            continue
        found.append(_split(path, beside, own))
    return found


def _split(path: Path, beside: ImageSet, own: set[str]) -> Split:
    count = sum(len(beside.items(entry.label)) for entry in beside.classes)
    return Split(path, count, {entry.key for entry in beside.classes} == own)


def _warnings(
    names: Sequence[str], counts: Sequence[int], sizes: Sequence[tuple[int, int]], unreadable: Sequence[str]
) -> list[str]:
    lines = []
    few = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < FEW]
    if few:
        lines.append(f"few images to go by in {', '.join(few[:5])}" + (" ..." if len(few) > 5 else ""))
    if max(counts) > UNEVEN * min(counts):
        lines.append(
            f"classes are uneven: {min(counts)} to {max(counts)} images; each gets the same number of made ones"
        )
    if unreadable:
        some = ", ".join(unreadable[:3]) + (" ..." if len(unreadable) > 3 else "")
        lines.append(
            f"{len(unreadable)} of the images looked at cannot be read: {some}; unreadable=skip leaves such out"
        )
    small = sum(min(size) < 128 for size in sizes)
    if small > len(sizes) / 2:
        lines.append("most images are smaller than 128 pixels: details that CLIP should see may be lost")
    if len(names) < 2:
        lines.append("a single class has no other classes to be told from: there are no negative concepts")
    return lines
