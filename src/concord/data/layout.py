"""Where in a folder the classes are: splits, masks beside photographs and copies of a set are told from classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from concord.data.source import Folder, Source, drawn
from concord.data.splits import (
    COMPANIONS,
    HELD_OUT,
    PHOTOGRAPHS,
    SPLITS,
    TRAIN,
    Part,
    plain_word,
    split_word,
    wanted,
)
from concord.errors import ConcordError
from concord.text import counted, listed

_LABELS = (".csv", ".tsv", ".json", ".jsonl", ".xlsx", ".parquet")


@dataclass(frozen=True)
class Layout:
    """at: the folder whose folders are the classes. held_out: splits beside it. notes: what to say of the choice."""

    at: Folder
    held_out: Sequence[Folder]
    notes: Sequence[str]


def layout(source: Source, part: Part) -> Layout:
    """Find the folder whose folders are the classes, in the split that is wanted. What is no class is taken out.

    A ConcordError, where it cannot be told, says what to name, and a note of it shows the tree.
    """
    at, held = source.top, list[Folder]()
    made = at.below.get("images")
    if made is not None and "metadata.jsonl" in made.others and (made.below or not made.images):
        return Layout(made, (), [f"{source.root} was made by concord: its images/ are the data"])
    notes = _drop_masks(source)
    while holders := _holders(at):
        if len(holders) > 1 or holders[0].count < at.count:
            raise _within(source, at, holders)
        chosen, held, note = _choose(source, holders[0], part)
        at, notes = _unwrapped(chosen), [*notes, note]
    if not held:
        at, said = _alone(source, _unwrapped(at), part)
        at, held, copies = _not_in_itself(source, at, part)
        notes += said + copies
    _check_bare(source, at)
    return Layout(at, held, [*notes, *_check_flat(source, at), *_twins(source, at)])


def _drop_masks(source: Source) -> list[str]:
    """Take out what only goes with photographs: ``masks`` beside ``images``, or with the class folders beside it."""
    left: dict[str, list[Folder]] = {}
    for folder in list(source.top.walk()):
        masks = [name for name in folder.filled if plain_word(name) in COMPANIONS]
        others = folder.filled.keys() - masks
        beside_photographs = bool(others) and all(plain_word(name) in PHOTOGRAPHS for name in others)
        for name in masks:
            inner = folder.below[name].filled.keys()
            if beside_photographs or (inner and inner <= others):
                left.setdefault(name, []).append(folder.below.pop(name))
                folder.lost.append(name)
    return [
        f"{of[0].path}/{f' and {len(of) - 1} more' if len(of) > 1 else ''} left out: {name} of photographs, no class"
        for name, of in left.items()
    ]


def _has_classes(folder: Folder) -> bool:
    """Say whether its images lie in folders, but for a few, and not all in one that is called ``images``."""
    alone = next(iter(folder.filled.values())) if len(folder.filled) == 1 else None
    bare = alone is not None and not alone.filled and plain_word(alone.name) in PHOTOGRAPHS
    return folder.count > 2 * len(folder.images) and not bare


def _splits(folder: Folder) -> dict[str, str]:
    """The folders in it that are splits by their names, of which one has class folders: name -> split."""
    splits = {name: word for name in folder.filled if (word := split_word(name))}
    return splits if any(_has_classes(folder.below[name]) for name in splits) else {}


def _holders(folder: Folder) -> list[Folder]:
    """The topmost folders that hold splits: one for training beside one held out, or held-out ones and nothing else."""
    splits = _splits(folder)
    held = [word for word in splits.values() if word not in TRAIN]
    if held and (len(held) < len(splits) or 1 < len(held) == len(folder.filled)):
        return [folder]
    return [holder for child in folder.filled.values() for holder in _holders(child)]


def _within(source: Source, at: Folder, holders: Sequence[Folder]) -> ConcordError:
    """Splits lie in several folders, or beside images that are of none."""
    where = listed((f"{at.relative(holder)}/" for holder in holders), 3)
    return _refusal(source, f"has splits within {where}", holders)


def _choose(source: Source, holder: Folder, part: Part) -> tuple[Folder, list[Folder], str]:
    """Choose among splits; return the chosen one, those held out, and what to say."""
    splits, words = _splits(holder), wanted(part)
    where, shown = source.root / holder.path, ", ".join(sorted(splits))
    found = sorted(
        (name.lower() != word, words.index(word), name)
        for name, word in splits.items()
        if word in words and _has_classes(holder.below[name])
    )
    if not found and part == "test":
        raise ConcordError(f"{where} has no held-out split with class folders, only {shown}; name another test set")
    if not found and any(word in TRAIN for word in splits.values()):
        raise _refusal(source, f"has splits ({shown}) without class folders{_labels_in(holder)}", [])
    if not found:
        raise _refusal(source, f"has no training split, only {shown}", [holder.below[name] for name in splits])
    if len(found) > 1 and found[0][:2] == found[1][:2]:
        raise _refusal(source, f"has several such splits ({shown})", [holder.below[name] for *_, name in found])
    chosen = holder.below[found[0][-1]]
    rest = [f"{name}/" for name in holder.filled if name not in splits]
    rest += [counted(len(holder.images), "image")] if holder.images else []
    beside = f"; left out beside it: {listed(rest)}" if rest else ""
    held = [
        _unwrapped(holder.below[name]) for name, word in splits.items() if word not in TRAIN and name != chosen.name
    ]
    return chosen, held, f"{where} has splits ({shown}): {chosen.name}/ is the data{beside}"


def _unwrapped(folder: Folder) -> Folder:
    """The folder, or the one in it that holds all: ``seg_train/seg_train``, ``images`` whose masks were taken out."""
    inner = next(iter(folder.filled.values()), folder)
    doubled = plain_word(inner.name) == plain_word(folder.name) and split_word(folder.name) != folder.name.lower()
    bare = bool(folder.lost) and plain_word(inner.name) in PHOTOGRAPHS
    fits = inner is not folder and inner.count == folder.count and _has_classes(inner)
    return inner if fits and (doubled or bare) else folder


def _alone(source: Source, at: Folder, part: Part) -> tuple[Folder, list[str]]:
    """A split without another beside it: tested on only where it is held out, and trained on under the name it has."""
    name = next(iter(at.filled)) if len(at.filled) == 1 else ""
    where, of_training = source.root / at.path, name.lower() in TRAIN
    if name.lower() not in SPLITS or not _has_classes(at.below[name]) or (of_training and part == "train"):
        return at, []
    if of_training:
        raise ConcordError(f"{where} has no held-out split with class folders, only {name}; name another test set")
    return (at.below[name], []) if part == "test" else (at, [f"{where} has the split {name} alone"])


def _not_in_itself(source: Source, at: Folder, part: Part) -> tuple[Folder, list[Folder], list[str]]:
    """Tell a set that lies among its own class folders: held out (``val/`` beside the classes), or a copy of it."""
    filled = at.filled
    for name, child in filled.items():
        inner = child
        while len(inner.filled) == 1 and not inner.images:
            inner = next(iter(inner.filled.values()))
        if not (again := inner.filled.keys()):
            continue
        classes = filled.keys() - {name}
        if not again <= classes or 2 * len(again) < max(4, len(classes)):
            continue
        if split_word(name) in HELD_OUT and part == "test":
            return child, [], [f"{source.root / at.path} has {name}/ beside its class folders: it is the data"]
        if split_word(name) in HELD_OUT:
            del at.below[name]
            return at, [child], [f"{name}/ has the same class folders and is left out as held out"]
        what = f"holds its class folders ({listed(sorted(again), 3)}) again in {at.relative(inner)}/"
        raise _refusal(source, what, [], f"take one of the two away, or name {source.root / child.path}")
    return at, [], []


def _check_flat(source: Source, at: Folder) -> list[str]:
    """Refuse splits without class folders; say where two classes may really be called train and test."""
    for folder in at.walk():
        flat = [name for name, child in folder.filled.items() if split_word(name) and not _has_classes(child)]
        exact = {name.lower() in TRAIN for name in flat if name.lower() in SPLITS}
        if {split_word(name) in TRAIN for name in flat} != {True, False}:
            continue
        alone, labels = len(flat) == len(folder.filled), _labels_in(folder)
        bare = any(folder.below[name].filled for name in flat)
        if (len(exact) == 2 and not (alone and folder is at)) or (alone and (labels or bare)):
            what = f"has splits ({', '.join(flat)}) without class folders"
            if folder is at:
                raise _refusal(source, f"{what}{labels}", [])
            where = f"{what} within {at.relative(folder)}/{labels}"
            raise _refusal(source, where, [], "put splits above classes, as in train/CLASS")
        names = listed(f"{name}/" for name in flat)
        return [f"{names} hold images and no class folders: they are taken for classes, though they look like splits"]
    return []


def _check_bare(source: Source, at: Folder) -> None:
    """Refuse images in a folder that names no class, where a file or masks beside them say what they show."""
    for name, folder in at.filled.items():
        if folder.filled or not (name.lower() in SPLITS or plain_word(name) in PHOTOGRAPHS):
            return
    beside = sorted({*at.lost, *(name for name in at.below if plain_word(name) in COMPANIONS)})
    tables = _labels_in(at)
    if beside or (tables and len(at.filled) == 1):
        alone = listed(f"{name}/" for name in at.filled) + (f" (beside {listed(beside)}/)" if beside else "")
        raise _refusal(source, f"has its images in {alone} and no class folders{tables}", [])


def _labels_in(folder: Folder) -> str:
    """Say which files may hold the labels of images that lie in a folder, or in one of it, without class folders."""
    files = [*folder.others, *(f"{name}/{file}" for name, child in folder.filled.items() for file in child.others)]
    tables = [file for file in files if file.lower().endswith(_LABELS)]
    return f" (labels are read from folders alone, not from {listed(tables, 2)})" if tables else ""


def _twins(source: Source, at: Folder) -> list[str]:
    """Say that all folders hold folders of the same names: domains of classes, or parts of one set."""
    inner = [frozenset(child.filled) for child in at.filled.values()]
    if len(inner) < 2 or len(set(inner)) > 1 or len(inner[0]) < 2:
        return []
    names, first = listed((f"{name}/" for name in at.filled), 3), next(iter(at.filled.values()))
    return [
        f"{names} hold folders of the same names ({listed(sorted(inner[0]), 3)}): each is a class of its own; if they"
        f" are splits or masks of one set, name one, as in {source.root / first.path}"
    ]


def _refusal(
    source: Source, what: str, ways: Sequence[Folder], otherwise: str = "expected is a folder of images for each class"
) -> ConcordError:
    """The error for a set of which it cannot be told what the classes are, with its tree; `ways`: what may be named."""
    advice = f"name {'one of them, as in ' * (len(ways) > 1)}{source.root / ways[0].path}" if ways else otherwise
    error = ConcordError(f"data: {source.root} {what}; {advice}")
    error.add_note(drawn(source.root, source.top))
    return error
