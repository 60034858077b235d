"""Which checkpoint makes which class: `pipeline.checkpoints`, resolved and checked before anything is made."""

import re
from collections.abc import Mapping, Sequence

from concord.data import ClassTable
from concord.data.class_lists import class_lists
from concord.data.classes import on_list
from concord.errors import ConcordError
from concord.text import listed

_RANGE = re.compile(r"(\d+)-(\d+)")


def assign_checkpoints(checkpoints: Mapping[str, str | Sequence[str]], classes: ClassTable) -> list[str]:
    """Return the checkpoint of every class, in label order; each has one, or it is a ConcordError.

    checkpoints: path -> its classes: ``all``, a class list's name, a range of ImageNet class ids such as ``0-19`` (both
    ends count), or any of these and folders, names and WordNet ids in a list. What the data do not have is passed over
    in lists and ranges, but a single class must be there.
    """
    owners: list[list[str]] = [[] for _ in classes]
    for path, words in checkpoints.items():
        labels = {label for word in ([words] if isinstance(words, str) else words) for label in _labels(word, classes)}
        for label in labels:
            owners[label].append(path)
    if without := [entry.key for entry, paths in zip(classes, owners, strict=True) if not paths]:
        raise ConcordError(f"pipeline.checkpoints has no checkpoint for the classes {listed(without)}; add them to one")
    for entry, paths in zip(classes, owners, strict=True):
        if len(paths) > 1:
            raise ConcordError(f'pipeline.checkpoints has two checkpoints for the class "{entry.key}": {paths[:2]}')
    return [paths[0] for paths in owners]


def _labels(word: str, classes: ClassTable) -> list[int]:
    if word == "all":
        return [entry.label for entry in classes]
    if numbers := _RANGE.fullmatch(word):
        first, last = map(int, numbers.groups())
        return [e.label for e in classes if e.model_id is not None and first <= e.model_id <= last]
    if word in class_lists():
        return [entry.label for entry in on_list(word, classes)]
    return [classes.find(word).label]
