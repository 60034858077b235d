"""The files that matching methods' own code leaves: DC, DSA, DM and IDM's `res_*.pt`, MTT's `images_*.pt`.

Facts from VICO-UoE/DatasetCondensation, `main.py` and `main_DM.py` (a dict whose "data" is a list of [images, labels],
one an experiment), and GeorgeCazenavette/mtt-distillation, `distill.py` (`images_best.pt`, `labels_best.pt`). None of
them holds what space the images are in.
"""

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from concord.data.order import FILE as CLASSES
from concord.data.order import KNOWN, names_in_order, relabelled
from concord.data.space import SPACES, Space
from concord.data.tensor_set import TensorForm, TensorImages, checked, damaged
from concord.errors import ConcordError
from concord.storage.torch_file import load_torch_file

_RESULT = re.compile(r"res_[^_]+_([A-Za-z0-9]+)_.*\.pt")
_HARMLESS: list[Any] = [
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, type(np.dtype(np.float64)), type(np.dtype(np.int64)), type(np.dtype(np.float32))),
    codecs.encode,
]
"""What a NumPy number is made by: the accuracies beside DC's and DM's images are such."""
_CONVERT = (
    "python -c \"import pickle, torch; images, labels = pickle.load(open('FILE', 'rb')); torch.save("
    "[torch.as_tensor(images).detach().cpu(), torch.as_tensor(labels).detach().cpu()], 'FILE.pt')\" (with"
    " torch.load('FILE', weights_only=False) for what torch saved)"
)


def peer_file(place: Path) -> Path | None:
    """The file of another method's code that a path names, or a folder holds; None where there is none.

    Raises ConcordError: the folder holds several.
    """
    if place.is_file():
        return place if place.suffix in (".pt", ".pth", ".pkl", ".pickle") else None
    if not place.is_dir():
        return None
    if (best := place / "images_best.pt").is_file():
        return best
    found = [path for path in sorted(place.glob("*.pt")) if _RESULT.fullmatch(path.name) or _labels_of(path)]
    if len(found) > 1:
        raise ConcordError(f"{place} holds {len(found)} sets, {found[0].name} among them: name one, as in {found[0]}")
    return found[0] if found else None


def open_peer_file(
    path: Path,
    classes: Sequence[str] | None = None,
    space: Space | str | Callable[[int, int], Space] | None = None,
    decode: int = 1,
    experiment: int | None = None,
) -> TensorImages:
    """Read another method's file, as tensors only.

    Args:
        classes: names in the order of labels, or a class list; else those of classes.txt beside the file, or of the
            data set that a name such as ``res_DM_CIFAR10_ConvNet_10ipc.pt`` tells.
        space: what the values are, by a name of `SPACES`, or for channels and side of an image; else by that data set's
            mean and deviation.
        decode: see `TensorForm`.
        experiment: which of several sets in one file, from 0.

    Raises:
        ConcordError: it is no such file, its pickle asks for code, or names or space are not known.
    """
    content = _read(path)
    if beside := _labels_of(path):
        content = [content, _read(beside)]
    images, labels, notes = _pair(path, content, experiment)
    match = _RESULT.fullmatch(path.name)
    told = match[1].lower() if match else ""
    labels, soft, more = _hard(path, labels)
    count = int(labels.max()) + 1 if soft is None else soft.shape[1]
    names = names_in_order(classes, path.parent)
    if names is None and told in KNOWN:
        names = names_in_order([told], path.parent)
    if names is None:
        raise ConcordError(
            f"{path} does not say what its {count} classes are: name them in the order of its labels, by classes="
            f" (names, or a class list) or a line each in {path.parent / CLASSES}"
        )
    if space is None:
        space = told if told in SPACES else None
        if space is None:
            raise ConcordError(
                f"{path} does not say what its values are: give tensors.space= ({', '.join(SPACES)}), or tensors.mean="
                " and tensors.std=, by which its images were normalised, or tensors.zca= with the training images by"
                " which they were whitened"
            )
        notes.append(
            f"its name says {told}: mean and deviation of the channels are {', '.join(map(str, SPACES[told]))}"
        )
    table, places = relabelled(names, max(count, len(names)), str(path))
    order = torch.tensor(places)
    if soft is not None:
        soft = torch.zeros_like(soft).index_copy(1, order, soft)
    form = TensorForm(_of_images(space, images), decode)
    return checked(str(path), images, order[labels], table, form, soft, [*notes, *more])


def _of_images(space: Space | str | Callable[[int, int], Space], images: Tensor) -> Space:
    channels, side = (images.shape[1], images.shape[-1]) if images.ndim == 4 else (3, 1)
    if space == "pixels":
        return Space.normalised((0.0,) * channels, (1.0,) * channels)
    if isinstance(space, Space):
        return space
    return Space.named(space) if isinstance(space, str) else space(channels, side)


def _labels_of(path: Path) -> Path | None:
    """MTT's labels, in a file beside the images."""
    beside = path.with_name(path.name.replace("images", "labels", 1))
    return beside if path.name.startswith("images") and beside.is_file() else None


def _pair(path: Path, content: Any, experiment: int | None) -> tuple[Tensor, Tensor, list[str]]:
    """Images and labels of a file, of one of its experiments, and notes."""
    sets = content.get("data") if isinstance(content, Mapping) else content
    several = isinstance(content, Mapping) and isinstance(sets, Sequence)
    notes = []
    if several and sets:
        if not 0 <= (number := experiment or 0) < len(sets):
            raise ConcordError(f"tensors.experiment={number}: {path} holds {len(sets)} experiments, from 0")
        if len(sets) > 1 and experiment is None:
            notes.append(
                f"{path.name} holds {len(sets)} experiments: this is number 0; tensors.experiment= takes another"
            )
        sets = sets[number]
    elif experiment is not None:
        raise ConcordError(f"tensors.experiment: {path} holds one set; leave it out")
    if isinstance(sets, Sequence) and len(sets) == 2 and all(isinstance(one, Tensor) for one in sets):
        images, labels = (one.detach() for one in sets)
        return images, labels, notes
    what = "a tensor alone" if isinstance(sets, Tensor) else type(sets).__name__
    raise damaged(path, f'it holds {what}, where images and labels are expected, or a dict of such under "data"')


def _hard(path: Path, labels: Tensor) -> tuple[Tensor, Tensor | None, list[str]]:
    """Labels int64 (N,), probabilities (N, K) where they are soft, and notes."""
    if labels.ndim == 1 and len(labels) and bool((labels == labels.long()).all()):
        return labels.long(), None, []
    if labels.ndim != 2 or not labels.is_floating_point() or not bool(labels.isfinite().all()):
        raise damaged(
            path, f"its labels are {tuple(labels.shape)} of {labels.dtype}; (N,) classes or (N, K) are expected"
        )
    soft, notes = labels.float(), []
    if bool((soft < 0).any()) or not torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-3):
        soft = soft.softmax(1)
        notes.append("its labels are no probabilities: they are taken for logits")
    return soft.argmax(1), soft, notes


def _read(path: Path) -> Any:
    way = f"where it is trusted, convert it once: {_CONVERT.replace('FILE', path.name)}"
    return load_torch_file(path, "file of torch", way, _HARMLESS, "it is a pickle of another kind than torch's")
