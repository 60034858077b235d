"""The bytes in single rows of Parquet files, which are stored a group of rows at a time."""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any

from concord.data.columns import reading

_HELD = 256 * 2**20
"""Bytes of groups that are held: CIFAR-10 whole, some twenty groups of the hub's ImageNet."""
_OPEN = 64
"""Files that are open at once."""


class Rows:
    """One column of some Parquet files; threads may share it, and a process that gets it opens the files anew.

    A group of rows is decoded when one of its rows is asked for and held while there is room, so that reading in the
    order of the rows decodes each group once, and a small set is decoded once in whatever order.
    """

    def __init__(self, root: Path, column: str) -> None:
        self._root, self._column = root, column
        self._begin()

    def _begin(self) -> None:
        self._process, self._lock, self._held = os.getpid(), threading.Lock(), 0
        self._files: OrderedDict[str, tuple[Any, list[int]]] = OrderedDict()
        self._groups: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def __getstate__(self) -> tuple[Path, str]:
        return self._root, self._column

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self._root, self._column = state
        self._begin()

    def read(self, file: str, row: int) -> bytes | None:
        """Return what lies in a row of a file, None for null.

        Raises:
            ConcordError: the file is gone or damaged.
        """
        if self._process != os.getpid():
            self._begin()  # forked: another thread of the parent may hold the lock for ever
        with reading(f"{self._root}/{file}/{row}"), self._lock:
            starts = self._open(file)[1]
            group = bisect_right(starts, row) - 1
            return self._group(file, group)[row - starts[group]].as_py()

    def _open(self, file: str) -> tuple[Any, list[int]]:
        """Return an open file and the rows at which its groups start."""
        if file not in self._files:
            from pyarrow.parquet import ParquetFile

            opened = ParquetFile(self._root / file, memory_map=True)
            about = opened.metadata
            lengths = (about.row_group(i).num_rows for i in range(about.num_row_groups))
            self._files[file] = opened, list(accumulate(lengths, initial=0))[:-1]
            while len(self._files) > _OPEN:
                self._files.popitem(last=False)
        self._files.move_to_end(file)
        return self._files[file]

    def _group(self, file: str, group: int) -> Any:
        """Return the bytes of a group's rows, as an Arrow array."""
        if (file, group) not in self._groups:
            import pyarrow.compute as pc
            import pyarrow.types as t

            column = self._open(file)[0].read_row_group(group, columns=[self._column], use_threads=False)[self._column]
            images = pc.struct_field(column, "bytes") if t.is_struct(column.type) else column
            self._groups[file, group] = images
            self._held += images.nbytes
            while self._held > _HELD and len(self._groups) > 1:
                self._held -= self._groups.popitem(last=False)[1].nbytes
        self._groups.move_to_end((file, group))
        return self._groups[file, group]
