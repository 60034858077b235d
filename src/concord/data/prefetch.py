"""Images read ahead: several threads decode a batch while another is computed on, so that memory stays bounded."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from PIL import Image

from concord.errors import ConcordError
from concord.storage.threads import in_threads

T = TypeVar("T")


class Reads(Protocol):
    """What images are read from: of an image set, `read` is all that is asked for here."""

    def read(self, item: str) -> Image.Image: ...


def read_ahead(
    data: Reads,
    items: Sequence[str],
    prepare: Callable[[str, Image.Image], T],
    batch: int = 64,
    skip_unreadable: bool = False,
) -> Iterator[list[tuple[str, T]]]:
    """Yield (item, what `prepare` made of it and its image) in the order of the items, at most `batch` at once.

    skip_unreadable: leave out those that cannot be read, instead of ending with their error.
    """

    left_out = (ConcordError,) if skip_unreadable else ()

    def one(item: str) -> tuple[str, T] | None:
        try:
            image = data.read(item)
        except left_out:
            return None
        return item, prepare(item, image)

    found = in_threads(one, items, ahead=batch, at_once=1)
    for _ in range(0, len(items), batch):
        yield [pair for pair in islice(found, batch) if pair is not None]
