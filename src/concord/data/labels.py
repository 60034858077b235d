"""The labels of a Parquet set as numbers from 0, and the classes that they stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concord.data.classes import Named
from concord.data.columns import class_names, image_column, label_column, reading, schema_of
from concord.data.lists import by_synset, by_wnid
from concord.errors import ConcordError

Numbers = dict[str, np.ndarray[Any, np.dtype[np.int64]]]


@dataclass(frozen=True)
class Labels:
    """What some files hold, row by row.

    image, label: the columns. numbers: file -> int64 (rows,), places in `names`; negative throughout where the set is
    not labelled. names: of the classes, None where the numbers have none.
    """

    image: str
    label: str
    numbers: Numbers
    names: Sequence[str] | None

    @property
    def are_there(self) -> bool:
        return any((numbers >= 0).any() for numbers in self.numbers.values())


def read_labels(root: Path, files: Sequence[str]) -> Labels:
    """Read the labels of some files of the same columns.

    Raises:
        ConcordError: pyarrow is not installed, a file is damaged, its columns cannot be told or differ from the first
            one's, or a label is null.
    """
    first = schema_of(root / files[0])
    image, label = (find(first, str(root / files[0])) for find in (image_column, label_column))
    names, found = class_names(first, label), {}
    for file in files:
        schema = schema_of(root / file)
        if not {image, label} <= set(schema.names) or class_names(schema, label) != names:
            raise ConcordError(
                f'{root / file} has other columns or class names than {files[0]} ("{image}", "{label}"): files of one'
                " set are expected; name one file, or move the others"
            )
        found[file] = _column(root / file, label)
    if all(values.dtype != object for values in found.values()):
        return Labels(image, label, found, names)
    kinds = sorted({str(value) for values in found.values() for value in values.tolist()})
    places = {name: place for place, name in enumerate(kinds)}
    numbers = {f: np.array([places[str(v)] for v in vs.tolist()], np.int64) for f, vs in found.items()}
    return Labels(image, label, numbers, kinds)


def names_of(labels: Labels, root: Path) -> dict[int, str]:
    """Return number -> class name: the metadata's, or the lines of a ``classes.txt``, or the numbers that there are.

    Raises:
        ConcordError: a label has no class; the row is named.
    """
    names, said = labels.names, "classes"
    if names is None:
        beside = (folder / "classes.txt" for folder in (root, (root / next(iter(labels.numbers))).parent))
        listing = next((file for file in beside if file.is_file()), None)
        if listing is not None:
            names, said = _lines(listing), f"classes of {listing}"
    there = sorted(set[int]().union(*(np.unique(numbers).tolist() for numbers in labels.numbers.values())))
    if names is None:
        width = len(str(there[-1])) if there else 1
        known = {number: f"{number:0{width}d}" for number in there if number >= 0}
    else:
        known = dict(enumerate(names))
    for number in there:
        if number not in known:
            file = next(file for file, numbers in labels.numbers.items() if number in numbers)
            row = int(np.flatnonzero(labels.numbers[file] == number)[0])
            meaning = ", as of images that are not labelled" if number < 0 else ""
            range_ = f"; its {len(names)} {said} are 0 to {len(names) - 1}" if names is not None else ""
            raise ConcordError(f"{root / file}/{row:05d} has the label {number}{meaning}{range_}")
    return known


def named(names: Sequence[str]) -> list[Named]:
    """Return the classes of some names, with keys that can be folders.

    Where some are all of an ImageNet class's names (``tench, Tinca tinca``), those that are get their WordNet id.
    """
    known = by_synset() if any("," in name and name in by_synset() for name in names) else {}
    classes = []
    for name in names:
        # What no folder can be called: control characters, and a dot in front, which would hide it.
        key = re.sub(r"^\.|[\x00-\x1f\x7f\ud800-\udfff\\]", "_", name).strip().strip("/") or "_"
        words = " ".join(key.replace("_", " ").split())
        wnid = known[name].wnid if name in known else None
        classes.append(Named(key, "" if wnid or name in by_wnid() else words, wnid))
    return classes


def _column(file: Path, label: str) -> np.ndarray[Any, Any]:
    """The labels of a file: int64, or objects where they are strings."""
    with reading(file):
        import pyarrow.types as t
        from pyarrow.parquet import read_table

        column = read_table(file, columns=[label], memory_map=True, use_threads=False, partitioning=None)[label]
        if t.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
    if column.null_count:
        raise ConcordError(
            f"{file}/{column.to_pylist().index(None):05d} has no label: the column {label} is null there"
        )
    values = column.to_numpy()
    return values if values.dtype == object else values.astype(np.int64)


def _lines(listing: Path) -> list[str]:
    """Class names a line; of ``00000<tab>folder<tab>name``, as `concord export` writes them, the name."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConcordError(f"cannot read the class names in {listing}: {' '.join(str(error).split())}") from None
    return [line.rpartition("\t")[2].strip() for line in lines if line.strip()]
