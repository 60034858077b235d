"""`concord export`: a finished set in the layout that another tool reads."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.registry import LAYOUTS

Layout = StrEnum("Layout", {name: name for name in LAYOUTS})  # type: ignore[misc]


class Variant(StrEnum):
    images = "images"
    uninformed = "uninformed"


def export(
    directory: Annotated[Path, Argument(metavar="DIR", help="What `concord distill` left.")],
    layout: Annotated[Layout, Option(help="Whose layout to write.")],
    out: Annotated[Path, Option(metavar="TARGET", help="The directory to make; it must not be there yet.")],
    variant: Annotated[Variant, Option(help="The set, or the same samples without informing.")] = Variant.images,
    shard_size: Annotated[
        int | None, Option(min=1, help="Images a file of webdataset and parquet; 1000 if not given.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Write a finished set for another tool, with a data card (README.md).

    folder: an image folder. rded, ddranking: what those evaluators open. webdataset: tar shards. parquet: with preview.

      concord export out/reef --layout parquet --out reef-parquet
    """
    from concord.export import export as write

    exported = write(directory, layout.value, out, variant.value, shard_size)
    if quiet:
        return
    print(f"exported {exported.images} images of {exported.classes} classes as {layout.value} to {out}")
    for note in exported.reading.notes:
        print(f"  {note}")
    print("read it:")
    for line in exported.reading.at(out).splitlines():
        print(f"  {line}".rstrip())
    print(f"{out / 'README.md'} is its data card: look it over, and state the data's licence before you share it")
