"""What is exported: one variant of a finished run, checked before a byte of it is copied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concord.choices import TENSORS
from concord.data.classes import ClassTable
from concord.errors import ConcordError
from concord.recipe import Recipe
from concord.runs.directory import Run, StoredSample, Variant, Words, earlier
from concord.runs.store import MANIFEST
from concord.storage.checksums import read_checksums, sum_of_file
from concord.storage.threads import in_threads

_DAMAGED = "{path} is not valid JSON; give the same `concord distill` command again"
_FILE = '{path}: expected a file_name such as "class/00000.png", got {name!r}'
WORDS = Words(_DAMAGED, _DAMAGED, _FILE, "{path} is a link out of {root}; an export copies only what the run made")


@dataclass(frozen=True)
class MadeSet:
    """One variant of a finished run; pictures in the order of label and index, counts in that of labels.

    concepts, evaluation: what is recorded of the set itself; empty of its counterpart.
    """

    variant: Variant
    pictures: tuple[StoredSample, ...]
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
    pictures = run.samples(variant)
    for picture in pictures:
        parts = picture.row["file_name"].split("/")
        if len(parts) != 2 or not all(parts) or "." in parts:
            raise ConcordError(_FILE.format(path=root / MANIFEST, name=picture.row["file_name"]))
    for picture, found in zip(pictures, in_threads(lambda one: sum_of_file(one.path), pictures), strict=True):
        if found is None or found["sha256"] != picture.row.get("sha256", found["sha256"]):
            said = "is missing" if found is None else "is another image than its row says"
            again = "give the same `concord distill` command again to make it anew"
            raise ConcordError(f"{picture.path} {said}; {again}")
    if not pictures:
        raise ConcordError(f"{root} holds no images")
    whole = directory / TENSORS if variant == "images" and (directory / TENSORS).is_file() else None
    if whole and (at := read_checksums(directory).get("files", {}).get(TENSORS)) and sum_of_file(whole) != at:
        raise ConcordError(f"{whole} is another file than the run left; give the same `concord distill` command again")
    concepts, evaluation = (run.concepts, run.evaluation) if variant == "images" else ({}, {})
    classes, counts = run.classes(variant), run.counts(variant)
    return MadeSet(
        variant, pictures, classes, counts, recipe, run.results, run.environment, concepts, evaluation, whole
    )
