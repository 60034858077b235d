"""Image folders: a class is a directory that directly holds images, at any depth."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from concord.data.classes import ClassSpec, class_table
from concord.data.image_files import ImageFiles
from concord.data.splits import SPLITS, TRAIN, Part, is_image, walk, wanted
from concord.errors import ConcordError
from concord.storage.files import passed_over
from concord.storage.images import PLAIN, ReadOptions
from concord.text import listed


@dataclass(eq=False, repr=False)
class FolderSet(ImageFiles):
    """The images of a folder by class; an `ImageSet`. A reference is the file's path below the root.

    `empty` names the folders without images: no classes, or classes that lost theirs.
    """

    empty: Sequence[str] = ()

    @property
    def fingerprint(self) -> str:
        """A digest of the names of all images."""
        names = "\0".join(item for items in self._items for item in items)
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def source(self, item: str) -> Path:
        return self.root / item


def open_folder(folder: Path, options: ReadOptions = PLAIN, part: Part = "train") -> FolderSet:
    """Scan a folder of labelled images.

    Names that start with a dot are left out. A folder that only has splits (``train``, ``validation``, ...) gives the
    one that is wanted, and what `concord distill` made gives its ``images``; both are said in the notes. A class is
    called what a ``metadata.jsonl`` beside the class folders calls it, as that of a made set does.

    Args:
        part: which split to take.

    Raises:
        ConcordError: there is no such folder, it holds no images, or none that belong to a class.
    """
    if not folder.exists():
        raise ConcordError(f"data: there is no folder {folder}")
    if not folder.is_dir():
        raise ConcordError(
            f"data: expected a folder with a folder of images for each class, or a .parquet file; got the file {folder}"
        )
    root, notes = _where_the_classes_are(folder, part)
    found: dict[str, list[str]] = {}
    others: list[str] = []
    without, inner = [], set()
    for directory, names in walk(root):
        images = [name for name in names if is_image(name)]
        key = directory.relative_to(root).as_posix()
        others += [name for name in names if key != "." and not is_image(name)]
        inner.add(key.rpartition("/")[0])
        if images:
            found[key] = [name if key == "." else f"{key}/{name}" for name in sorted(images)]
        else:
            without.append(key)
    loose = found.pop(".", [])
    if not found:
        raise ConcordError(_nothing(folder, loose, passed_over(others)))
    if loose:
        notes.append(f"{_count(len(loose), 'image')} directly in {root} left out: no class folder")
    if empty := sorted(key for key in without if key not in inner and key != "."):
        notes.append(f"{_count(len(empty), 'folder')} without images left out: {listed(empty)}")
    if others:
        notes.append(f"left out by their suffixes: {passed_over(others)}")
    for key, names in found.items():
        _check_text(root, [key, *names])
    called = _class_names(root / "metadata.jsonl")
    classes = class_table(ClassSpec(key, called.get(key, "")) for key in found)
    return FolderSet(root, classes, [found[entry.key] for entry in classes], notes, options, empty)


def _where_the_classes_are(folder: Path, part: Part) -> tuple[Path, list[str]]:
    """Return the directory whose folders are the classes, and what to say about the choice."""
    if (folder / "images" / "metadata.jsonl").is_file():
        return folder / "images", [f"{folder} was made by concord: its images/ are the data"]
    names = [e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")]
    if not names or not SPLITS.issuperset(name.lower() for name in names):
        return folder, []
    # Two classes may really be called "train" and "test": then images lie in them directly, as in an unlabelled split.
    inside = {name.lower(): name for name in names if _holds_folders_alone(folder / name)}
    name = next((inside[word] for word in wanted(part) if word in inside), None)
    shown = ", ".join(sorted(names))
    if name is not None and (part == "test" or len(names) > 1):
        return folder / name, [f"{folder} has splits ({shown}): {name}/ is the data"]
    if part == "test" and any(word in inside for word in TRAIN):
        raise ConcordError(f"{folder} has no held-out split with class folders, only {shown}; name another test set")
    return folder, []


def _holds_folders_alone(directory: Path) -> bool:
    entries = list(os.scandir(directory))
    return any(e.is_dir() for e in entries) and not any(is_image(e.name) for e in entries)


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
