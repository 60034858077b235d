"""Layout `parquet`: as the hub shows it, images in the preview and classes by name.

The file's schema tells `Image` and `ClassLabel` under the key ``huggingface``, where `datasets` and the viewer look.
"""

import json
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.export.made import MadeSet
from concord.export.write import Options, Reading, public_row
from concord.registry import LayoutSpec
from concord.runs.directory import StoredSample

ROWS = 100
"""Rows a group: the viewer fetches a group to show a page of it."""
_NUMBERS, _LISTS, _TEXTS = ("index", "seed"), ("positives", "negatives"), ("prompt", "source", "checkpoint")
LAYOUT = LayoutSpec("parquet", "concord.export.parquet:write", "As the Hugging Face hub shows it.", sharded=True)


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
            *[pa.field(name, pa.int64()) for name in _NUMBERS],
            *[pa.field(name, texts) for name in _LISTS],
            *[pa.field(name, text) for name in _TEXTS],
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features(made.label_names)}})},
    )
    (root / "data").mkdir()
    starts = range(0, len(made.pictures), options.shard_size)
    for number, start in enumerate(starts):
        path = root / "data" / f"train-{number:05d}-of-{len(starts):05d}.parquet"
        shard = made.pictures[start : start + options.shard_size]
        with pq.ParquetWriter(path, schema) as writer:
            for first in range(0, len(shard), ROWS):
                rows = [_row(picture, schema.names) for picture in shard[first : first + ROWS]]
                writer.write_table(pa.Table.from_pylist(rows, schema))
    code = 'from datasets import load_dataset\n\ntrain = load_dataset("DIR", split="train")'
    return Reading("data/train-*.parquet", code)


def features(names: list[str]) -> dict[str, Any]:
    """The columns' types as `datasets` spells them, in the older spelling of lists that every version reads."""
    string = {"dtype": "string", "_type": "Value"}
    number = {"dtype": "int64", "_type": "Value"}
    strings = {"feature": string, "_type": "Sequence"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        **dict.fromkeys(_NUMBERS, number),
        **dict.fromkeys(_LISTS, strings),
        **dict.fromkeys(_TEXTS, string),
    }


def _row(picture: StoredSample, columns: list[str]) -> dict[str, Any]:
    row = {name: value for name, value in public_row(picture).items() if name in columns}
    name = f"{picture.label:05d}-{picture.index:05d}{picture.path.suffix}"
    return row | {"image": {"bytes": picture.path.read_bytes(), "path": name}}
