"""Classes that others name by their order alone: RDED's folders 00000, SRe2L's new000, the labels of a tensor file."""

import re
from collections.abc import Sequence
from pathlib import Path

from concord.data import ClassSpec, ClassTable, ImageSet, Relabelled, class_table
from concord.data.class_lists import class_list, class_lists
from concord.errors import ConcordError
from concord.text import listed, meant

FILE = "classes.txt"
"""A line a class, in the order of labels."""
KNOWN = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "mnist": tuple(map(str, range(10))),
    "svhn": tuple(map(str, range(10))),
}
"""Classes of small data sets in torchvision's order, beside the class lists."""
_NUMBER = re.compile(r"(?:new)?(\d+)")
_WNID = re.compile(r"(n\d{8})\b[\s:,]*(.*)")


def names_in_order(words: Sequence[str] | None, folder: Path) -> list[ClassSpec] | None:
    """The classes in the order of labels: `words` (names, a class list or one of `KNOWN`), or classes.txt in `folder`.

    A line of the file is a name, a WordNet id (with a name behind it), or what `concord export` writes: number, folder
    and name between tabs. None where there is neither.
    """
    if words is not None:
        words = KNOWN.get(words[0], words) if len(words) == 1 else words
        if len(words) == 1 and (known := meant(words[0], class_lists())):
            return [ClassSpec(c.wnid or c.name, c.name, c.wnid) for c in class_list(known[0])]
        return [_spec(word) for word in words]
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        raise ConcordError(f"{path} is not UTF-8; expected a line a class, in the order of labels") from None
    return [_spec(line) for line in lines if line]


def _spec(line: str) -> ClassSpec:
    if len(parts := line.split("\t")) == 3:
        return ClassSpec(parts[1], parts[2])
    if found := _WNID.fullmatch(line):
        return ClassSpec(found[1], "", found[1])
    return ClassSpec(line)


def relabelled(names: Sequence[ClassSpec], count: int, of: str) -> tuple[ClassTable, list[int]]:
    """The table of the first `count` named classes, and which place of it each label has. of: what the error names.

    Raises:
        ConcordError: there are other than `count` names, or one twice.
    """
    if len(names) != count:
        raise ConcordError(f"{of} has {count} classes, and {len(names)} names are given; give one a class, in order")
    if twice := [spec.key for spec in names if sum(other.key == spec.key for other in names) > 1]:
        raise ConcordError(f'{of}: the class "{twice[0]}" is named twice')
    table = class_table(names)
    places = {entry.key: entry.label for entry in table}
    return table, [places[spec.key] for spec in names]


def named_by_order(data: ImageSet, words: Sequence[str] | None, folder: Path) -> ImageSet | None:
    """A set whose folders are mere numbers, by the names that belong to them; None where it is none, or has no names.

    Words that are folders of the set choose among them, and name nothing. The number in a folder is its label.
    Raises ConcordError: there are fewer names than that, or one twice.
    """
    numbers = [_NUMBER.fullmatch(entry.folder) for entry in data.classes]
    if not all(numbers) or any(entry.class_name != entry.folder for entry in data.classes):
        return None
    if words is not None and {*words} & {entry.folder for entry in data.classes}:
        return None
    if (names := names_in_order(words, folder)) is None:
        return None
    labels = [int(found[1]) for found in numbers if found]
    if beyond := [entry.folder for entry, label in zip(data.classes, labels, strict=True) if label >= len(names)]:
        raise ConcordError(
            f"{folder} has {listed(beyond)}, and only {len(names)} classes are named (0 to {len(names) - 1});"
            f" name all in order, by classes= or a line each in {folder / FILE}"
        )
    given = [names[label] for label in labels]
    table, places = relabelled(given, len(given), str(folder))
    back = {place: label for label, place in enumerate(places)}
    return Relabelled(data, table, [back[entry.label] for entry in table])
