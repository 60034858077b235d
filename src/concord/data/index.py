"""One look at a large folder for all who work on a run: what lay in it, kept in a file and held against the folders.

A folder's time changes when a file comes, goes or is renamed in it: where the times of all folders are those of the
look, the names are too. On a disk of the network a look at a million files takes minutes, and one at a thousand folders
none.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from concord.choices import Unreadable
from concord.data import ImageSet, open_data, read_options
from concord.data.checks import files_of
from concord.data.classes import ClassSpec, class_table
from concord.data.folder import FolderSet
from concord.registry import DATASETS
from concord.storage.atomic import read_json, write_atomically
from concord.storage.checksums import is_inside
from concord.storage.images import ReadOptions

INDEX = ".index.json"
"""Where it lies in a run's directory."""
LARGE = 20_000
"""Images from which on a look is kept; one at fewer takes no longer than to read what was kept."""
SETTLED = 2 * 10**9
"""Nanoseconds that a folder must have been left alone before the look: disks tell times apart by no less."""


def open_indexed(
    path: Path,
    data: str,
    unreadable: Unreadable = "error",
    skipping: str = "unreadable=skip",
    *,
    grey_range: tuple[int, int] | None = None,
    max_pixels: int | None = None,
) -> ImageSet:
    """Open a data set as `open_data` does; a folder whose look was kept in `path` is not looked at again."""
    options = read_options(unreadable, skipping, grey_range, max_pixels)
    known = recall(Path(data).expanduser(), options, path) if data not in DATASETS else None
    if known is not None:
        known.look()
        return known
    return open_data(data, unreadable, skipping, grey_range=grey_range, max_pixels=max_pixels)


def keep(data: ImageSet, path: Path) -> None:
    """Keep what was found of a large image folder; nothing of any other set, or of one that is being changed."""
    files = files_of(data)
    if not isinstance(files, FolderSet) or not files.looked or sum(map(len, files.lists)) < LARGE:
        return
    if max(files.looked.values()) > time.time_ns() - SETTLED or _times(files.looked_at, files.looked) != files.looked:
        return
    values = {
        "schema": 1,
        "folder": os.path.realpath(files.looked_at),
        "root": os.path.relpath(files.root, files.looked_at),
        "looked": files.looked,
        "notes": files.found_notes,
        "empty": list(files.empty),
        "held_out": [os.path.relpath(place, files.looked_at) for place in files.held_out],
        "classes": [
            {"key": e.key, "name": e.class_name, "files": [item[len(e.key) + 1 :] for item in items]}
            for e, items in zip(files.classes, files.lists, strict=True)
        ],
    }
    write_atomically(path, json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode())


def recall(folder: Path, options: ReadOptions, path: Path) -> FolderSet | None:
    """The set in a folder as `open_folder` finds it, from what was kept; None where that is not so, or not known."""
    try:
        values = read_json(path)
        if not values or values["folder"] != os.path.realpath(folder):
            return None
        looked: dict[str, int] = values["looked"]
        classes, names = values["classes"], [name for entry in values["classes"] for name in entry["files"]]
        inside = all(is_inside(place) for place in (*looked, values["root"], *(entry["key"] for entry in classes)))
        if not inside or "/" in "\n".join(names) or _times(folder, looked) != looked:
            return None
        table = class_table(ClassSpec(entry["key"], entry["name"]) for entry in classes)
        of_class = {entry["key"]: [f"{entry['key']}/{name}" for name in entry["files"]] for entry in classes}
        found = FolderSet(
            folder if values["root"] == "." else folder / values["root"],
            table,
            [of_class[entry.key] for entry in table],
            list(values["notes"]),
            options,
            values["empty"],
            [folder / place for place in values["held_out"]],
        )
    except (KeyError, TypeError, ValueError, AttributeError):  # it is damaged
        return None
    found.looked_at, found.looked, found.found_notes = folder, looked, tuple(values["notes"])
    return found


def _times(folder: Path, looked: dict[str, Any]) -> dict[str, int | None]:
    """When each folder was changed last, in nanoseconds; None of one that is gone."""
    times: dict[str, int | None] = {}
    for place in looked:
        try:
            times[place] = os.stat(folder / place).st_mtime_ns
        except OSError:
            times[place] = None
    return times
