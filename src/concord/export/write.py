"""Writing an export: whole or not at all, with the same bytes for the same set.

What an export may say of the machine that the set was made on: names, not the paths to them.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concord.data.classes import ClassEntry
from concord.errors import ConcordError
from concord.export.made import MadeSet
from concord.recipe import Recipe
from concord.runs.directory import StoredSample
from concord.runs.store import MANIFEST
from concord.storage import atomic
from concord.storage.atomic import disk_errors, json_line

SHARD_SIZE = 1000
"""Images a file of layouts in shards, where nothing else is asked for."""
NUMBERS, LISTS, TEXTS = ("index", "seed"), ("positives", "negatives"), ("prompt", "source", "checkpoint")
"""Keys of a row that are columns of an export, beside the image and its label."""


def redacted(text: str) -> str:
    """Return the last part of what is a path on this machine; a hub id, a name or a sentence stays as it is."""
    forward = text.replace("\\", "/")
    path_like = forward.startswith(("/", "~", "./", "../")) or forward[1:3] == ":/"
    return forward.rstrip("/").rpartition("/")[2] if path_like else text


def redacted_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe with every path shortened."""
    return {key: shortened(value) for key, value in recipe.model_dump(mode="json", by_alias=True).items()}


def shortened(value: Any) -> Any:
    """Return a JSON value with every path in it shortened, keys included."""
    if isinstance(value, dict):
        return {redacted(key): shortened(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shortened(one) for one in value]
    return redacted(value) if isinstance(value, str) else value


def public_row(picture: StoredSample) -> dict[str, Any]:
    """Return a manifest row for others' eyes: absolute sources and the checkpoint's are cut to their last part."""
    row = {**picture.row, **{key: redacted(str(picture.row.get(key, ""))) for key in ("source", "checkpoint")}}
    if "crops" in row:
        row["crops"] = [{**crop, "source": redacted(str(crop["source"]))} for crop in row["crops"]]
    return row


@dataclass(frozen=True)
class Reading:
    """How an export is read again, for its data card and the terminal.

    files: a pattern of the data files, as the hub's front matter has it. code: a few lines of Python with "DIR" where
    the export's directory goes. notes: what the reader must know, one sentence each. columns: what `datasets` is to
    take each column for, as `columns` says it; without them it guesses, and a label is a number without names.
    rows: whether the data files hold rows; else they are images, beside a manifest.
    """

    files: str
    code: str
    notes: tuple[str, ...] = ()
    columns: Sequence[Mapping[str, Any]] = ()
    rows: bool = False

    def at(self, target: Path | str) -> str:
        return self.code.replace("DIR", json.dumps(str(target), ensure_ascii=False)[1:-1])


@dataclass(frozen=True)
class Options:
    """What a layout is told beside the set. shard_size: images a file, of layouts in shards."""

    shard_size: int = SHARD_SIZE


@contextlib.contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yield a directory to fill; it takes the free place `target` at the end, or is gone after an error."""
    target = target.absolute()
    if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
        raise ConcordError(f"{target} is there already; give another --out, or remove it")
    with disk_errors(target), atomic.new_directory(target) as part:
        yield part


def write_pictures(root: Path, named: Iterable[tuple[str, int, StoredSample]]) -> None:
    """Copy pictures to ``folder/file`` below the root as they are, and write their manifest with these labels."""
    with (root / MANIFEST).open("wb") as manifest:
        for name, label, picture in named:
            path = root / name
            path.parent.mkdir(exist_ok=True)
            shutil.copyfile(picture.path, path)
            manifest.write(json_line({**public_row(picture), "file_name": name, "label": label}))


def numbered(made: MadeSet, order: Iterable[ClassEntry], pattern: str) -> Iterator[tuple[str, int, StoredSample]]:
    """What `write_pictures` takes for folders 00000, ...; pattern: a name with slots ``{label}`` and ``{index}``."""
    for label, entry in enumerate(order):
        of_class = np.searchsorted(made.pictures.rows.labels, [entry.label, entry.label + 1])
        for index, picture in enumerate(made.pictures.at(range(*of_class))):
            name = pattern.format(label=label, index=index) + picture.path.suffix
            yield f"{label:05d}/{name}", label, picture


def columns(names: Sequence[str], image: str = "image", label: str = "label") -> list[dict[str, Any]]:
    """The columns of an export as front matter spells them to `datasets`, the label a ClassLabel.

    names: of the classes, in label order; unique. Lists are in the older spelling, which every version reads.
    """
    named = {str(number): name for number, name in enumerate(names)}
    return [
        {"name": image, "dtype": "image"},
        {"name": label, "dtype": {"class_label": {"names": named}}},
        *({"name": name, "dtype": "int64"} for name in NUMBERS),
        *({"name": name, "sequence": "string"} for name in LISTS),
        *({"name": name, "dtype": "string"} for name in TEXTS),
    ]


def names_of(order: Iterable[ClassEntry]) -> list[str]:
    """A name a class, in this order: what texts call it, or its folder where two are called alike."""
    entries = list(order)
    names = [entry.class_name for entry in entries]
    return names if len(set(names)) == len(names) else [entry.folder for entry in entries]


def write_classes(root: Path, order: Iterable[ClassEntry]) -> None:
    """Write ``classes.txt``: a line a class with its number, folder in the run and name, between tabs."""
    with (root / "classes.txt").open("wb") as file:
        for label, e in enumerate(order):
            folder, name = ("".join(c if c.isprintable() else " " for c in text) for text in (e.folder, e.class_name))
            file.write(f"{label:05d}\t{folder}\t{name}\n".encode())
