"""The classes of a run whose concepts are selected already, a line each: on a large set a selection takes hours."""

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from concord.concepts.selection import Concept
from concord.storage.atomic import disk_errors, json_line


class Journal:
    """The lines of a file, which need not be there. One that a kill has torn, or that is none, is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Concept]] = {}
        for line in path.read_bytes().split(b"\n")[:-1] if path.is_file() else ():
            try:
                values = json.loads(line)
                self._known[values["class"]] = [Concept(**concept) for concept in values["concepts"]]
            except (ValueError, TypeError, KeyError):
                continue

    def find(self, folder: str, phrases: Collection[str]) -> list[Concept] | None:
        """What was selected of a class, by its folder; None where that is not known, or was of other phrases."""
        found = self._known.get(folder)
        return found if found and {concept.phrase for concept in found} == set(phrases) else None

    def add(self, folder: str, concepts: Sequence[Concept]) -> None:
        """Keep what was selected of a class; it stays whatever happens then."""
        line = json_line({"class": folder, "concepts": [asdict(concept) for concept in concepts]})
        with disk_errors(self._path), open(self._path, "ab") as file:
            # What a kill tore is no line, and shall not begin one.
            file.write((b"\n" if file.tell() and not self._ends() else b"") + line)
            file.flush()
            os.fsync(file.fileno())
        self._known[folder] = list(concepts)

    def _ends(self) -> bool:
        with open(self._path, "rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
