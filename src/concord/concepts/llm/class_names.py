"""Where class names come from: a list, a folder of images, WordNet ids, a table, the labels of a Parquet file."""

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from concord.data import open_data
from concord.data.class_lists import by_synset, by_wnid, class_list, class_lists
from concord.data.parquet_columns import class_labels, hub_metadata, schema_of
from concord.data.source import look, parquet_files
from concord.errors import ConcordError
from concord.storage.atomic import read_json
from concord.text import nearest

_WNID = re.compile(r"n\d{8}")


def class_names(source: str, note: Callable[[str], None] = lambda text: None) -> list[str]:
    """Return the class names of a source, in its order, each once.

    source: a text file (a name or WordNet id a line; empty lines and those after ``#`` are left out), a CSV file with a
    column ``class_name``, ``synset`` or ``names``, a Parquet file or a folder of them whose metadata names its labels,
    a data set that `datasets` saved to a folder, a folder of images, a folder of WordNet ids, a bundled list
    (``imagenet-100``, ...), or a data set's id on the hub (``owner/name``). note: hears how a folder was read.

    One that is not there, or names no classes, is a ConcordError.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        names = _of_folder(path, note)
    elif path.is_file():
        names = {".csv": _of_csv, ".parquet": _of_parquet}.get(path.suffix.lower(), _of_text)(path)
    elif source in class_lists():
        names = [listed.name for listed in class_list(source)]
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        names = _of_hub(source)
    else:
        raise ConcordError(
            f'no class names at "{source}"{nearest(source, class_lists())}: expected a text, CSV or Parquet file, a'
            f" folder of images, or one of the bundled lists {', '.join(class_lists())}"
        )
    found = list(dict.fromkeys(name for name in (" ".join(name.split()) for name in names) if name))
    if not found:
        raise ConcordError(f"{source} names no classes")
    return found


def _of_folder(folder: Path, note: Callable[[str], None]) -> list[str]:
    source = look(folder)
    if source.top.below and all(map(_WNID.fullmatch, source.top.below)):
        return [_translated(name, folder) for name in source.top.below]
    if tables := parquet_files(source):
        return _of_parquet(folder / tables[0])
    info = sorted(inside.path for inside in source.top.walk() if "dataset_info.json" in inside.others)
    if info:
        return _of_dataset_info(folder / info[0] / "dataset_info.json")
    data = open_data(str(folder))
    for line in data.notes:
        note(line)
    return [entry.class_name for entry in data.classes]


def _of_text(path: Path) -> list[str]:
    return [_translated(line, path) for line in _lines(path) if line and not line.startswith("#")]


def _of_csv(path: Path) -> list[str]:
    table = csv.DictReader(_lines(path), skipinitialspace=True)
    columns = {(name or "").strip().casefold(): name for name in table.fieldnames or ()}
    for wanted in ("class_name", "synset", "wnid", "names", "name"):
        if wanted in columns:
            cells = [str(row.get(columns[wanted]) or "") for row in table]
            # ImageNet's lists give all the names of a class in one cell; the first is the common one.
            return [_translated(c.partition(",")[0] if wanted == "names" else c, path) for c in cells if c.strip()]
    raise ConcordError(
        f"{path} has no column class_name, synset or names; its columns are {', '.join(map(str, columns)) or 'none'}"
    )


def _of_parquet(path: Path) -> list[str]:
    return _the_labels(str(path), hub_metadata(schema_of(path)))


def _of_dataset_info(path: Path) -> list[str]:
    """The labels of a data set that the `datasets` library saved to a folder."""
    info = read_json(path, lambda reason: f"cannot read {path}: {reason}")
    return _the_labels(str(path.parent), {"info": info})


def _of_hub(name: str) -> list[str]:
    """The labels of a data set on the hub, from its description alone; no images are fetched."""
    try:
        from datasets import load_dataset_builder
    except ImportError:
        needs = f"the labels of {name} need the datasets library: pip install 'concord-distill[hub]'"
        raise ConcordError(needs) from None
    from huggingface_hub import HfApi

    try:
        HfApi().dataset_info(name, timeout=10)  # answers at once where `datasets` would try for half a minute
        features = load_dataset_builder(name).info.features
    except Exception as error:  # a missing set, a closed network, a script that is refused: one meaning for the user
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConcordError(f'no folder "{name}" here, and no data set of that id to be had: {reason[:200]}') from None
    return _the_labels(name, {"info": {"features": features.to_dict() if features is not None else {}}})


def _the_labels(where: str, metadata: Any) -> list[str]:
    labels = class_labels(metadata)
    if not labels:
        raise ConcordError(
            f"{where} does not name its labels (no ClassLabel in its huggingface metadata);"
            " give the class names as a text file, one a line"
        )
    if len(labels) > 1:
        several = ", ".join(labels)
        raise ConcordError(f"{where} has more than one label column ({several}); give the names as a text file")
    return [_translated(name.replace("_", " "), Path(where)) for names in labels.values() for name in names]


def _translated(name: str, where: Path) -> str:
    """The class of a WordNet id, with names behind it or not, or of all an ImageNet class's names; else the name."""
    if "," in name and (listed := by_synset().get(name)):
        return listed.name
    first, _, rest = name.strip().partition(" ")
    if not _WNID.fullmatch(first):
        return name
    if known := by_wnid().get(first):
        return known.name
    if rest.strip():
        return rest.partition(",")[0]
    raise ConcordError(f"{where}: {first} is no class of ImageNet-1K; give its name instead")


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ConcordError(f"{path} is not UTF-8 text") from None
