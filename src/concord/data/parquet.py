"""Parquet sets, as the Hugging Face hub and `concord export --layout parquet` write them."""

import hashlib
import io
import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from concord.data.classes import class_table, singles, spellings
from concord.data.image_files import FilePart, ImageFiles
from concord.data.parquet_columns import LABEL, Labels, class_names, named, names_of, read_labels, reading, schema_of
from concord.data.shards import check_doubled, one_set, ways
from concord.data.splits import Part
from concord.errors import ConcordError
from concord.storage.images import PLAIN, ReadOptions
from concord.text import listed

_HELD = 256 * 2**20
"""Bytes of groups that are held: CIFAR-10 whole, some twenty groups of the hub's ImageNet."""
_OPEN = 64
"""Files that are open at once."""
_BLOCK = 2**16
"""Bytes of a part of a file that is looked at to know it again."""


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

    def __reduce__(self) -> "tuple[type[Rows], tuple[Path, str]]":
        return Rows, (self._root, self._column)

    def read(self, file: str, row: int) -> bytes | None:
        """Return what lies in a row of a file, None for null. Raises ConcordError: the file is gone or damaged."""
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


@dataclass(eq=False, repr=False)
class ParquetSet(ImageFiles):
    """The rows of Parquet files by class; an `ImageSet`. A reference is "file below the root/number of the row"."""

    _rows: Rows
    fingerprint: str
    _files: Sequence[str]

    def source(self, item: str) -> io.BytesIO:
        file, _, row = item.rpartition("/")
        data = self._rows.read(file, int(row))
        if data is None:
            raise ConcordError(f"cannot read the image {self.root / item}: its row holds no bytes{self.options.hint}")
        return io.BytesIO(data)

    def _parts(self, most: int | None) -> list[FilePart]:
        files = [self.root / file for file in self._files]
        if most is None:
            return [(file, 0, None) for file in files]
        each = max(2, most // len(files))  # blocks, of which the last has the footer: rows would cost whole groups
        ends = [(file, max(0, file.stat().st_size - _BLOCK)) for file in files]
        return [(file, i * end // (each - 1), _BLOCK) for file, end in ends for i in range(each)]

    def some(self) -> list[str]:
        found = super().some()  # few, and of one file: a row is read with its whole group
        return [item for item in found if item.rpartition("/")[0] == found[0].rpartition("/")[0]][:4]


def open_parquet(path: Path, files: Sequence[str], options: ReadOptions = PLAIN, part: Part = "train") -> ParquetSet:
    """Open the Parquet files of a set, of the split `part`; the images stay where they are.

    Classes are what the ``huggingface`` metadata calls the labels, or the lines of a ``classes.txt`` beside the files,
    or the numbers themselves; labels that are strings are their classes. path: the file or folder that the user named.
    files: what `parquet_files` found there. A ConcordError: pyarrow is not installed, a file is damaged, or its columns
    or labels cannot be told.
    """
    root = path if path.is_dir() else path.parent
    notes: list[str] = []
    for found, note in ways(path, files, part):
        chosen, said = (found, []) if path.is_file() else one_set(path, found)
        notes += [*filter(None, [note]), *said]
        labels = read_labels(root, chosen)
        if labels.are_there:
            break
        notes.append("that split is not labelled")
    rows = Rows(root, labels.image)
    check_doubled(root, labels.numbers, labels.image, rows.read)
    names = names_of(labels, root)
    items = _by_class(labels, names)
    if not any(items.values()):
        raise ConcordError(f"data: {path} has no rows")
    if labels.label not in LABEL:
        notes.append(f'labels are those of the column "{labels.label}"')
    if empty := [name for number, name in names.items() if not items[number]]:
        notes.append(f"{len(empty)} of the {len(names)} classes have no images and are left out: {listed(empty)}")
    kept = [(n, of) for n, of in zip(named(list(names.values())), items.values(), strict=True) if of]
    classes, by_key = class_table(n for n, _ in kept), {n.key: of for n, of in kept}
    notes += spellings(classes)
    if class_names(schema_of(root / next(iter(labels.numbers))), labels.label) is None:
        notes += singles([len(of) for _, of in kept])
    references = [by_key[entry.key] for entry in classes]
    return ParquetSet(
        root, classes, references, notes, options, rows, _fingerprint(root, labels, names), list(labels.numbers)
    )


def _by_class(labels: Labels, names: Mapping[int, str]) -> dict[int, list[str]]:
    """Return number -> references to the rows that have it, for every class."""
    items: dict[int, list[str]] = {number: [] for number in names}
    for file, numbers in labels.numbers.items():
        digits = max(5, len(str(len(numbers) - 1)))  # so that sorted references are in the order of the rows
        for row, number in enumerate(numbers.tolist()):
            items[number].append(f"{file}/{row:0{digits}d}")
    return items


def _fingerprint(root: Path, labels: Labels, names: Mapping[int, str]) -> str:
    """A digest of the files' names and sizes, of all labels in order and of what they are called."""
    digest = hashlib.sha256()
    sizes = {file: (root / file).stat().st_size for file in labels.numbers}
    digest.update(json.dumps([sizes, [labels.image, labels.label], names]).encode())
    for numbers in labels.numbers.values():
        digest.update(numbers.tobytes() + b"/")
    return digest.hexdigest()[:16]
