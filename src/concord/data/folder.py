"""Image folders: a class is a directory that directly holds images, at any depth."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from concord.data.classes import ClassTable, Named, class_table
from concord.data.reading import SUFFIXES, read_image
from concord.errors import ConcordError

_TRAIN = ("train", "training")
_SPLITS = frozenset({*_TRAIN, "val", "valid", "validation", "test", "testing"})


class FolderSet:
    """The images of a folder by class; an `ImageSet`. A reference is the file's path below the root."""

    known_details = None

    def __init__(
        self, root: Path, classes: ClassTable, items: Sequence[Sequence[str]], notes: Sequence[str], hint: str
    ) -> None:
        self.root, self.classes, self.notes = root, classes, notes
        self._items, self._hint = items, hint

    @property
    def fingerprint(self) -> str:
        """A digest of the names of all images."""
        names = "\0".join(item for items in self._items for item in items)
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def items(self, class_index: int) -> Sequence[str]:
        return self._items[class_index]

    def read(self, item: str) -> Image.Image:
        return read_image(self.root / item, self._hint)


def open_folder(folder: Path, hint: str = "") -> FolderSet:
    """Scan a folder of labelled images.

    Names that start with a dot are left out. A folder that only has splits (``train``, ``validation``, ...) gives its
    training split, and what `concord distill` made gives its ``images``; both are said in the notes.

    Args:
        folder: the folder.
        hint: added to the error on an image that cannot be read.

    Raises:
        ConcordError: there is no such folder, it holds no images, or none that belong to a class.
    """
    if not folder.exists():
        raise ConcordError(f"data: there is no folder {folder}")
    if not folder.is_dir():
        raise ConcordError(f"data: expected a folder with a folder of images for each class, got the file {folder}")
    root, notes = _where_the_classes_are(folder)
    found: dict[str, list[str]] = {}
    others: Counter[str] = Counter()
    for directory, names in _walk(root):
        images = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
        others.update(Path(name).suffix.lower() for name in names if Path(name).suffix.lower() not in SUFFIXES)
        if images:
            key = directory.relative_to(root).as_posix()
            found[key] = [name if key == "." else f"{key}/{name}" for name in sorted(images)]
    loose = found.pop(".", [])
    if not found:
        raise ConcordError(_nothing(folder, loose, others))
    if loose:
        notes.append(f"{_count(len(loose), 'image')} directly in {root} left out: no class folder")
    classes = class_table(Named(key) for key in found)
    for key, names in found.items():
        _check_text(root, [key, *names])
    return FolderSet(root, classes, [found[entry.key] for entry in classes], notes, hint)


def _where_the_classes_are(folder: Path) -> tuple[Path, list[str]]:
    """Return the directory whose folders are the classes, and what to say about the choice."""
    if (folder / "images" / "metadata.jsonl").is_file():
        return folder / "images", [f"{folder} was made by concord: its images/ are the data"]
    folders = [e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")]
    train = [name for name in folders if name.lower() in _TRAIN]
    if len(train) == 1 and len(folders) > 1 and all(name.lower() in _SPLITS for name in folders):
        inside = folder / train[0]
        # Two classes may really be called "train" and "test": then the images lie in them directly.
        if not any(Path(e.name).suffix.lower() in SUFFIXES for e in os.scandir(inside)):
            return inside, [f"{folder} has splits ({', '.join(sorted(folders))}): {train[0]}/ is the data"]
    return folder, []


def _walk(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield (directory, its file names), links followed, but no directory inside itself."""
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


def _nothing(folder: Path, loose: Sequence[str], others: Counter[str]) -> str:
    """Say why a folder holds no labelled images."""
    if loose:
        return (
            f"data: {_count(len(loose), 'image')} lie{'s' if len(loose) == 1 else ''} directly in {folder};"
            " put the images of each class into a folder of its own, named after the class"
        )
    text = f"data: no images in {folder}"
    kinds = [f"{n} {suffix or 'without suffix'}" for suffix, n in others.most_common(3)]
    return text + (f" (found {', '.join(kinds)}; readable are JPEG, PNG, WebP, TIFF, BMP, GIF)" if kinds else "")


def _check_text(root: Path, names: Sequence[str]) -> None:
    """Refuse names that no JSON file can hold: bytes that are not UTF-8."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(str(root / name)).decode(errors="replace")
            raise ConcordError(f"data: the file name {shown} is not valid UTF-8; rename it") from None


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
