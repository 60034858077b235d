"""Exports: a finished set in the layout that others read, one file a layout, with a data card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from concord.errors import ConcordError
from concord.export import ddranking, folder, parquet, rded, webdataset
from concord.export.card import card
from concord.export.write import Reading, new_directory
from concord.runs.made import Variant, open_made

__all__ = ["Exported", "Layout", "export"]


Layout = Literal["folder", "rded", "ddranking", "webdataset", "parquet"]


_WHOLE = {"folder": folder.write, "rded": rded.write, "ddranking": ddranking.write}


_IN_SHARDS = {"webdataset": webdataset.write, "parquet": parquet.write}


SHARD_SIZE = 1000


@dataclass(frozen=True)
class Exported:
    """What was written: how many images and classes, and how they are read."""

    images: int
    classes: int
    reading: Reading


def export(
    directory: Path, layout: Layout, target: Path, variant: Variant = "images", shard_size: int | None = None
) -> Exported:
    """Write the set that `concord distill` left in `directory` to `target`, whole or not at all.

    The same set gives the same bytes. Images are copied, not stored anew.

    Args:
        directory: of a finished run.
        layout: whose layout.
        target: a directory that is not there yet, or empty.
        variant: the set, or its uninformed counterpart.
        shard_size: images a file, for webdataset and parquet; 1000 if not given.

    Raises:
        ConcordError: the run is unfinished or damaged, the target is taken or lies among the set's images, or the
            layout has no shards.
    """
    made = open_made(directory, variant)
    for folder_of_run in ("images", "uninformed"):
        if target.resolve().is_relative_to((directory / folder_of_run).resolve()):
            raise ConcordError(f"{target} lies among the images of {directory}; give an --out elsewhere")
    if shard_size is not None and layout in _WHOLE:
        raise ConcordError(f"--shard-size is for webdataset and parquet; {layout} has a file an image")
    with new_directory(target) as part:
        if layout in _WHOLE:
            reading = _WHOLE[layout](made, part)
        else:
            reading = _IN_SHARDS[layout](made, part, shard_size or SHARD_SIZE)
        (part / "README.md").write_bytes(card(made, layout, reading).encode())
    return Exported(len(made.pictures), len(made.classes), reading)
