"""What is exported: a finished set as its run left it, checked before a byte of it is copied."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from concord.data.classes import ClassSpec, ClassTable, class_table
from concord.errors import ConcordError
from concord.recipe import Recipe
from concord.runs.store import MANIFEST, Row, read_manifest
from concord.runs.workspace import earlier

Variant = Literal["images", "uninformed"]


@dataclass(frozen=True)
class Picture:
    """One image: its file, its label (place in sorted folder order), its index in the class, and its manifest row."""

    path: Path
    label: int
    index: int
    row: Row


@dataclass(frozen=True)
class MadeSet:
    """One variant of a finished run; pictures in the order of label and index."""

    variant: Variant
    pictures: tuple[Picture, ...]
    classes: ClassTable
    recipe: Recipe
    results: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def counts(self) -> list[int]:
        """Images of each class, in label order."""
        found = Counter(picture.label for picture in self.pictures)
        return [found[entry.label] for entry in self.classes]

    @property
    def label_names(self) -> list[str]:
        """A name a class, in label order: what texts call it, or its folder where two are called alike."""
        names = [entry.class_name for entry in self.classes]
        return names if len(set(names)) == len(names) else [entry.folder for entry in self.classes]


def open_made(directory: Path, variant: Variant = "images") -> MadeSet:
    """Read what `concord distill` left in `directory`.

    Raises:
        ConcordError: it is no run's directory, the run is not finished, the variant was not made, an image is missing,
            or the manifest points outside or numbers its classes in another order than their folders'.
    """
    recipe = earlier(directory)
    if recipe is None:
        raise ConcordError(f"{directory} was not made by `concord distill`: it holds no recipe.yaml of a run")
    if not (directory / "results.json").is_file():
        raise ConcordError(f"{directory} is not finished: give the same `concord distill` command again, then export")
    root = directory / variant
    if not (root / MANIFEST).is_file():
        if variant == "uninformed":
            raise ConcordError(f"{directory} has no uninformed counterpart; its recipe says uninformed=false")
        raise ConcordError(f"{directory} has no {variant}/{MANIFEST}")
    pictures = tuple(
        Picture(_file(root, row["file_name"]), row["label"], row["index"], row) for row in read_manifest(root)
    )
    if not pictures:
        raise ConcordError(f"{root} holds no images")
    return MadeSet(
        variant,
        pictures,
        _classes(root, pictures),
        recipe,
        _json(directory / "results.json"),
        _json(directory / "environment.json"),
    )


def _file(root: Path, name: str) -> Path:
    """The file of a row: ``folder/file`` below the root, and nowhere else, whoever wrote the manifest."""
    parts = name.split("/")
    path = root / name
    if len(parts) != 2 or not all(parts) or {".", ".."} & {*parts} or "\0" in name:
        raise ConcordError(f'{root / MANIFEST}: expected a file_name such as "class/00000.png", got {name!r}')
    if not path.is_file():
        raise ConcordError(f"{path} is missing; give the same `concord distill` command again to make it anew")
    if not path.resolve().is_relative_to(root.resolve()):
        raise ConcordError(f"{path} is a link out of {root}; an export copies only what the run made")
    return path


def _classes(root: Path, pictures: tuple[Picture, ...]) -> ClassTable:
    """The classes by their folders, whose sorted order the labels must follow: readers count so."""
    names: dict[str, str] = {}
    labels: dict[str, int] = {}
    for picture in pictures:
        folder = picture.path.parent.name
        names.setdefault(folder, str(picture.row.get("class_name") or folder))
        if labels.setdefault(folder, picture.label) != picture.label:
            raise ConcordError(f'{root / MANIFEST}: the folder "{folder}" has two labels')
    table = class_table(ClassSpec(folder.replace(" - ", "/"), name) for folder, name in names.items())
    for entry in table:
        if labels[entry.folder] != entry.label:
            raise ConcordError(
                f'{root / MANIFEST}: the folder "{entry.folder}" has label {labels[entry.folder]}, but is number'
                f" {entry.label} in sorted order, as image-folder readers count"
            )
    return table


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ConcordError(f"{path} is not valid JSON; give the same `concord distill` command again") from None
    return values if isinstance(values, dict) else {}
