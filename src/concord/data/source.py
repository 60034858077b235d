"""One look at what lies below a folder: its folders, their images and other files; nothing is opened."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from concord.data.splits import is_image, is_no_data
from concord.errors import ConcordError
from concord.text import counted, listed, plain

_DEEPEST = 60
"""Folders below each other; more are no data set but a loop that no link tells."""


@dataclass(eq=False)
class Folder:
    """What lies in a folder.

    path: below the one that was looked at, which is ``.``. images, others: names of its files. below: its folders by
    name. All are sorted, and hidden ones are left out. lost: names of folders in it that were taken out. changed: when
    it was last changed before it was looked at, in nanoseconds.
    """

    path: str
    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    below: "dict[str, Folder]" = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    changed: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def file(self, name: str) -> str:
        """The path of a file in it."""
        return name if self.path == "." else f"{self.path}/{name}"

    @property
    def count(self) -> int:
        """Images here and below."""
        return len(self.images) + sum(child.count for child in self.below.values())

    @property
    def filled(self) -> "dict[str, Folder]":
        """The folders in it that hold images, at any depth."""
        return {name: child for name, child in self.below.items() if child.count}

    def walk(self) -> "Iterator[Folder]":
        """Yield the folder and all below it."""
        yield self
        for child in self.below.values():
            yield from child.walk()

    def relative(self, other: "Folder") -> str:
        """The path of a folder below this one, ``.`` for itself."""
        return other.path if self.path == "." else other.path[len(self.path) + 1 :] or "."


@dataclass(frozen=True)
class Source:
    """A folder that was looked at, and what was passed over, a line each."""

    root: Path
    top: Folder
    notes: tuple[str, ...]


def look(root: Path) -> Source:
    """Look at a folder and all below it.

    Bins and thumbnails of systems are passed over, and what concord made, wherever it lies below. A link to a folder is
    followed where it leads out of the set, but not where it leads into it or above it.
    """
    home = os.path.realpath(root)
    top = Folder(".")
    bins, links, made = Counter[str](), list[str](), list[str]()
    # Behind a link no folder is entered twice: links that lead to each other have more ways than anyone can walk.
    waiting: list[tuple[Folder, set[str] | None]] = [(top, None)]
    while waiting:
        folder, seen = waiting.pop()
        directory = root / folder.path
        if folder.path.count("/") > _DEEPEST:
            raise ConcordError(f"data: folders lie more than {_DEEPEST} deep in {directory.parent}: is it a loop?")
        names, found = list[str](), list[os.DirEntry[str]]()
        try:
            folder.changed = os.stat(directory).st_mtime_ns
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    if _is_folder(entry):
                        found.append(entry)
                    else:
                        names.append(entry.name)
        except OSError as error:
            raise ConcordError(f"data: cannot look into {directory}: {error.strerror}") from error
        if folder is not top and {"recipe.yaml", "environment.json"} <= set(names):
            made.append(folder.path)
            folder.lost.append(".")
            continue
        for name in sorted(names):
            (folder.images if is_image(name) else folder.others).append(name)
        for entry in sorted(found, key=lambda entry: entry.name):
            child, known = Folder(folder.file(entry.name)), seen
            if is_no_data(entry.name):
                bins[entry.name] += 1
                continue
            if seen is not None or entry.is_symlink():
                real = os.path.realpath(directory / entry.name)
                known = set() if seen is None else seen
                if real in known or _is_inside(real, home) or _is_inside(home, real):
                    links.append(child.path)
                    continue
                known.add(real)
            folder.below[entry.name] = child
            waiting.append((child, known))
    notes = []
    if bins:
        shown = (name if count == 1 else f"{name} ({counted(count, 'folder')})" for name, count in sorted(bins.items()))
        notes.append(f"left out as no classes: {listed(shown)}")
    if made:
        notes.append(f"left out as made by concord: {listed(sorted(made))}")
    if links:
        notes.append(f"left out as links to where the set lies already: {listed(sorted(links))}")
    return Source(root, top, tuple(notes))


def parquet_files(source: Source) -> list[str]:
    """Return the Parquet files of a set, relative to its root; none if it is an image folder.

    A stray Parquet file among class folders does not make them a Parquet set, nor do a few pictures in a folder beside
    Parquet files that hold images.
    """
    found = [folder.file(name) for folder in source.top.walk() for name in folder.others if _is_parquet(name)]
    if not found or source.top.count == len(source.top.images):
        return sorted(found)
    near = sorted(file for file in found if file.rpartition("/")[0] in ("", "data"))
    return sorted(found) if near and _holds_images(source.root / near[0]) else []


def _is_parquet(name: str) -> bool:
    # An image folder on the hub may keep what is known of its images in metadata.parquet.
    return name.lower().endswith(".parquet") and name.lower() != "metadata.parquet"


def _holds_images(file: Path) -> bool:
    from concord.data.parquet_columns import image_columns, schema_of

    try:
        return bool(image_columns(schema_of(file)))
    except ConcordError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_inside(path: str, other: str) -> bool:
    return path == other or path.startswith(other.rstrip("/") + "/")


def drawn(root: Path, folder: Folder, most: int = 12) -> str:
    """A folder and what lies in it as a tree of a few lines, for a person to see how a set is laid out."""
    lines = list(_lines(folder, plain((root / folder.path).resolve().name or str(root)), 1))
    if len(lines) > most:
        lines[most:] = [("...", "")]
    width = min(36, max(len(name) for name, _ in lines))
    return "\n".join(f"  {name:<{width}}  {what}".rstrip() for name, what in lines)


def _lines(folder: Folder, name: str, depth: int) -> Iterator[tuple[str, str]]:
    while len(folder.filled) == 1 and not folder.images:  # seg_train/seg_train/ in one line
        folder = next(iter(folder.filled.values()))
        name += f"/{plain(folder.name)}"
    label = "  " * (depth - 1) + name + "/"
    filled, loose = folder.filled, counted(len(folder.images), "image")
    if not filled:
        yield label, loose
    elif depth > 2 or (depth > 1 and not any(child.filled for child in filled.values())):
        folders = f"{counted(len(filled), 'folder')}: {listed(map(plain, filled), 3)}"
        yield label, f"{counted(folder.count, 'image')} in {folders}"
    else:
        yield label, loose if folder.images else ""
        for key, child in filled.items():
            yield from _lines(child, plain(key), depth + 1)
