"""Labelled images: what a data set is, whatever it lies in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image

from concord.choices import Unreadable
from concord.data.class_lists import class_list, class_lists
from concord.data.classes import ClassEntry, ClassSpec, ClassTable, class_table, on_list
from concord.data.source import look, parquet_files
from concord.data.splits import Part
from concord.errors import ConcordError
from concord.registry import DATASETS
from concord.storage.images import ReadOptions
from concord.text import folded, listed, meant

__all__ = ["ClassEntry", "ClassSpec", "ClassTable", "ImageSet", "class_table", "open_data", "open_test", "restrict"]


class ImageSet(Protocol):
    """A labelled image set. `class_index` is always the label, the position in `classes`."""

    @property
    def classes(self) -> ClassTable:
        """The classes, in label order."""

    @property
    def known_details(self) -> Mapping[str, Sequence[str]] | None:
        """The details that define each class, by class folder, where the world is known; None for photographs."""

    @property
    def fingerprint(self) -> str:
        """A text that changes when the set of images does; a run grown on another set is refused by it."""

    @property
    def notes(self) -> Sequence[str]:
        """What the user should know about how the set was read, one line each."""

    def items(self, class_index: int) -> Sequence[str]:
        """Return references to the images of a class, sorted."""

    def read(self, item: str) -> Image.Image:
        """Return one image, RGB and upright. Raises ConcordError: it cannot be read; the message names it."""

    def size(self, item: str) -> tuple[int, int]:
        """(width, height) of what `read` gives, without decoding its pixels where the format allows that."""


def open_data(
    data: str,
    unreadable: Unreadable = "error",
    skipping: str = "unreadable=skip",
    *,
    grey_range: tuple[int, int] | None = None,
    max_pixels: int | None = None,
) -> ImageSet:
    """Open a data set: a registered name (``reef``), a folder of class folders, a Parquet file or a folder of such.

    Of splits beside each other, the training split is the data. With `unreadable` ``skip``, methods on real images
    leave out the files that cannot be read, and report them; the error on reading one only then stops suggesting so, by
    the setting that `skipping` names. grey_range, max_pixels: as in a recipe. Raises ConcordError: there is no such
    folder or file, or it holds no labelled images, or most of them cannot be read.
    """
    return _open(data, "train", read_options(unreadable, skipping, grey_range, max_pixels))


def read_options(
    unreadable: Unreadable, skipping: str, grey_range: tuple[int, int] | None, max_pixels: int | None
) -> ReadOptions:
    """How `open_data` has image files read."""
    return ReadOptions("" if unreadable == "skip" else f"; {skipping} leaves it out", grey_range, max_pixels)


def open_test(data: str, *, grey_range: tuple[int, int] | None = None, max_pixels: int | None = None) -> ImageSet:
    """Open a data set to test on: as `open_data`, but of splits beside each other a held-out one, never the training
    split: the test split where its images are labelled, else the validation split."""
    return _open(data, "test", ReadOptions("", grey_range, max_pixels))


def _open(data: str, part: Part, options: ReadOptions) -> ImageSet:
    if data in DATASETS:
        if options.grey_range:
            raise ConcordError(f"grey_range: it is of 16-bit files, and {data} has none; leave it out")
        return DATASETS.build(data, DATASETS.get(data).open)(part)
    from concord.data.folder import open_folder
    from concord.data.parquet import open_parquet

    path = Path(data).expanduser()
    source = look(path) if path.is_dir() else None
    single = path.is_file() and path.suffix.lower() == ".parquet"
    parquet = [path.name] if single else parquet_files(source) if source else []
    opened = open_parquet(path, parquet, options, part) if parquet else open_folder(path, options, part, source)
    opened.look()
    return opened


def restrict(data: ImageSet, classes: Sequence[str] | None, class_names: Mapping[str, str]) -> ImageSet:
    """Return the data set with only some classes, renamed where asked for; labels are counted anew.

    classes: folders, class names, WordNet ids or class lists (``imagewoof``) to keep; None keeps all. class_names:
    class folder -> name that texts use. Raises ConcordError: a class is not in the data set; the nearest is named.
    """
    if classes is not None and not classes:
        raise ConcordError("classes is empty: name at least one, or leave it out to take all")
    if classes is None and not class_names:
        return data
    renamed = {data.classes.find(word).key: name for word, name in class_names.items()}
    words = None if classes is None else dict.fromkeys(classes)
    kept = [*data.classes] if words is None else dict.fromkeys(entry for word in words for entry in _find(data, word))
    table = class_table(
        ClassSpec(e.key, renamed.get(e.key, e.class_name), e.wnid, e.model_id, "" if e.key in renamed else e.bank_key)
        for e in kept
    )
    labels = {entry.key: entry.label for entry in kept}
    return Relabelled(data, table, [labels[entry.key] for entry in table])


def _find(data: ImageSet, word: str) -> list[ClassEntry]:
    """The class that goes by a word, or all those of a class list; a class of the same name goes first."""
    listing = meant(word, class_lists())
    if not listing or any(word in (e.key, e.folder, e.class_name) for e in data.classes):
        return [data.classes.find(word)]
    whole, found = class_list(listing[0]), on_list(listing[0], data.classes)
    if len(found) < len(whole):
        there = {name for entry in found for name in (entry.wnid, folded(entry.class_name))}
        lacking = [c.wnid or c.name for c in whole if not {c.wnid or "", folded(c.name)} & there]
        raise ConcordError(
            f"the data have {len(found)} of the {len(whole)} classes of {word}: there is no folder for"
            f" {listed(lacking, 3)}; name another data set with data=, or the classes with classes="
        )
    return found


class Relabelled:
    """Images of another data set under classes of its own; `labels` are those that these have in the other."""

    def __init__(self, whole: ImageSet, classes: ClassTable, labels: Sequence[int]) -> None:
        self.whole, self.classes, self._labels = whole, classes, labels
        self.known_details: Mapping[str, Sequence[str]] | None = whole.known_details
        self.fingerprint, self.notes = whole.fingerprint, whole.notes

    def items(self, class_index: int) -> Sequence[str]:
        return self.whole.items(self._labels[class_index])

    def read(self, item: str) -> Image.Image:
        return self.whole.read(item)

    def size(self, item: str) -> tuple[int, int]:
        return self.whole.size(item)
