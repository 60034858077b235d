"""The test set in the training set's label order: labels that mean another class in each would be scored at chance."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from concord.data import ClassEntry, ImageSet, Relabelled
from concord.data.folder import FolderSet
from concord.errors import ConcordError
from concord.text import folded, listed


def align_classes(test: ImageSet, train: ImageSet) -> ImageSet:
    """Return the test set with the training set's classes, in its label order.

    A class is known by its WordNet id, its folder or its name; a folder that is a number (RDED's 00000, 00001, ...) by
    its class name first, where a manifest gives one. Classes of the test set that the training set lacks are left out,
    which is noted: so a set of ImageWoof is tested on ImageNet's validation images.
    Raises ConcordError: the test set lacks a class, a class has no images, or which class is which would be a guess.
    """
    _none_empty(train)
    known: defaultdict[tuple[str, str], list[ClassEntry]] = defaultdict(list)
    for entry in test.classes:
        for name in _names(entry):
            known[name].append(entry)
    there = {entry.key: _find(entry, known) for entry in train.classes}
    if lacking := [entry for entry in train.classes if there[entry.key] is None]:
        raise ConcordError(_what_is_lacking(lacking, train, test))
    theirs = [entry for entry in there.values() if entry is not None]
    taken: dict[str, str] = {}
    for mine, other in zip(train.classes, theirs, strict=True):
        if other.key in taken:
            raise ConcordError(
                f'the classes "{taken[other.key]}" and "{mine.key}" of the training set are both "{other.key}" of the'
                " test set; rename one"
            )
        taken[other.key] = mine.key
        if not test.items(other.label):
            raise ConcordError(f'the test set has no images of the class "{other.key}"')
    found = Relabelled(test, train.classes, [entry.label for entry in theirs])
    if details := test.known_details:
        found.known_details = {m.folder: details[t.folder] for m, t in zip(train.classes, theirs, strict=True)}
    keys = "\0".join([test.fingerprint, *(entry.key for entry in theirs)])
    found.fingerprint = hashlib.sha256(keys.encode()).hexdigest()[:16]
    if len(test.classes) > len(theirs):
        note = f"of the {len(test.classes)} classes of the test set, the {len(theirs)} of the training set are tested"
        found.notes = [*found.notes, note]
    return found


def _names(entry: ClassEntry) -> Iterator[tuple[str, str]]:
    """The names by which a class may be known in another set, the surest first."""
    number = _is_number(entry.folder)
    if entry.wnid:
        yield "wnid", entry.wnid
    if not number:
        yield "folder", entry.folder
        yield "folded", folded(entry.folder)
    if not _is_number(entry.class_name):
        yield "name", " ".join(folded(entry.class_name.replace("_", " ")).split())
    if number:
        yield "folder", entry.folder
        yield "number", str(int(entry.folder))


def _find(entry: ClassEntry, known: Mapping[tuple[str, str], Sequence[ClassEntry]]) -> ClassEntry | None:
    several: Sequence[ClassEntry] = ()
    for name in _names(entry):
        found = known.get(name, ())
        if len(found) == 1:
            return found[0]
        several = several or found
    if several:
        keys = ", ".join(f'"{other.key}"' for other in several[:5])
        raise ConcordError(f'the class "{entry.key}" of the training set may be any of {keys} of the test set')
    return None


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _none_empty(train: ImageSet) -> None:
    """Refuse a training set of which a class lost its images: it would be scored on fewer classes than it has."""
    empty = [entry.key for entry in train.classes if not train.items(entry.label)]
    if isinstance(train, FolderSet):
        empty += train.empty
    if empty:
        raise ConcordError(
            f"the training set has no images in {listed(empty)}: put the images of that class there, or take the"
            " folder away"
        )


def _what_is_lacking(lacking: Sequence[ClassEntry], train: ImageSet, test: ImageSet) -> str:
    numbered, other = (all(_is_number(e.class_name) for e in data.classes) for data in (train, test))
    if numbered != other:
        first, second = ("training", "test") if numbered else ("test", "training")
        some = listed((entry.key for entry in (train if numbered else test).classes), 2)
        return (
            f"the {first} set's classes are mere numbers ({some}) and the {second} set's are names: which is which"
            " would be a guess by their order; give each folder its name, or a metadata.jsonl beside the folders with"
            " file_name and class_name of each image"
        )
    names = listed(f'"{e.class_name if _is_number(e.folder) else e.key}"' for e in lacking)
    empty = set(test.empty) & {e.key for e in lacking} if isinstance(test, FolderSet) else set()
    because = f" (no images in its {listed(sorted(empty))})" if empty else ""
    return (
        f"the test set lacks {len(lacking)} of the {len(train.classes)} classes of the training set: {names}{because};"
        f" it has {listed(entry.key for entry in test.classes)}"
    )
