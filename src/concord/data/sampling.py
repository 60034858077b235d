"""Some of a class's images, where all of them would be too many."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

from PIL import Image

from concord.data import ImageSet
from concord.errors import ConcordError

T = TypeVar("T")
MOST = 1000
"""Images of each kind; more would crowd the picture."""


def spread(count: int, most: int = MOST) -> list[int]:
    """Positions of at most `most` of `count` things, evenly spaced: every class has its share where they are sorted."""
    return list(range(count)) if count <= most else [i * count // most for i in range(most)]


def evenly(items: Sequence[T], most: int | None) -> Sequence[T]:
    """At most `most` of the items, evenly spaced in their order and the same on every call; None takes all."""
    return items if most is None or len(items) <= most else [items[i] for i in spread(len(items), most)]


def readable(data: ImageSet, class_index: int, most: int | None, skip_unreadable: bool = False) -> Sequence[str]:
    """What `some_images` reads: references, without those that cannot be read where these are skipped."""
    items = evenly(data.items(class_index), most)
    return [item for item in items if _can_be_read(data, item)] if skip_unreadable else items


def _can_be_read(data: ImageSet, item: str) -> bool:
    try:
        data.read(item)
    except ConcordError:
        return False
    return True


def some_images(
    data: ImageSet, class_index: int, most: int | None, skip_unreadable: bool = False
) -> Iterator[Image.Image]:
    """Images of a class, evenly spaced where there are more than `most`, read one by one; see `read_ahead`."""
    passed_over = (ConcordError,) if skip_unreadable else ()
    for item in evenly(data.items(class_index), most):
        try:
            image = data.read(item)
        except passed_over:
            continue
        yield image
