"""Parquet files as others write them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def encoded(number: int, kind: str = "PNG", size: tuple[int, int] = (6, 4)) -> bytes:
    """The bytes of an image file of one colour, another for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(buffer, kind)
    return buffer.getvalue()


def about(names: Sequence[str] | None, image: str = "image", label: str = "label", **more: Any) -> dict[bytes, bytes]:
    """What `datasets` writes into the schema."""
    kind = {"names": list(names), "_type": "ClassLabel"} if names else {"dtype": "int64", "_type": "Value"}
    return {
        b"huggingface": json.dumps({"info": {"features": {image: {"_type": "Image"}, label: kind, **more}}}).encode()
    }


def write(
    file: Path,
    labels: Sequence[Any],
    names: Sequence[str] | None = ("hat", "shoe"),
    images: Sequence[bytes | None] | None = None,
    rows: int = 3,
    **columns: Sequence[Any] | pa.Array,
) -> Path:
    """Write a file of pictures, by default image i of colour i, and their labels; groups of so many rows."""
    pictures = [encoded(i) for i in range(len(labels))] if images is None else images
    structs = pa.array([None if data is None else {"bytes": data, "path": None} for data in pictures], PICTURE)
    table = pa.table({"image": structs, "label": labels, **columns})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(about(names) if names else None), file, row_group_size=rows)
    return file


def colour(image: Image.Image) -> int:
    """The number of the colour that `encoded` gave a picture."""
    red, green, blue = np.asarray(image)[0, 0].tolist()
    assert blue == 7
    return int(red) + 256 * int(green)
