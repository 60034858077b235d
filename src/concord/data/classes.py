"""The class table: the one translator between all the names that a class goes by."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from concord.data.class_lists import by_wnid, class_list
from concord.data.splits import PHOTOGRAPHS, plain_word
from concord.errors import ConcordError
from concord.text import composed, folded, listed, nearest

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ClassSpec:
    """A class before it has a label: its key (path in the data set) and the names that differ from the defaults."""

    key: str
    class_name: str = ""
    wnid: str | None = None
    model_id: int | None = None
    bank_key: str = ""


@dataclass(frozen=True)
class ClassEntry:
    """A class under each of its names.

    `label` is its position in sorted folder order, as every image-folder reader counts; `key` its path in the data
    set; `folder` its one-level directory in what is made; `class_name` what texts call it; `wnid` its WordNet id;
    `model_id` a generative model's class id where the data set knows it; `bank_key` its name in a concept bank,
    empty for the class name.
    """

    label: int
    key: str
    folder: str
    class_name: str
    wnid: str | None = None
    model_id: int | None = None
    bank_key: str = ""


@dataclass(frozen=True)
class ClassTable:
    """The classes of a data set in label order; built by `class_table`."""

    entries: tuple[ClassEntry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ClassEntry]:
        return iter(self.entries)

    def __getitem__(self, label: int) -> ClassEntry:
        return self.entries[label]

    @cached_property
    def _by_name(self) -> dict[tuple[str, Callable[[str], str], str], list[ClassEntry]]:
        """(kind of name, form of it, name in that form) -> classes."""
        found = defaultdict(list)
        for entry in self.entries:
            for kind in _KINDS:
                if name := getattr(entry, kind):
                    for form in _FORMS:
                        found[kind, form, form(name)].append(entry)
        return dict(found)

    def find(self, word: str, exactly: bool = False) -> ClassEntry:
        """Return the class that goes by `word`: its key, folder, class name or WordNet id, in this order.

        Where none is called so to the letter, names count that differ in Unicode form, then in case.
        Raises ConcordError: no class does (the nearest is named), or more than one.
        """
        for form, kind in product(_FORMS[:1] if exactly else _FORMS, _KINDS):
            found = self._by_name.get((kind, form, form(word)), [])
            if len(found) == 1:
                return found[0]
            if found:
                folders = ", ".join(entry.key for entry in found[:5])
                raise ConcordError(f'the class name "{word}" is ambiguous; name one of the folders: {folders}')
        known = [name for e in self.entries for name in (e.key, e.folder, e.class_name, e.wnid) if name]
        some = ", ".join(entry.key for entry in self.entries[:10]) + (" ..." if len(self) > 10 else "")
        raise ConcordError(f'unknown class "{word}"{nearest(word, known)}; the {len(self)} classes are {some}')


_KINDS = ("key", "folder", "class_name", "wnid")
_FORMS: tuple[Callable[[str], str], ...] = (str, composed, folded)


def singles(counts: Sequence[int]) -> list[str]:
    """Say that every class has one image: then they may be names of images. Small sets are not suspected."""
    if len(counts) < 10 or set(counts) != {1}:
        return []
    return [f"each of the {len(counts)} classes has a single image: are they classes, or names of images?"]


def spellings(classes: ClassTable) -> list[str]:
    """Say which classes have one name in two spellings, a line each."""
    found = defaultdict(list)
    for entry in classes:
        found[folded(_words(entry.class_name))].append(entry.key)
    lines = []
    for keys in (keys for keys in found.values() if len(keys) > 1):
        alike = " (letters and marks in one character, and in two)" if len(set(map(composed, keys))) < len(keys) else ""
        names = listed(f'"{key}"' for key in keys)
        lines.append(f"{names} are {len(keys)} spellings of one name{alike}: they are taken for {len(keys)} classes")
    return lines


def on_list(name: str, classes: Iterable[ClassEntry]) -> list[ClassEntry]:
    """Return the classes that are on a class list of `concord.data.class_lists`: by WordNet id, else by name."""
    listed = class_list(name)
    wnids = {c.wnid for c in listed if c.wnid}
    names = {folded(c.name) for c in listed}
    return [e for e in classes if (e.wnid in wnids if e.wnid else folded(e.class_name) in names)]


def class_table(classes: Iterable[ClassSpec]) -> ClassTable:
    """Give every class its folder, name and label.

    A folder is the key with ``/`` written as `` - ``. A class name that is not given is the last part of the key with
    underscores as spaces, or the whole key where two classes end alike. Where all keys end in ``images``, or another
    word that says nothing, the part before it counts as the last. A key that ends in the WordNet id of an ImageNet-1K
    class has that class's name, and its place there as `model_id`.
    Raises ConcordError: two classes would share a folder.
    """
    named = list(classes)
    ends = {n.key.rpartition("/")[2] for n in named}
    bare = len(named) > 1 and len(ends) == 1 and plain_word(next(iter(ends))) in PHOTOGRAPHS
    telling = [n.key.rpartition("/")[0] if bare else n.key for n in named]
    last = [_words(key.rpartition("/")[2]) for key in telling]
    by_folder: dict[str, ClassEntry] = {}
    for n, key, short in zip(named, telling, last, strict=True):
        folder = n.key.replace("/", " - ")
        if folder in by_folder:
            other = by_folder[folder].key
            raise ConcordError(f'the classes "{other}" and "{n.key}" would share the folder "{folder}"; rename one')
        wnid = n.wnid or (short if _WNID.fullmatch(short) else None)
        known = by_wnid().get(wnid) if wnid and last.count(short) == 1 else None
        plain = known.name if known else short if last.count(short) == 1 else _words(key.replace("/", " "))
        model_id = n.model_id if n.model_id is not None or known is None else known.index
        by_folder[folder] = ClassEntry(0, n.key, folder, n.class_name or plain, wnid, model_id, n.bank_key)
    return ClassTable(tuple(replace(by_folder[f], label=label) for label, f in enumerate(sorted(by_folder))))


def _words(folder: str) -> str:
    return " ".join(folder.replace("_", " ").split()) or folder
