"""Names of folders and files that are no names of classes: of splits, of what lies beside photographs, of bins."""

import re
from typing import Literal

from concord.storage.images import SUFFIXES

Part = Literal["train", "test"]
"""What of splits beside each other is wanted: the training split, or one held out."""
TRAIN = ("train", "training")
HELD_OUT = ("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "holdout")
"""Names of splits that are no training split, in the order in which they are taken to test on."""
SPLITS = frozenset({*TRAIN, *HELD_OUT})
PHOTOGRAPHS = frozenset({"image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "jpegimages"})
"""Names of folders that say that images lie there, and not of what."""
COMPANIONS = frozenset(
    {"mask", "masks", "label", "labels", "annotation", "annotations", "annot", "segmentation", "segmentations", "gt"}
    | {"groundtruth", "trimap", "trimaps", "depth", "bbox", "bboxes", "edges", "heatmaps", "thumbnails", "thumbs"}
)
"""Names of folders with what is known of photographs, which may be drawn as images."""
_NO_DATA = frozenset(
    {"__pycache__", "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "#recycle"}
    | {"#snapshot", "$recycle.bin", "recycler", "system volume information", "lost+found"}
)
"""Bins, thumbnails and snapshots that systems, network drives and archives leave among one's own folders."""


def wanted(part: Part) -> tuple[str, ...]:
    """The names of the splits that are taken for a part, the first that is there."""
    return TRAIN if part == "train" else HELD_OUT


def split_word(name: str) -> str | None:
    """Return the split that a folder or file is of by its name alone: ``train`` for ``seg_train`` and ``TrainingSet``.

    None where there is no such word, or more than one, or a word that says that no photographs lie there.
    """
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    words = {re.sub(r"(?<=.)(set|data|images|imgs)$", "", word.lower()) for word in parts}
    found = words & SPLITS
    return found.pop() if len(found) == 1 and not words & COMPANIONS else None


def split_of(file: str) -> str | None:
    """Return the split that a data file belongs to by its name, or by the nearest folder with a split's name.

    ``train-00000-of-00002.parquet``, ``train.parquet`` and ``default/train/0000.parquet`` are of ``train``: so the hub
    names files.
    """
    *folders, name = file.split("/")
    return next((word for part in (name.partition(".")[0], *reversed(folders)) if (word := split_word(part))), None)


def plain_word(name: str) -> str:
    """A folder's name in small letters without marks and digits, to be looked for among the names above."""
    return re.sub(r"[\W\d_]+", "", name).lower()


def is_no_data(name: str) -> bool:
    """Say whether a folder is a bin or the like by its name; hidden ones are not asked for."""
    return name.lower() in _NO_DATA


def is_image(name: str) -> bool:
    """Say whether a file is taken for an image, by its suffix."""
    stem, _, suffix = name.rpartition(".")
    return bool(stem.strip(".")) and f".{suffix.lower()}" in SUFFIXES
