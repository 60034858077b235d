"""Which columns of a Parquet file hold images and labels, and what its labels are called."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from concord.errors import ConcordError

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
    """Return the Arrow schema of a Parquet file, from its footer.

    Raises:
        ConcordError: pyarrow is not installed, or the file is no Parquet file or cut off.
    """
    with reading(file):
        from pyarrow.parquet import read_schema

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
    """Return the column that holds the images.

    Raises:
        ConcordError: there is none, or more than one and none is called ``image``.
    """
    columns = image_columns(schema)
    if not columns:
        raise ConcordError(
            f"{file} has no column of images (bytes of image files, plain or in a struct); {_columns(schema)}"
        )
    return _chosen(columns, _IMAGE, "images", file)


def label_column(schema: Any, file: str) -> str:
    """Return the column that holds the labels: a ``ClassLabel``, or else one of integers or strings.

    Raises:
        ConcordError: there is none, or more than one and none has a label's name.
    """
    columns = [name for name in class_labels(hub_metadata(schema)) if name in schema.names]
    if not columns:
        columns = [field.name for field in schema if _is_label(field.type)]
    if not columns:
        raise ConcordError(f"{file} has no column of labels (integers or strings); {_columns(schema)}")
    return _chosen(columns, LABEL, "labels", file)


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


def _chosen(columns: Sequence[str], preferred: Sequence[str], what: str, file: str) -> str:
    if len(columns) == 1:
        return columns[0]
    for name in preferred:
        if name in columns:
            return name
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


def _columns(schema: Any) -> str:
    return "its columns are " + (", ".join(f"{field.name} ({field.type})" for field in schema) or "none")
