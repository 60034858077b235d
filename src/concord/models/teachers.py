"""Teachers: trained classifiers whose logits follow the data's labels, checked on images before they are believed."""

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data.classes import ClassTable
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.models.pretrained_teachers import trained
from concord.models.students import Student
from concord.text import listed

_IMAGENET = 1000
_SURE = 0.001
"""A chance below this is taken as none: of a teacher at chance to do so well, or of an order to be better by luck."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A frozen classifier of pixels in [0, 1], whose K logits are in the data's label order.

    name: for people and records. columns: which of the network's outputs they are. labels: the network's own names of
    them, None where it has none. size: side of the images that it was trained at; others are resized to it, bilinear
    with antialiasing; None takes them as they are. remapped: the order of its columns that `remap` fitted, or None.
    """

    name: str
    network: Student
    columns: tuple[int, ...]
    labels: tuple[str, ...] | None = None
    size: int | None = None
    remapped: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        self.network.eval().requires_grad_(False)

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, K), float32, of images (B, 3, H, W) in [0, 1]; differentiable in the pixels."""
        return self.network(self._sized(pixels)).float()[:, self._index]

    def features(self, pixels: Tensor) -> Tensor:
        """What the network's last layer is given, (B, D), float32, of images (B, 3, H, W) in [0, 1]."""
        return self.network.features(self._sized(pixels)).float()

    @cached_property
    def fingerprint(self) -> str:
        """A digest of all that decides the logits: weights, normalisation, size and order of columns."""
        digest = hashlib.sha256(repr((self.columns, self.size)).encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    @cached_property
    def _index(self) -> Tensor | slice:
        own = tuple(range(self.network.form.classes)) == self.columns
        return slice(None) if own else torch.tensor(self.columns, device=self.network.mean.device)

    def _sized(self, pixels: Tensor) -> Tensor:
        pixels = pixels.to(self.network.mean.device).float()
        if self.size is None or pixels.shape[-2:] == (self.size, self.size):
            return pixels
        return F.interpolate(pixels, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)


def load_teacher(
    spec: str,
    classes: ClassTable,
    *,
    arch: str | None = None,
    size: int | None = None,
    device: torch.device | str = "cpu",
) -> Teacher:
    """Load a teacher for the classes of the data.

    spec: a `.safetensors` file that concord wrote, or a `.pth`, `.pt` or `.safetensors` of others: a state dict or
    {"model": state dict}, as RDED's; ``torchvision:NAME`` or NAME alone, with its default weights; ``timm:NAME``; a
    transformers directory or id; ``reef:teacher``. The outputs go by the classes' names where the network has some, an
    ImageNet network's by the classes' places in ImageNet, and any other's in order. arch, size: the student whose
    weights a file of others holds, and the side of its images, where they do not tell or another is wanted. A
    ConcordError: it cannot be loaded, or its outputs are not the data's classes.
    """
    found = trained(spec, len(classes), arch=arch, size=size)
    outputs = found.network.form.classes
    path = Path(spec).expanduser()
    name = path.name if path.exists() else spec
    columns = _columns(name, outputs, found.labels, classes)
    labels = tuple(found.labels[c] for c in columns) if found.labels else None
    return Teacher(name, found.network.to(device), columns, labels, found.size)


def _columns(name: str, outputs: int, labels: Sequence[str] | None, classes: ClassTable) -> tuple[int, ...]:
    """The network's output of every class, in label order."""
    by_label = {}
    for exactly, (column, label) in product((False, True), enumerate(labels or ())):
        with contextlib.suppress(ConcordError):  # a class of its own; those that the data lack in it are named below
            by_label[classes.find(label, exactly).label] = column
    if len(by_label) == len(classes):  # it may know more classes than a part of its data has
        return tuple(by_label[label] for label in range(len(classes)))
    ids = [entry.model_id for entry in classes]
    if outputs == _IMAGENET and all(i is not None and 0 <= i < outputs for i in ids):
        return tuple(i for i in ids if i is not None)
    if labels:
        missing = listed(entry.key for entry in classes if entry.label not in by_label)
        raise ConcordError(
            f"the teacher {name} has no class for {missing} of the data; its classes are {listed(labels)}"
        )
    if outputs != len(classes):
        raise ConcordError(
            f"the teacher {name} has {outputs} outputs, the data have {len(classes)} classes; "
            "give a teacher that was trained on these classes"
        )
    return tuple(range(outputs))


@dataclass(frozen=True, eq=False)
class Check:
    """How a teacher does on labelled images: top-1 `accuracy`, and `confusion`, int64 (K, K), a row a true class."""

    accuracy: float
    confusion: Tensor


@torch.no_grad()
def check_teacher(teacher: Teacher, test: TensorSet, batch: int = 100) -> Check:
    """Let a teacher classify a test set."""
    k = len(teacher.columns)
    pairs = [
        test.labels[i : i + batch].cpu() * k + teacher.logits(test.pixels(slice(i, i + batch))).argmax(1).cpu()
        for i in range(0, len(test), batch)
    ]
    confusion = torch.bincount(torch.cat(pairs), minlength=k * k).view(k, k)
    return Check(int(confusion.trace()) / len(test), confusion)


def require_sound(check: Check, teacher: Teacher) -> None:
    """Refuse a teacher that is not to be told from chance, or that is right in another order of its classes.

    Near chance: too few are right for the exact binomial test (one-sided, p < 0.001), and the accuracy is below twice
    chance, and below a quarter of the way from chance to all where that is less (two classes), so that a good teacher
    does not fall to a handful of images. Another order: one of the columns that is fitted to one half of the images has
    half the errors, or twice the hits, on the other half, and an exact sign test over the images whose verdict it
    changes gives p < 0.001; so a teacher of which only some classes are exchanged is found, and a fit to noise is not.
    """
    k, n = len(check.confusion), int(check.confusion.sum())
    true, predicted = _images(check.confusion)
    ordered = _held_out(true, predicted, k)
    now, then = predicted == true, predicted == ordered
    gained, lost = int((then & ~now).sum()), int((now & ~then).sum())
    greatly = then.sum() >= 2 * now.sum() or (~then).sum() <= (~now).sum() / 2
    images = f"{n} images of {k} classes (chance: {1 / k:.1%})"
    says = f"the teacher {teacher.name} has {check.accuracy:.1%} right of {images}"
    if greatly and gained and teacher.remapped is None and _above(gained, gained + lost, 0.5) < _SURE:
        raise ConcordError(
            f"{says}, and {then.mean():.1%} with its classes in another order, one that was fitted to other images: "
            "its class order is not that of the data's sorted folders (RDED's ImageWoof and ImageNette checkpoints "
            "are known for it); --remap puts it right"
        )
    if _near_chance(int(now.sum()), n, k):
        order = "its class order may not be that of the data's sorted folders, then --remap puts it right"
        order = "even with its classes in the order that fits best" if teacher.remapped else order
        check_all = "check the file, arch and teacher_size"
        raise ConcordError(f"{says}: {order}; or it was not trained on these classes: {check_all}")


def remap(teacher: Teacher, check: Check) -> Teacher:
    """The same teacher with its columns in the order that gives the most hits: the best assignment on `check`.

    A ConcordError: an order that is fitted to half of the images is at chance on the other half, a fit to noise.
    """
    k, n = len(check.confusion), int(check.confusion.sum())
    true, predicted = _images(check.confusion)
    hits = int((predicted == _held_out(true, predicted, k)).sum())
    if _near_chance(hits, n, k):
        raise ConcordError(
            f"no order of its classes makes a teacher of {teacher.name}: one fitted to half of the {n} images is "
            f"right for {hits / n:.1%} of the others (chance: {1 / k:.1%}); it was not trained on these classes, or "
            "the images are too few: give a larger test set"
        )
    return reordered(teacher, [int(i) for i in _order(check.confusion.numpy())])


def reordered(teacher: Teacher, order: Sequence[int]) -> Teacher:
    """The same teacher with its columns in another order: class i takes the column that class order[i] had."""
    before = teacher.remapped or tuple(range(len(order)))
    return replace(
        teacher,
        columns=tuple(teacher.columns[i] for i in order),
        labels=tuple(teacher.labels[i] for i in order) if teacher.labels else None,
        remapped=tuple(before[i] for i in order),
    )


def _near_chance(hits: int, n: int, k: int) -> bool:
    far = hits / n >= min(2 / k, 1 / k + (1 - 1 / k) / 4)
    return not far and _above(hits, n, 1 / k) > _SURE


def _above(hits: int, n: int, chance: float) -> float:
    """How likely so many hits or more of n are by chance: the exact binomial test, one-sided."""
    from scipy.stats import binomtest  # which takes a second to load, and is seldom asked

    return float(binomtest(hits, n, chance, alternative="greater").pvalue)


def _order(confusion: np.ndarray) -> np.ndarray:
    """The column of every class that together hit most; a class keeps its own where another is no better."""
    from scipy.optimize import linear_sum_assignment

    k = len(confusion)
    return linear_sum_assignment((k + 1) * confusion.astype(np.int64) + np.eye(k, dtype=np.int64), maximize=True)[1]


def _images(confusion: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted class of every image, sorted by the true one and shuffled within it."""
    k = len(confusion)
    cells = np.random.default_rng(0).permutation(np.repeat(np.arange(k * k), confusion.numpy().ravel()))
    cells = cells[np.argsort(cells // k, kind="stable")]
    return cells // k, cells % k


def _held_out(true: np.ndarray, predicted: np.ndarray, k: int) -> np.ndarray:
    """The column that stands for each image's class, in the order that is fitted to the half that it is not in."""
    half = np.arange(len(true)) % 2
    stands = np.empty_like(true)
    for side in (0, 1):
        fitted = half != side
        counts = np.bincount(true[fitted] * k + predicted[fitted], minlength=k * k).reshape(k, k)
        stands[half == side] = _order(counts)[true[half == side]]
    return stands
