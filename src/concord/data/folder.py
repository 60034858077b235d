"""Image folders: a class is a directory that directly holds images, at any depth."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from concord.data.classes import ClassSpec, class_table, singles, spellings
from concord.data.image_files import FilePart, ImageFiles, thinned
from concord.data.layout import layout
from concord.data.source import Source, look
from concord.data.splits import Part
from concord.errors import ConcordError
from concord.storage.files import passed_over
from concord.storage.images import PLAIN, ReadOptions
from concord.storage.threads import in_threads
from concord.text import listed


@dataclass(eq=False, repr=False)
class FolderSet(ImageFiles):
    """The images of a folder by class; an `ImageSet`. A reference is the file's path below the root.

    `empty` names the folders without images: no classes, or classes that lost theirs. `held_out` are splits beside it.
    For `concord.data.index`: `looked_at` is the folder that was given, `looked` when each folder below it was changed,
    in nanoseconds (empty where more than names was read), and `found_notes` what was noted of names alone.
    """

    empty: Sequence[str] = ()
    held_out: Sequence[Path] = ()
    looked_at: Path = field(init=False, default=Path())
    looked: dict[str, int] = field(init=False, default_factory=dict)
    found_notes: tuple[str, ...] = field(init=False, default=())

    @property
    def lists(self) -> Sequence[Sequence[str]]:
        """The references of all classes, in label order."""
        return self._items

    @property
    def fingerprint(self) -> str:
        """A digest of the names of all images."""
        names = "\0".join(item for items in self._items for item in items)
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def source(self, item: str) -> Path:
        return self.root / item

    def _parts(self, most: int | None) -> list[FilePart]:
        items = [item for of_class in self._items for item in of_class]
        return [(self.root / item, 0, None) for item in thinned(items, most or len(items))]

    def _sizes(self) -> list[int]:
        return [*in_threads(self._size, [item for of_class in self._items for item in of_class], at_once=256)]

    def _size(self, item: str) -> int:
        try:
            return os.stat(f"{self.root}/{item}").st_size
        except OSError:  # a link to nothing; what reads it says so
            return -1


def open_folder(
    folder: Path, options: ReadOptions = PLAIN, part: Part = "train", source: Source | None = None
) -> FolderSet:
    """Open a folder of labelled images; a ConcordError says why it is none.

    Of splits the one that is wanted, `part`, is taken, and of what `concord distill` made its ``images``; the notes say
    so. A class is called what a ``metadata.jsonl`` beside the class folders calls it, as that of a made set does.
    source: the look at the folder, where there was one already.
    """
    if not folder.exists():
        raise ConcordError(f"data: there is no folder {folder}")
    if not folder.is_dir():
        raise ConcordError(
            f"data: expected a folder with a folder of images for each class, or a .parquet file; got the file {folder}"
        )
    source = source or look(folder)
    looked = {inside.path: inside.changed for inside in source.top.walk()}
    found = layout(source, part)
    at, root = found.at, folder / found.at.path
    below = [inside for inside in at.walk() if inside is not at]
    items = {key: [f"{key}/{name}" for name in c.images] for c in below if c.images for key in [at.relative(c)]}
    others = [name for inside in below for name in inside.others]
    if not items:
        raise ConcordError("; ".join([_nothing(folder, at.images, passed_over(others)), *source.notes]))
    notes = [*found.notes, *source.notes]
    if at.images:
        notes.append(f"{_count(len(at.images), 'image')} directly in {root} left out: no class folder")
    if empty := sorted(at.relative(c) for c in below if not (c.images or c.below or c.lost)):
        notes.append(f"{_count(len(empty), 'folder')} without images left out: {listed(empty)}")
    if others:
        notes.append(f"left out by their suffixes: {passed_over(others)}")
    for key, names in items.items():
        _check_text(root, [key, *names])
    called = _class_names(root / "metadata.jsonl")
    classes = class_table(ClassSpec(key, called.get(key, "")) for key in items)
    notes += spellings(classes) + (singles([*map(len, items.values())]) if not called else [])
    beside = [folder / held.path for held in found.held_out]
    opened = FolderSet(root, classes, [items[entry.key] for entry in classes], notes, options, empty, beside)
    opened.looked_at, opened.looked, opened.found_notes = folder, {} if called else looked, tuple(notes)
    return opened


def _class_names(manifest: Path) -> dict[str, str]:
    """Return the names that a set's manifest has for its class folders; none where there is no manifest."""
    names: dict[str, str] = {}
    if manifest.is_file():
        for line in manifest.read_bytes().splitlines():
            with contextlib.suppress(ValueError):  # a line torn by a kill
                row = json.loads(line)
                file, name = (row.get("file_name"), row.get("class_name")) if isinstance(row, dict) else (None, None)
                if isinstance(file, str) and isinstance(name, str):
                    names.setdefault(file.rpartition("/")[0], name)
    return names


def _nothing(folder: Path, loose: Sequence[str], others: str) -> str:
    """Say why a folder holds no labelled images."""
    if loose:
        return (
            f"data: {_count(len(loose), 'image')} lie{'s' if len(loose) == 1 else ''} directly in {folder};"
            " put the images of each class into a folder of its own, named after the class"
        )
    text = f"data: no images in {folder}"
    return text + (f" (found {others}; readable are JPEG, PNG, WebP, TIFF, BMP, GIF)" if others else "")


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
