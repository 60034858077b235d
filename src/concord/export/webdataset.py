"""Layout `webdataset`: tar shards of the image as it is, ``.cls`` (the label) and ``.json`` (its row) with one stem.

Stems are numbers alone: WebDataset cuts a name at its first dot, and class names have dots. Samples go by index, then
by class, so that every shard is nearly balanced.
"""

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np

from concord.export.made import MadeSet
from concord.export.write import Options, Reading, columns, names_of, public_row, write_classes
from concord.registry import LayoutSpec
from concord.storage.atomic import json_line

LAYOUT = LayoutSpec("webdataset", "concord.export.webdataset:write", "Tar shards for WebDataset.", sharded=True)


def write(made: MadeSet, root: Path, options: Options) -> Reading:
    """Fill `root` with ``train-000000.tar``, ... of `shard_size` samples, and ``classes.txt``."""
    rows = made.pictures.rows
    pictures = made.pictures.at(np.lexsort((rows.labels, rows.indices)))
    shards = -(-len(rows) // options.shard_size)
    for number in range(shards):
        with tarfile.open(root / f"train-{number:06d}.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
            for picture in islice(pictures, options.shard_size):
                stem = f"{picture.label:05d}-{picture.index:05d}"
                _add(shard, stem + picture.path.suffix, picture.path.read_bytes())
                _add(shard, f"{stem}.cls", str(picture.label).encode())
                _add(shard, f"{stem}.json", json_line(public_row(picture)))
    write_classes(root, made.classes)
    suffix = made.pictures[0].path.suffix.removeprefix(".")
    files = "train-000000.tar" if shards == 1 else f"train-{{000000..{shards - 1:06d}}}.tar"
    code = (
        "import webdataset\n\n"
        f'train = webdataset.WebDataset("DIR/{files}", shardshuffle=False).shuffle(1000)\n'
        f'train = train.decode("pil").to_tuple("{suffix}", "cls")'
    )
    image, label, *row = columns(names_of(made.classes), suffix, "cls")
    typed = [image, label, {"name": "json", "struct": row}]
    return Reading("train-*.tar", code, ("`classes.txt` has the names of the labels.",), typed, rows=True)


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a member whose header tells of nothing but its name and size."""
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(data), 0o644, 0
    shard.addfile(member, io.BytesIO(data))
