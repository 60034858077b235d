"""Where the labelled images of a path lie: splits beside each other, and what a walk through a folder comes by."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from concord.errors import ConcordError
from concord.storage.images import SUFFIXES

Part = Literal["train", "test"]
"""What of splits beside each other is wanted: the training split, or one held out."""
TRAIN = ("train", "training")
HELD_OUT = ("test", "testing", "validation", "valid", "val")
"""Names of splits that are no training split, in the order in which they are taken to test on."""
SPLITS = frozenset({*TRAIN, *HELD_OUT})


def wanted(part: Part) -> tuple[str, ...]:
    """The names of the splits that are taken for a part, the first that is there."""
    return TRAIN if part == "train" else HELD_OUT


def split_of(file: str) -> str | None:
    """Return the split that a data file belongs to by its name, or by the nearest folder with a split's name.

    ``train-00000-of-00002.parquet``, ``train.parquet`` and ``default/train/0000.parquet`` are of ``train``: so the hub
    names files. None where there is no such word, or more than one.
    """
    *folders, name = file.lower().split("/")
    for part in (name.partition(".")[0], *reversed(folders)):
        words = set(re.split(r"[\W\d_]+", part)) & SPLITS
        if words:
            return words.pop() if len(words) == 1 else None
    return None


def is_image(name: str) -> bool:
    """Say whether a file is taken for an image, by its suffix."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def parquet_files(path: Path) -> list[str]:
    """Return the Parquet files of a set, relative to `path` (a file: to its folder); none if it is an image folder.

    A stray Parquet file among class folders does not make them a Parquet set, nor do a few pictures in a folder beside
    Parquet files that hold images.
    """
    if path.is_file():
        return [path.name] if _is_parquet(path.name) else []
    if not path.is_dir():
        return []
    near = sorted(p for folder in (path, path / "data") for p in folder.glob("*.parquet") if _is_parquet(p.name))
    found, photographs = [], False
    for directory, names in walk(path):
        found += [(directory / name).relative_to(path).as_posix() for name in names if _is_parquet(name)]
        photographs = photographs or (directory != path and any(map(is_image, names)))
        if photographs and not near:
            return []  # class folders; there may be a million images more
    if photographs and not _holds_images(near[0]):
        return []
    return sorted(found)


def walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield (directory, its file names), links followed, but no directory inside itself; hidden ones are left out.

    Raises:
        ConcordError: a directory cannot be looked into.
    """
    above: list[tuple[Path, frozenset[str]]] = [(root, frozenset())]
    while above:
        directory, parents = above.pop()
        real = os.path.realpath(directory)
        if real in parents:
            continue
        names = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if entry.is_dir():
                        above.append((directory / entry.name, parents | {real}))
                    else:
                        names.append(entry.name)
        except OSError as error:
            raise ConcordError(f"data: cannot look into {directory}: {error.strerror}") from error
        yield directory, names


def _is_parquet(name: str) -> bool:
    # An image folder on the hub may keep what is known of its images in metadata.parquet.
    return name.lower().endswith(".parquet") and not name.startswith(".") and name.lower() != "metadata.parquet"


def _holds_images(file: Path) -> bool:
    from concord.data.parquet_columns import image_columns, schema_of

    try:
        return bool(image_columns(schema_of(file)))
    except ConcordError:
        return False
