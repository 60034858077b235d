"""The class lists of the paper's data sets, as package data: ImageNet-1K and its subsets, ImageNette, Food-101.

An ImageNet class is known by its WordNet id; its place in ImageNet-1K (0 to 999) is the class id that DiT, Minimax and
the field's classifiers use. A list's own order is kept, but it is never a label: labels follow sorted folders.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

from concord.errors import ConcordError
from concord.text import nearest

# Two pairs of ImageNet's classes have the same first name, and a third differs by a capital letter alone.
_NAMES = {
    "n02012849": "crane bird",
    "n03126707": "construction crane",
    "n02113186": "Cardigan Welsh corgi",
    "n03710721": "maillot tank suit",
}


@dataclass(frozen=True)
class ListedClass:
    """A class of a list.

    name: what texts and concept banks call it, unique in its list. wnid: WordNet id, and index: place in ImageNet-1K,
    both None outside ImageNet. names: all its names, as ImageNet has them.
    """

    name: str
    wnid: str | None
    index: int | None
    names: tuple[str, ...]


def class_lists() -> list[str]:
    """Return the names of the lists: ``food-101``, ``imagenet-100``, ``imagenet-1k``, ``imagenette``, ``imagewoof``."""
    return sorted(p.name.rpartition(".")[0] for p in _folder().iterdir() if p.name.endswith((".csv", ".txt")))


@cache
def class_list(name: str) -> tuple[ListedClass, ...]:
    """Return the classes of a list, in its own order; a ConcordError names the nearest list."""
    if name not in (known := class_lists()):
        raise ConcordError(f'unknown class list "{name}"{nearest(name, known)}; there are {", ".join(known)}')
    table = _folder() / f"{name}.csv"
    if not table.is_file():
        lines = (_folder() / f"{name}.txt").read_text(encoding="utf-8").splitlines()
        return tuple(ListedClass(line.strip(), None, None, (line.strip(),)) for line in lines if line.strip())
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return tuple(_imagenet_class(row) for row in rows)


@cache
def by_wnid() -> dict[str, ListedClass]:
    """Return every ImageNet-1K class by its WordNet id."""
    return {listed.wnid: listed for listed in class_list("imagenet-1k") if listed.wnid}


@cache
def by_synset() -> dict[str, ListedClass]:
    """Return ImageNet-1K classes by all their names in a row, ``tench, Tinca tinca``; not those that share them."""
    texts = [", ".join(listed.names) for listed in class_list("imagenet-1k")]
    return {t: c for t, c in zip(texts, class_list("imagenet-1k"), strict=True) if texts.count(t) == 1}


def _imagenet_class(row: dict[str, str]) -> ListedClass:
    names = tuple(part.strip() for part in row["names"].split(","))
    return ListedClass(_NAMES.get(row["synset"], names[0]), row["synset"], int(row["index"]), names)


def _folder() -> Traversable:
    return resources.files("concord.data") / "lists"
