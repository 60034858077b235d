"""Images that two sets share: accuracy on what was trained on is no accuracy."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from concord.data import ImageSet
from concord.data.threads import in_threads


def overlap(train: ImageSet, test: ImageSet) -> list[tuple[str, str]]:
    """Return the images that both sets hold, as (reference in `train`, reference in `test`), each of `test` once.

    Images are the same where their pixels are, once read (RGB, upright): a PNG copy of a JPEG's pixels is found,
    a smaller copy or one saved as JPEG again is not. Only images of a size that both sets have are decoded.

    Raises:
        ConcordError: an image cannot be read.
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
    """Return the images that a set holds more than once, as (the first one's reference, a further one's).

    Raises:
        ConcordError: an image cannot be read.
    """
    items = _items(data)
    if not _are_of_one_size(data):
        sizes = list(in_threads(data.size, items))
        counts = Counter(sizes)
        items = [item for item, size in zip(items, sizes, strict=True) if counts[size] > 1]
    first: dict[bytes, str] = {}
    return [(first[d], item) for item, d in _digests(data, items) if first.setdefault(d, item) != item]


def shared_images(train: ImageSet, test: ImageSet, shown: int = 3) -> list[str]:
    """Return what the user should know before training, a line each: shared and double images, with the first few."""
    lines = []
    for pairs, what in (
        (overlap(train, test), "of the test set are in the training set too"),
        (duplicates(train), "of the training set are there twice"),
    ):
        if pairs:
            some = ", ".join(f"{theirs} = {mine}" for mine, theirs in pairs[:shown])
            lines.append(f"{len(pairs)} images {what}: {some}" + (" ..." if len(pairs) > shown else ""))
    return lines


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
