"""Which columns of a Parquet set hold images and labels, its labels as numbers from 0, and what they are called."""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concord.data.class_lists import by_synset, by_wnid
from concord.data.classes import ClassSpec
from concord.errors import ConcordError
from concord.storage.files import HEAD, require_file, what_is

_IMAGE = ("image", "img")
LABEL = ("label", "labels", "fine_label", "fine_labels", "class", "class_label", "class_name", "target", "category")
"""Names of columns, the preferred first."""


@contextlib.contextmanager
def reading(file: Path | str) -> Iterator[None]:
    """Turn what pyarrow says of a file, or that it is missing, into a line for the user."""
    try:
        from pyarrow import ArrowException
    except ImportError:
        raise ConcordError(f"reading {file} needs pyarrow: pip install 'concord-distill[hub]'") from None
    try:
        yield
    except (ConcordError, MemoryError):
        raise
    except (ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConcordError(f"cannot read {file}: {reason}; is it damaged, or cut off?") from error


def schema_of(file: Path) -> Any:
    """Return the Arrow schema of a whole Parquet file, from its footer; a ConcordError says why there is none."""
    with reading(file):
        from pyarrow.parquet import read_schema

        require_file(file)
        with file.open("rb") as opened:
            if what := what_is(opened.read(HEAD), ()):
                raise ValueError(what)
        return read_schema(file)


def image_columns(schema: Any) -> list[str]:
    """Return the columns that may hold images: ``struct<bytes, ...>``, as `datasets` writes them, or plain bytes.

    Where the ``huggingface`` key of the metadata calls some of them images, only those.
    """
    columns = [field.name for field in schema if _is_image(field.type)]
    features = _features(hub_metadata(schema))
    said = [name for name in columns if features.get(name, {}).get("_type") == "Image"]
    return said or columns


def image_column(schema: Any, file: str) -> str:
    """Return the column that holds the images: the only one, or that called ``image``."""
    return _chosen(image_columns(schema), _IMAGE, "images", "bytes of image files, plain or in a struct", file, schema)


def label_column(schema: Any, file: str) -> str:
    """Return the column of labels: a ``ClassLabel``, or else one of integers or strings with a label's name."""
    columns = [name for name in class_labels(hub_metadata(schema)) if name in schema.names]
    columns = columns or [field.name for field in schema if _is_label(field.type)]
    return _chosen(columns, LABEL, "labels", "integers or strings", file, schema)


def class_names(schema: Any, column: str) -> list[str] | None:
    """Return the class names of a label column, by number, where the metadata has them."""
    return class_labels(hub_metadata(schema)).get(column)


def class_labels(metadata: Any) -> dict[str, list[str]]:
    """Return column -> class names of every ``ClassLabel`` in the metadata that the `datasets` library writes."""
    return {
        column: [str(name) for name in feature["names"]]
        for column, feature in _features(metadata).items()
        if feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _chosen(columns: Sequence[str], preferred: Sequence[str], what: str, form: str, file: str, schema: Any) -> str:
    if not columns:
        present = ", ".join(f"{field.name} ({field.type})" for field in schema) or "none"
        raise ConcordError(f"{file} has no column of {what} ({form}); its columns are {present}")
    if found := columns if len(columns) == 1 else [name for name in preferred if name in columns]:
        return found[0]
    raise ConcordError(
        f"{file} has more than one column that may hold {what} ({', '.join(columns)});"
        f' call the right one "{preferred[0]}"'
    )


def _is_image(kind: Any) -> bool:
    import pyarrow.types as t

    if t.is_struct(kind):
        place = kind.get_field_index("bytes")
        return place >= 0 and _is_image(kind.field(place).type)
    return bool(t.is_binary(kind) or t.is_large_binary(kind) or t.is_binary_view(kind))


def _is_label(kind: Any) -> bool:
    import pyarrow.types as t

    if t.is_dictionary(kind):
        return _is_label(kind.value_type)
    return bool(t.is_integer(kind) or t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def hub_metadata(schema: Any) -> Any:
    """Return what the ``huggingface`` key of a schema's metadata says; nothing where it is missing or no JSON."""
    try:
        return json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    except ValueError:
        return {}


def _features(metadata: Any) -> Mapping[str, Mapping[str, Any]]:
    info = metadata.get("info") if isinstance(metadata, dict) else None
    features = info.get("features") if isinstance(info, dict) else None
    return {k: v for k, v in features.items() if isinstance(v, dict)} if isinstance(features, dict) else {}


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
    """Read the labels of some files of the same columns, none of them null; a ConcordError says what is wrong."""
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
    if names is None and label not in LABEL:
        _refuse_captions(root / files[0], label, [value for values in found.values() for value in values.tolist()])
    if all(values.dtype != object for values in found.values()):
        return Labels(image, label, found, names)
    kinds = sorted({str(value) for values in found.values() for value in values.tolist()})
    places = {name: place for place, name in enumerate(kinds)}
    numbers = {f: np.array([places[str(v)] for v in vs.tolist()], np.int64) for f, vs in found.items()}
    return Labels(image, label, numbers, kinds)


def _refuse_captions(file: Path, label: str, values: Sequence[Any]) -> None:
    """Refuse labels that are hardly ever the same, in a column that nothing calls labels."""
    kinds, rows = len(set(values)), len(values)
    if rows > 2 and (kinds == rows or (rows >= 10 and 2 * kinds > rows)):
        raise ConcordError(
            f'{file} has no labels: its column "{label}" has {kinds} values in {rows} rows, as captions and ids have;'
            f' expected is a column "{LABEL[0]}" (one of that name is taken as it is)'
        )


def names_of(labels: Labels, root: Path) -> dict[int, str]:
    """Return number -> class name: the metadata's, or a ``classes.txt``'s, or the numbers themselves."""
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


def named(names: Sequence[str]) -> list[ClassSpec]:
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
        classes.append(ClassSpec(key, "" if wnid or name in by_wnid() else words, wnid))
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
        row = column.to_pylist().index(None)
        raise ConcordError(f"{file}/{row:05d} has no label: the column {label} is null there")
    values = column.to_numpy()
    return values if values.dtype == object else values.astype(np.int64)


def _lines(listing: Path) -> list[str]:
    """Class names a line; of ``00000<tab>folder<tab>name``, as `concord export` writes them, the name."""
    try:
        lines = listing.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConcordError(f"cannot read the class names in {listing}: {' '.join(str(error).split())}") from None
    return [line.rpartition("\t")[2].strip() for line in lines if line.strip()]
