"""Protocols: how a student is trained on a small set and when its accuracy is read, as the field's code does it.

An accuracy means nothing without its protocol: soft labels alone move it by tens of points. Each preset names the code
or the paper that it follows; a setting that is changed (``epochs=100``) is recorded beside the accuracy.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt

from concord.choices import Norm
from concord.evaluation.augment import Augment
from concord.evaluation.mixing import Mixing
from concord.registry import PROTOCOLS

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


class ManyClasses(BaseModel):
    """What replaces a protocol's settings above 100 classes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    lr: PositiveFloat
    weight_decay: Annotated[float, Field(ge=0)]
    batch: PositiveInt


def _later(default: Any) -> Any:
    """A setting that came later: left out of what identifies a training where it is the default, as if it were not."""
    return Field(default=default, exclude_if=lambda value: value == default)


class Protocol(BaseModel):
    """How a student is trained and judged.

    Args:
        labels: ``soft`` ones of a teacher on each augmented and mixed batch, ``fixed`` ones of a teacher on the images
            as they are, or the set's own (``hard``).
        temperature: of both sides of the soft loss, which is not multiplied by its square (RDED).
        optimiser, lr, weight_decay, momentum: momentum is of ``sgd`` alone.
        decay: weight decay on all parameters, or on ``matrices`` alone (weights of more than one dimension, RDED).
        epochs: passes over the set, null for Minimax's table by IPC (`ipc_epochs`).
        schedule: of the learning rate, see `lr_factor`; ``dc`` also forgets the momentum where it drops.
        batch: images a step: a number, ``rded`` for its table by IPC, ``ipc``, or null for the set up to 256 (DC).
        double_pass: once more through the student in train mode, without gradients: batch norm moves twice (RDED).
        judge: when accuracy is read: every tenth epoch of the last fifth (``rded``), every ``tenth``, every
            ``twentieth`` (DD-Ranking), a ``hundred`` times, at the end.
        reports: which of these the source's tables hold.
        test_resize: what a test image's shorter side is brought to before the centre crop, of the student's size.
        student_size: pixels of a student's images, null for RDED's by student; never above those of the set.
        resize_first: training images are brought to that size before a crop is drawn, not by the crop.
        shuffle: whether every epoch has an order of its own, or the set's.
        many: above 100 classes; what is set by hand stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    labels: Literal["soft", "fixed", "hard"]
    temperature: PositiveFloat = 20.0
    optimiser: Literal["adamw", "sgd"] = "adamw"
    lr: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    decay: Literal["all", "matrices"] = "matrices"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epochs: PositiveInt | None = 300
    schedule: Literal["half-cosine", "cosine", "multi-step", "dc", "constant"] = "half-cosine"
    batch: PositiveInt | Literal["rded", "ipc"] | None = "rded"
    double_pass: bool = False
    augment: Augment = Augment()
    mixing: Mixing = Mixing()
    judge: Literal["rded", "tenth", "twentieth", "hundred", "end"] = "rded"
    reports: Literal["best", "last"] = "best"
    test_resize: Literal["8/7", "size"] = "8/7"
    norm: Norm = "batch"
    normalise: Literal["imagenet", "cifar"] = "imagenet"
    student_size: PositiveInt | None = _later(None)
    resize_first: bool = _later(False)
    shuffle: bool = _later(True)
    many: ManyClasses | None = _later(None)

    @property
    def about(self) -> str:
        return f"{self.labels} labels, {self.optimiser}, {self.epochs or 'by IPC'} epochs, schedule {self.schedule}"

    @property
    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the channels, of values in [0, 1]."""
        return IMAGENET if self.normalise == "imagenet" else CIFAR

    def test_side(self, size: int) -> int:
        """Pixels that a test image's shorter side is brought to before the centre crop of `size`."""
        # A side that is no multiple of 7 may round to less than the crop, whose border would then be black.
        return max(size, size // 7 * 8) if self.test_resize == "8/7" else size


RDED = Protocol(
    name="rded",
    labels="soft",
    double_pass=True,
    augment=Augment(patch_shuffle=2, crop=(0.5, 1.0), flip=True),
    mixing=Mixing(kind="cutmix"),
)
"""The evaluator of RDED (Sun et al. 2024), quirks included: the protocol of the paper's tables by its Sec. 4.1."""
PAPER = RDED.model_copy(update={"name": "paper", "schedule": "cosine", "batch": "ipc", "double_pass": False})
"""The paper's App. B: what RDED's evaluator is described as there. The batch is the IPC, the cosine ends at zero, one
pass a step. It does not say whether its tables hold the best or the last accuracy; RDED, which it follows, has the
best."""
FIXED = RDED.model_copy(update={"name": "fixed", "labels": "fixed"})
"""RDED's with one stored soft label an image, so that no teacher trains along: what `rded` gains by asking it at every
step lies between the two (the regimes of Dey et al. 2026, arXiv 2604.18811)."""
RD3 = RDED.model_copy(update={"name": "rd3", "epochs": 400, "batch": 50, "double_pass": False, "weight_decay": 0.0})
"""The protocol of RD3 (Zhong et al. 2026, arXiv 2509.19743): Adam, which is AdamW without decay."""
SRE2L = RDED.model_copy(
    update={
        "name": "sre2l",
        "batch": 1024,
        "schedule": "cosine",
        "double_pass": False,
        "augment": Augment(crop=(0.08, 1.0), flip=True),
        "judge": "tenth",
        "shuffle": False,
    }
)
"""The evaluator of SRe2L (Yin et al. 2023, `train/train_FKD.py`)."""
PLAIN = RDED.model_copy(update={"name": "plain", "augment": Augment(), "mixing": Mixing()})
"""RDED's without augmentation and mixing: what DD-Ranking's augmentation-robust score holds beside it."""
_SGD: dict[str, Any] = {"labels": "hard", "optimiser": "sgd", "lr": 0.01, "weight_decay": 5e-4, "decay": "all"}
_SMALL: dict[str, Any] = {**_SGD, "test_resize": "size", "norm": "instance"}
HARD = Protocol(
    name="hard",
    **_SMALL,
    epochs=None,
    schedule="multi-step",
    batch=64,
    augment=Augment(crop=(0.5, 1.0), flip=True, color=0.4, lighting=0.1),
    mixing=Mixing(kind="cutmix"),
    judge="hundred",
    student_size=224,
    resize_first=True,
    many=ManyClasses(lr=0.1, weight_decay=1e-4, batch=128),
)
"""Minimax's protocol with the set's own labels, after IDC's (Kim et al. 2022): instance norm in every network."""
DC = Protocol(name="dc", **_SMALL, schedule="dc", batch=256, judge="end", reports="last", normalise="cifar")
"""Dataset condensation (Zhao et al. 2021), whose CIFAR-10 table has random, herding and k-center: no augmentation.
``augment.dsa=color_crop_cutout_flip_scale_rotate epochs=1000`` is the form of DSA and its followers."""
TEACHER = Protocol(
    name="teacher",
    **{**_SGD, "lr": 0.05},
    schedule="cosine",
    batch=128,
    augment=Augment(crop=(0.35, 1.0), flip=True),
    reports="last",
)
"""How `concord teacher` trains: a plain recipe of the field, on the whole real set."""
protocol: Callable[[str], Protocol] = PROTOCOLS.get
"""A preset, of ours or of another package, by its name; a ConcordError where there is none of this name."""


def lr_factor(schedule: str, epoch: int, epochs: int) -> float:
    """The learning rate in an epoch (from 0) of so many (`num_epochs`), as a share of the first.

    half-cosine: 0.5 (1 + cos(pi e / 2E)), which ends at a half (RDED). cosine: to zero. multi-step: a fifth from 2E/3
    on, a twenty-fifth from 5E/6 on (IDC, Minimax). dc: a tenth after epoch E/2 + 1, of the E + 1 epochs of DC's loop.
    """
    if schedule.endswith("cosine"):
        return 0.5 * (1 + math.cos(math.pi * epoch / epochs / (2 if schedule == "half-cosine" else 1)))
    if schedule == "multi-step":
        return 0.2 ** ((epoch >= 2 * epochs // 3) + (epoch >= 5 * epochs // 6))
    return 0.1 if schedule == "dc" and epoch > (epochs - 1) // 2 + 1 else 1.0


def ipc_epochs(ipc: float, classes: int) -> int:
    """Epochs by IPC in Minimax's and IDC's code: 3000 for 1, 2000 to 10, 1500 to 50, 1000 to 200, 500 to 500, then 300.

    With 100 classes two thirds of it, in hundreds.
    """
    table = ((1, 3000), (10, 2000), (50, 1500), (200, 1000), (500, 500))
    epochs = next((epochs for most, epochs in table if ipc <= most), 300)
    return 2 * epochs // 3 // 100 * 100 if classes == 100 else epochs


def num_epochs(protocol: Protocol, ipc: float, classes: int) -> int:
    """Epochs that are trained; DC's loop counts from 0 to E, so one more than it says."""
    epochs = protocol.epochs or ipc_epochs(ipc, classes)
    return epochs + 1 if protocol.schedule == "dc" else epochs


def batch_size(protocol: Protocol, ipc: float, classes: int, images: int) -> int:
    """Images a step, never above the set's.

    RDED's table: 10, 50 and 100 for IPC 1, 10 and 50, doubled for 100 and 1000 classes. What it leaves open is filled
    in: the step of the next smaller IPC that it knows, so 100 for IPC 100 and 200; and doubled for 100 classes or more.
    """
    size = protocol.batch
    if size is None:
        size = 256
    elif size == "ipc":
        size = max(1, round(ipc))
    elif size == "rded":
        size = (10 if ipc < 10 else 50 if ipc < 50 else 100) * (2 if classes >= 100 else 1)
    return min(size, images)


def is_eval_epoch(protocol: Protocol, epoch: int, epochs: int) -> bool:
    """Whether accuracy is read after this epoch (from 0); it always is after the last."""
    if epoch == epochs - 1:
        return True
    if protocol.judge in ("tenth", "twentieth"):
        return (epoch + 1) % (10 if protocol.judge == "tenth" else 20) == 0
    if protocol.judge == "rded":
        return epoch % 10 == 9 and epoch > epochs * 0.8
    return protocol.judge == "hundred" and (epoch + 1) % max(1, epochs // 100) == 0
