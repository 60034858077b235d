"""Exports: a finished set in the layout that others read, one file a layout, with a data card.

A layout is a function of a finished set, the directory to fill and `Options`, which returns how what it wrote is read:

    def write(made: MadeSet, root: Path, options: Options) -> Reading: ...

The same set must give the same bytes. It is registered by a `concord.registry.LayoutSpec`.
"""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from concord.errors import ConcordError
from concord.export.card import Shared, card
from concord.export.made import MadeSet, open_made
from concord.export.record import write_record
from concord.export.write import Options, Reading, new_directory
from concord.registry import LAYOUTS
from concord.runs.directory import Variant
from concord.runs.verify import seal_export

__all__ = ["Exported", "MadeSet", "Options", "Reading", "export"]


@dataclass(frozen=True)
class Exported:
    """What was written: where, how many images and classes, and how they are read."""

    path: Path
    images: int
    classes: int
    reading: Reading


def export(
    directory: Path,
    layout: str,
    target: Path,
    variant: Variant = "images",
    shard_size: int | None = None,
    shared: Shared | None = None,
) -> Exported:
    """Write the set that `concord distill` left in `directory` to `target`, whole or not at all; images are copied.

    target: a directory that is not there yet, or empty, and not among the set's images. shard_size: images a file, of a
    layout that has shards; 1000 if not given. shared: a place on the hub; the run's record goes there too.
    """
    spec = LAYOUTS.get(layout)
    made = open_made(directory, variant)
    for folder_of_run in ("images", "uninformed"):
        if target.resolve().is_relative_to((directory / folder_of_run).resolve()):
            raise ConcordError(f"{target} lies among the images of {directory}; give an --out elsewhere")
    if shard_size is not None and not spec.sharded:
        raise ConcordError(f"--shard-size is for webdataset and parquet; {layout} has a file an image")
    options = Options() if shard_size is None else Options(shard_size)
    with new_directory(target) as part:
        reading: Reading = LAYOUTS.build(layout, spec.write)(made, part, options)
        if made.tensors:
            shutil.copyfile(made.tensors, part / made.tensors.name)
            said = f"The set is `{made.tensors.name}`, float images; the pictures are its previews, rounded to 8 bits."
            reading = replace(reading, notes=(said, *reading.notes))
        (part / "README.md").write_bytes(card(made, layout, reading, shared).encode())
        if shared is not None:
            write_record(directory, made, part)
        seal_export(part, **({} if shared is None else {"layout": layout}))
    return Exported(target, len(made.pictures), len(made.classes), reading)
