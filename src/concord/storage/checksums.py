"""What files must be, by size and SHA-256: of one in memory or on disk, and of all in a directory."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from concord.storage.atomic import read_json, write_json
from concord.storage.threads import in_threads

CHECKSUMS = "checksums.json"


def is_inside(name: str) -> bool:
    """Whether a relative name, as it stands in a file that may come from anywhere, stays below its directory."""
    place = PurePath(name)
    return not (place.anchor or ".." in place.parts or "\0" in name)


def sum_of(data: bytes) -> dict[str, Any]:
    """The size and SHA-256 of a file's bytes, as rows and `checksums.json` have them."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def sum_of_file(path: Path) -> dict[str, Any] | None:
    """The same of a file on disk, None where there is none; a link is none, wherever it leads."""
    if path.is_symlink() or not path.is_file():
        return None
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def write_checksums(directory: Path, names: Iterable[str], **more: Any) -> None:
    """Leave `checksums.json` over files of a directory, named relative to it; `more` stands beside them."""
    places = sorted(set(names))
    found = in_threads(lambda name: sum_of_file(directory / name), places)
    write_json(directory / CHECKSUMS, {**more, "files": dict(zip(places, found, strict=True))})


def read_checksums(directory: Path) -> dict[str, Any]:
    """What `checksums.json` holds; empty where there is none, or it is damaged."""
    values = read_json(directory / CHECKSUMS)
    files = values.get("files")
    inside = isinstance(files, dict) and all(isinstance(one, dict) and is_inside(name) for name, one in files.items())
    return values if inside else {}


def changed(directory: Path, files: Mapping[str, Any]) -> list[str]:
    """The names of files that are not there, or not what their checksums say."""
    found = in_threads(lambda item: sum_of_file(directory / item[0]) == item[1], list(files.items()))
    return [name for name, same in zip(files, found, strict=True) if not same]
