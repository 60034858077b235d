"""`concord export`: a finished set in the layout that another tool reads."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, confirm

from concord.errors import ConcordError
from concord.registry import LAYOUTS

Layout = StrEnum("Layout", {name: name for name in LAYOUTS})  # type: ignore[misc]


class Variant(StrEnum):
    images = "images"
    uninformed = "uninformed"


def export(
    directory: Annotated[Path, Argument(metavar="DIR", help="What `concord distill` left.")],
    layout: Annotated[Layout, Option(help="Whose layout to write.")],
    out: Annotated[
        Path | None, Option(metavar="TARGET", help="The directory to make; it must not be there yet.")
    ] = None,
    push: Annotated[
        str | None, Option(metavar="ORG/NAME", help="Or a data set on the Hugging Face hub, private; token: HF_TOKEN.")
    ] = None,
    public: Annotated[bool, Option("--public", help="Let anybody read what is pushed; asks first.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Answer yes to that.")] = False,
    variant: Annotated[Variant, Option(help="The set, or the same samples without informing.")] = Variant.images,
    shard_size: Annotated[
        int | None, Option(min=1, help="Images a file of webdataset and parquet; 1000 if not given.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Write a finished set for another tool, with a data card (README.md).

    folder: an image folder. rded, ddranking: what those evaluators open. webdataset: tar shards. parquet: with preview.

    folder and parquet can be pushed to the hub, with the run's record; `concord fetch` makes a run's directory of it.

      concord export out/reef --layout parquet --out reef-parquet

      concord export out/reef --layout parquet --push my-name/reef-10
    """
    if (out is None) == (push is None):
        raise ConcordError("expected --out TARGET, or --push ORG/NAME for the hub: one of the two")
    if push is not None:
        if variant is not Variant.images:
            raise ConcordError("--push is of the set itself; its counterpart is written by --out")
        if yes and not public:
            raise ConcordError("--yes answers what --public asks; without --public nothing is asked")
        _push(directory, layout.value, push, public, yes, shard_size, quiet)
        return
    if public or yes:
        raise ConcordError(f"--{'public' if public else 'yes'} is for --push")
    assert out is not None
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


def _push(
    directory: Path,
    layout: str,
    name: str,
    public: bool,
    yes: bool,
    shard_size: int | None,
    quiet: bool,
) -> None:
    from huggingface_hub.utils import disable_progress_bars

    from concord.export.hub import push

    def agreed(question: str) -> bool:
        if not (yes or sys.stdin.isatty()):
            raise ConcordError(f"{question} Nobody is here to agree: add --yes, or leave out --public")
        return yes or confirm(f"{question} Make it public?", err=True)

    if quiet or not sys.stderr.isatty():
        disable_progress_bars()
    pushed = push(directory, layout, name, public=public, agreed=agreed, shard_size=shard_size)
    if not quiet:
        who = "anybody can read it" if pushed.public else "private: its settings there let others in"
        count = f"{pushed.exported.images} images of {pushed.exported.classes} classes"
        print(f"pushed {count} to {pushed.url} ({who})")
        print(f"  commit {pushed.commit}")
        print(f"fetch it: concord fetch {name} --out DIR")
