"""The rows of a manifest one by one: a set of any number of images is gone through in the memory of an index."""

import json
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, overload

import numpy as np

from concord.errors import ConcordError
from concord.runs.store import Row, no_row, valid_row

T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence whose parts are read when they are asked for, by `at`: many of them in one go."""

    @abstractmethod
    def at(self, places: Iterable[int]) -> Iterator[T]:
        """Yield the parts of these places, in any order."""

    def __iter__(self) -> Iterator[T]:
        return self.at(range(len(self)))

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        places = range(len(self))[place]
        return next(self.at([places])) if isinstance(places, int) else list(self.at(places))


class Rows(Lazy[Row]):
    """The rows of a manifest in the order of label and index, each read when it is asked for.

    24 bytes of each are kept. A last line without an end was torn by a kill, and is passed over.
    labels, indices: of all rows, (N,). Raises ConcordError: a line is no row, or the file is another one meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path, places, start = path, array("q"), 0
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                if (row := valid_row(line)) is None:
                    raise no_row(path, number)
                places.extend((row["label"], row["index"], start))
                start += len(line)
        table = np.array(places, dtype=np.int64).reshape(-1, 3)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        self.labels, self.indices, self._starts = table.T

    def __len__(self) -> int:
        return len(self._starts)

    def at(self, places: Iterable[int]) -> Iterator[Row]:
        """Yield the rows of these places, in any order."""
        with self._path.open("rb") as file:
            for place in places:
                file.seek(self._starts[place])
                try:
                    row: Row = json.loads(file.readline())
                    same = (row["label"], row["index"]) == (self.labels[place], self.indices[place])
                except (ValueError, TypeError, KeyError):
                    same = False
                if not same:
                    raise ConcordError(f"{self._path} was changed while it was read; give the same command again")
                yield row
