"""Layout `parquet`: as the hub shows it, images in the preview and classes by name.

The file's schema tells `Image` and `ClassLabel` under the key ``huggingface``, where `datasets` and the viewer look.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.export.made import MadeSet
from concord.export.write import LISTS, NUMBERS, TEXTS, Options, Reading, columns, names_of, public_row
from concord.registry import LayoutSpec
from concord.runs.directory import StoredSample
from concord.runs.store import Row
from concord.text import counted

ROWS = 100
"""Rows a group: the viewer fetches a group to show a page of it."""
LAYOUT = LayoutSpec(
    "parquet",
    "concord.export.parquet:write",
    "As the Hugging Face hub shows it.",
    sharded=True,
    images="concord.export.parquet:images",
)


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    """Fill ``root/data`` with ``train-00000-of-00001.parquet``, ... of `shard_size` rows in label order."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConcordError('--layout parquet needs pyarrow: pip install "concord-distill[hub]"') from None
    text, texts = pa.string(), pa.list_(pa.string())
    schema = pa.schema(
        [
            pa.field("image", pa.struct([("bytes", pa.binary()), ("path", text)])),
            pa.field("label", pa.int64()),
            *[pa.field(name, pa.int64()) for name in NUMBERS],
            *[pa.field(name, texts) for name in LISTS],
            *[pa.field(name, text) for name in TEXTS],
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features(names_of(made.classes))}})},
    )
    (root / "data").mkdir()
    starts = range(0, len(made.pictures), options.shard_size)
    for number, start in enumerate(starts):
        path = root / "data" / f"train-{number:05d}-of-{len(starts):05d}.parquet"
        end = min(start + options.shard_size, len(made.pictures))
        with pq.ParquetWriter(path, schema) as writer:
            for first in range(start, end, ROWS):
                group = made.pictures[first : min(first + ROWS, end)]
                rows = [_row(picture, schema.names) for picture in group]
                writer.write_table(pa.Table.from_pylist(rows, schema))
    code = 'from datasets import load_dataset\n\ntrain = load_dataset("DIR", split="train")'
    return Reading("data/train-*.parquet", code, columns=columns(names_of(made.classes)), rows=True)


def images(root: Path, rows: Sequence[Row]) -> Iterator[bytes]:
    """Yield the file of each row of the manifest, a group of the Parquet files at a time.

    Raises ConcordError: they are not in the order of the rows, or not as many.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ConcordError('a set in Parquet needs pyarrow: pip install "concord-distill[hub]"') from None
    found = 0
    try:
        for path in sorted((root / "data").glob("train-*.parquet")):
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    for row in file.read_row_group(group, columns=["image", "label", "index"]).to_pylist():
                        if found == len(rows) or any(row[key] != rows[found][key] for key in ("label", "index")):
                            raise ConcordError(f"{path} has another order of images than {root}'s rows")
                        found += 1
                        yield row["image"]["bytes"]
    except (pa.ArrowException, KeyError) as error:
        raise ConcordError(f"{path} is no Parquet file of an export ({error})") from None
    if found != len(rows):
        raise ConcordError(f"{root}/data holds {counted(found, 'image')}, and {len(rows)} by its rows")


def features(names: list[str]) -> dict[str, Any]:
    """The columns' types as `datasets` spells them, in the older spelling of lists that every version reads."""
    string = {"dtype": "string", "_type": "Value"}
    number = {"dtype": "int64", "_type": "Value"}
    strings = {"feature": string, "_type": "Sequence"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        **dict.fromkeys(NUMBERS, number),
        **dict.fromkeys(LISTS, strings),
        **dict.fromkeys(TEXTS, string),
    }


def _row(picture: StoredSample, names: list[str]) -> dict[str, Any]:
    row = {name: value for name, value in public_row(picture).items() if name in names}
    name = f"{picture.label:05d}-{picture.index:05d}{picture.path.suffix}"
    return row | {"image": {"bytes": picture.path.read_bytes(), "path": name}}
