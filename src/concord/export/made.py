"""What is exported: one variant of a finished run, checked before a byte of it is copied."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concord.choices import TENSORS
from concord.data.classes import ClassTable
from concord.errors import ConcordError
from concord.recipe import Recipe
from concord.runs.directory import Run, Stored, StoredSample, Variant, Words, classes_of, earlier
from concord.runs.store import MANIFEST
from concord.storage.checksums import read_checksums, sum_of_file
from concord.storage.threads import in_threads

_DAMAGED = "{path} is not valid JSON; give the same `concord distill` command again"
_FILE = '{path}: expected a file_name such as "class/00000.png", got {name!r}'
AHEAD = 1024
"""Images that may be looked at before they are asked for."""
WORDS = Words(_DAMAGED, _DAMAGED, _FILE, "{path} is a link out of {root}; an export copies only what the run made")


@dataclass(frozen=True)
class MadeSet:
    """One variant of a finished run; pictures in the order of label and index, counts in that of labels.

    pictures: read one by one, for a layout goes through them: a set of any size takes the memory of an index.
    concepts, evaluation: what is recorded of the set itself; empty of its counterpart.
    """

    variant: Variant
    pictures: Stored
    classes: ClassTable
    counts: list[int]
    recipe: Recipe
    results: Mapping[str, Any]
    environment: Mapping[str, Any]
    concepts: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    tensors: Path | None = None
    """The file of float images that the pictures are previews of."""


def open_made(directory: Path, variant: Variant = "images") -> MadeSet:
    """Read what `concord distill` left in `directory`, finished and with the variant.

    A ConcordError if an image is missing, or the manifest points outside or numbers classes unlike their folders'
    order.
    """
    recipe, run = earlier(directory), Run(directory, WORDS)
    if recipe is None:
        raise ConcordError(f"{directory} was not made by `concord distill`: it holds no recipe.yaml of a run")
    if not run.finished:
        raise ConcordError(f"{directory} is not finished: give the same `concord distill` command again, then export")
    root = directory / variant
    if not (root / MANIFEST).is_file():
        if variant == "uninformed":
            raise ConcordError(f"{directory} has no uninformed counterpart; its recipe says uninformed=false")
        raise ConcordError(f"{directory} has no {variant}/{MANIFEST}")
    pictures = Stored(run, variant)

    def check(picture: StoredSample) -> None:
        parts = picture.row["file_name"].split("/")
        if len(parts) != 2 or not all(parts) or "." in parts:
            raise ConcordError(_FILE.format(path=root / MANIFEST, name=picture.row["file_name"]))
        found = sum_of_file(picture.path)
        if found is None or found["sha256"] != picture.row.get("sha256", found["sha256"]):
            said = "is missing" if found is None else "is another image than its row says"
            again = "give the same `concord distill` command again to make it anew"
            raise ConcordError(f"{picture.path} {said}; {again}")

    for _ in in_threads(check, pictures, AHEAD):
        pass
    if not pictures:
        raise ConcordError(f"{root} holds no images")
    whole = directory / TENSORS if variant == "images" and (directory / TENSORS).is_file() else None
    if whole and (at := read_checksums(directory).get("files", {}).get(TENSORS)) and sum_of_file(whole) != at:
        raise ConcordError(f"{whole} is another file than the run left; give the same `concord distill` command again")
    concepts, evaluation = (run.concepts, run.evaluation) if variant == "images" else ({}, {})
    classes, of_label = classes_of(pictures, root / MANIFEST), Counter(pictures.rows.labels.tolist())
    counts = [of_label[entry.label] for entry in classes]
    return MadeSet(
        variant, pictures, classes, counts, recipe, run.results, run.environment, concepts, evaluation, whole
    )
