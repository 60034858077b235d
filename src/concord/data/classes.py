"""The class table: the one translator between all the names that a class goes by."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from concord.data.class_lists import by_wnid, class_list
from concord.errors import ConcordError
from concord.text import nearest

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

    def find(self, word: str) -> ClassEntry:
        """Return the class that goes by `word`: its key, folder, class name or WordNet id, in this order.

        Raises:
            ConcordError: no class does (the nearest is named), or more than one.
        """
        for name in ("key", "folder", "class_name", "wnid"):
            found = [entry for entry in self.entries if getattr(entry, name) == word]
            if len(found) == 1:
                return found[0]
            if found:
                folders = ", ".join(entry.key for entry in found[:5])
                raise ConcordError(f'the class name "{word}" is ambiguous; name one of the folders: {folders}')
        known = [name for e in self.entries for name in (e.key, e.folder, e.class_name, e.wnid) if name]
        some = ", ".join(entry.key for entry in self.entries[:10]) + (" ..." if len(self) > 10 else "")
        raise ConcordError(f'unknown class "{word}"{nearest(word, known)}; the {len(self)} classes are {some}')


def on_list(name: str, classes: Iterable[ClassEntry]) -> list[ClassEntry]:
    """Return the classes that are on a class list of `concord.data.class_lists`: by WordNet id, else by name."""
    listed = class_list(name)
    wnids = {c.wnid for c in listed if c.wnid}
    names = {c.name.casefold() for c in listed}
    return [e for e in classes if (e.wnid in wnids if e.wnid else e.class_name.casefold() in names)]


def class_table(classes: Iterable[ClassSpec]) -> ClassTable:
    """Give every class its folder, name and label.

    A folder is the key with ``/`` written as `` - ``. A class name that is not given is the last part of the key with
    underscores as spaces, or the whole key where two classes end alike. A key that ends in the WordNet id of an
    ImageNet-1K class has that class's name, and its place there as `model_id`.

    Raises:
        ConcordError: two classes would share a folder.
    """
    named = list(classes)
    last = [_words(n.key.rpartition("/")[2]) for n in named]
    by_folder: dict[str, ClassEntry] = {}
    for n, short in zip(named, last, strict=True):
        folder = n.key.replace("/", " - ")
        if folder in by_folder:
            other = by_folder[folder].key
            raise ConcordError(f'the classes "{other}" and "{n.key}" would share the folder "{folder}"; rename one')
        wnid = n.wnid or (short if _WNID.fullmatch(short) else None)
        known = by_wnid().get(wnid) if wnid and last.count(short) == 1 else None
        plain = known.name if known else short if last.count(short) == 1 else _words(n.key.replace("/", " "))
        model_id = n.model_id if n.model_id is not None or known is None else known.index
        by_folder[folder] = ClassEntry(0, n.key, folder, n.class_name or plain, wnid, model_id, n.bank_key)
    return ClassTable(tuple(replace(by_folder[f], label=label) for label, f in enumerate(sorted(by_folder))))


def _words(folder: str) -> str:
    return " ".join(folder.replace("_", " ").split()) or folder
