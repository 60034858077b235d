"""Sections of recipes that are of one method each; light, as `concord.methods.specs` is."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator, model_validator

from concord.choices import SpaceName, dsa_strategy
from concord.recipe import Fraction, Weight
from concord.recipe.sections import Part

SRE2L_PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"iterations": 4000, "lr": 0.25, "bn": 0.01, "crop": True, "roll": (0, 32)},
    "tiny": {"iterations": 4000, "lr": 0.1, "bn": 1.0, "crop": True, "roll": (-4, 4)},
    "cifar": {"iterations": 1000, "lr": 0.25, "bn": 0.01, "crop": False, "roll": (0, 4)},
}
"""What was published for each data set: VILA-Lab/SRe2L, `recover/recover.sh` and `*small_dataset/recover_*`."""


class Sre2l(Part):
    """Of `sre2l`: how images are recovered from a teacher."""

    preset: Literal["imagenet", "tiny", "cifar"] = "imagenet"
    """Whose published settings the keys below take where they are not set: 224, 64 or 32 pixels."""
    iterations: PositiveInt = 4000
    """Steps of Adam; 1000 of `cifar`."""
    lr: PositiveFloat = 0.25
    """The first learning rate, which falls to 0 as a cosine; 0.1 of `tiny`."""
    bn: Weight = 0.01
    """Weight of the distance of batch statistics to the teacher's running ones, beside cross-entropy; 1 of `tiny`."""
    first: Weight = 10.0
    """How much more the first layer's distance counts."""
    crop: bool = True
    """Whether each step sees a random crop of the batch, flipped or not; not of `cifar`."""
    roll: tuple[int, int] = (0, 32)
    """The least and the most pixels by which each step shifts the batch, down and to the right, coming in again at the
    other side; -4 to 4 of `tiny`, 0 to 4 of `cifar`."""
    teachers: list[str] = Field(default=[])
    """Further teachers beside the recipe's: the loss is the mean over all."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        preset = SRE2L_PRESETS.get(str(values.get("preset", "imagenet"))) if isinstance(values, dict) else None
        return values if preset is None else {**preset, **values}

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll: expected the least shift before the most, got {list(self.roll)}")
        if not self.bn and self.first != type(self).model_fields["first"].default:
            raise ValueError("first: bn is 0, so that no layer counts; raise it")
        return self


DM_PRESETS: dict[str, dict[int, dict[str, Any]]] = {
    "cifar10": {1: {"space": "cifar10"}, 100: {"space": "cifar10", "lr": 10.0}},
    "cifar100": {1: {"space": "cifar100"}},
}
"""By data set and the least IPC, what VICO-UoE/DatasetCondensation says of its command line (README, `main_DM.py`)."""
IDM_PRESETS: dict[str, dict[int, dict[str, Any]]] = {
    "cifar10": {
        1: {"space": "cifar10", "ce": 0.5, "real": 5000, "every": 5},
        10: {"space": "cifar10", "ce": 0.5},
        50: {"space": "cifar10", "ce": 0.1, "forget": 500},
    },
    "cifar100": {
        1: {"space": "cifar100", "ce": 0.5, "real": 5000, "every": 5},
        10: {"space": "cifar100", "ce": 0.1, "steps": 50},
        50: {"space": "cifar100", "ce": 0.1, "steps": 40, "forget": 500},  # the authors' advice, uitrbn/IDM#1
    },
    "tiny": {
        1: {"space": "tiny", "ce": 0.5},
        10: {"space": "tiny", "ce": 0.5, "forget": 500},
        50: {"space": "tiny", "ce": 0.8, "steps": 50, "forget": 1000},
    },
    "imagenet-100": {
        ipc: {
            **{"space": "imagenet", "depth": 6, "ce": 3.0, "real": 128, "batch": 128, "every": 50},
            **{"networks": networks, "forget": forget},
        }
        for ipc, networks, forget in ((1, 50, 200), (10, 50, 1000), (50, 100, 500))
    },
}
"""By data set and the least IPC, the command lines of uitrbn/IDM (`command.txt`), where they differ from the defaults.
Running accuracies begin anew where its code evaluates. Its IPC 50 of ImageNet-100 begins from a trained network, which
is not done here."""


MTT_PRESETS: dict[str, dict[int, dict[str, Any]]] = {
    "cifar10": {
        1: {"steps": 50, "start": 2, "lr": 100.0, "rate_lr": 1e-7, "rate": 0.01},
        10: {"steps": 30, "start": 20, "lr": 100.0, "rate": 0.001},
        50: {"steps": 30, "start": 40, "rate": 0.001},
    },
    "cifar100": {
        1: {"start": 20, "epochs": 3},
        10: {"start": 20},
        50: {"steps": 80, "start": 40, "batch": 125},
    },
    "tiny": {
        1: {"steps": 10, "start": 10, "lr": 1e4, "rate_lr": 1e-4},
        10: {"start": 40, "lr": 1e4, "rate_lr": 1e-4, "batch": 200},
        50: {"start": 40, "lr": 1e4, "rate_lr": 1e-4, "batch": 300},
    },
    "imagenet": {1: {"start": 10, "rate_lr": 1e-6}},
}
"""By data set and the least IPC, where they differ from the defaults: justincui03/dc_benchmark, `methods/tm/readme.md`;
`imagenet` is for subsets of ten classes at 128 px, of which IPC 1 alone is given."""


Values = Mapping[str, Any]


def published(presets: Mapping[str, Mapping[int, Values]], name: str) -> Callable[[Values], Values]:
    """Settings of a method's section, of a recipe's plain values, by its preset and its IPC."""

    def settings(values: Values) -> Values:
        section, ipc = values.get(name), values.get("ipc", 10)
        by_ipc = presets.get(str(section.get("preset"))) if isinstance(section, dict) else None
        if by_ipc is None or not isinstance(ipc, int):
            return {}
        return by_ipc[max((least for least in by_ipc if least <= ipc), default=min(by_ipc))]

    return settings


class Descent(Part):
    """What methods have that optimise all pixels of a set together."""

    init: Annotated[str, Field(min_length=1)] = "real"
    """What the pixels begin from: `real` images at random, `noise`, `herding` (a coreset by its pixels), or the images
    of the finished set in this directory, which any method may have made."""
    iterations: PositiveInt = 20000
    """Steps of the descent."""
    lr: PositiveFloat = 1.0
    """The learning rate of the pixels."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """The momentum of the pixels."""
    dsa: Annotated[str, AfterValidator(dsa_strategy)] = "color_crop_cutout_flip_scale_rotate"
    """Differentiable Siamese augmentation: families of which one is drawn for each class; empty, none."""


class Joint(Descent):
    """Of those that draw their networks: what these are, and what the images' values are."""

    space: SpaceName | None = None
    """What the values are: pixels less a mean and divided by a deviation, those of the data set of this name; null
    takes those of the real images."""
    depth: Annotated[int, Field(ge=1, le=6)] | None = None
    """Blocks of the networks, ConvNets of instance norm; null is 3 at 32 px, and one more each time that doubles."""
    width: PositiveInt = 128
    """Channels of the networks."""


class Dm(Joint):
    """Of `dm`: distribution matching."""

    preset: Literal["cifar10", "cifar100"] | None = None
    """Whose published settings the other keys take where they are not set, for the recipe's `ipc`; null, the defaults.
    """
    real: PositiveInt = 256
    """Real images of each class in an iteration."""


class Idm(Joint):
    """Of `idm`: improved distribution matching."""

    preset: Literal["cifar10", "cifar100", "tiny", "imagenet-100"] | None = None
    """Whose published settings the other keys take where they are not set, for the recipe's `ipc`; null, the defaults.
    """
    lr: PositiveFloat = 0.2
    """The learning rate of the pixels."""
    real: PositiveInt = 256
    """Real images of each class in an iteration."""
    factor: Annotated[int, Field(ge=1, le=8)] = 2
    """Each image holds factor x factor smaller ones, which are scaled up before they are seen; 1 has none."""
    ce: Weight = 0.5
    """Weight of the cross-entropy of a class's images, times the network's running training accuracy in per cent."""
    networks: PositiveInt = 100
    """The most networks in the queue; the oldest goes when another comes."""
    start: PositiveInt = 3
    """Networks in the queue before the first iteration."""
    every: PositiveInt = 30
    """Iterations from one new network to the next."""
    trained: PositiveInt = 2
    """Networks that are trained on real images in an iteration, drawn from the queue."""
    steps: PositiveInt = 10
    """Steps of such a training."""
    batch: PositiveInt = 256
    """Real images in such a step, of all classes, not augmented."""
    forget: PositiveInt = 100
    """Iterations after which running accuracies begin anew."""


class Mtt(Descent):
    """Of `mtt`: matching the training trajectories of experts."""

    experts: Annotated[str, Field(min_length=1)] | None = None
    """The directory that `concord experts` filled: their images' size, whitening and networks are the set's."""
    preset: Literal["cifar10", "cifar100", "tiny", "imagenet"] | None = None
    """Whose published settings the other keys take where they are not set, for the recipe's `ipc`; null, the defaults.
    """
    iterations: PositiveInt = 5000
    """Steps of the descent."""
    lr: PositiveFloat = 1000.0
    """The learning rate of the pixels."""
    dsa: Annotated[str, AfterValidator(dsa_strategy)] = "color_crop_cutout_flip_scale_rotate"
    """Augmentation of the student's batches: families of which one is drawn for each step; empty, none."""
    steps: PositiveInt = 20
    """Steps of the student in an iteration."""
    batch: PositiveInt | None = None
    """Images in a step of the student; null is all of the set."""
    epochs: PositiveInt = 2
    """Epochs of the expert that the student's steps shall make up for."""
    start: PositiveInt = 25
    """The student begins where an expert was before an epoch below this one, drawn anew in each iteration."""
    rate: PositiveFloat = 0.01
    """The student's learning rate before the first iteration; it is learnt with the images."""
    rate_lr: Weight = 1e-5
    """The learning rate of that rate; 0 leaves it as it is."""


class Mix(Part):
    """Of `mix`: made images and real ones in one set, chosen after the made ones are there."""

    made: Annotated[str, Field(min_length=1)] | None = None
    """The directory of the finished set whose images are taken, each class's in their order."""
    real: dict[PositiveInt, Fraction] = Field(default={1: 0.0, 10: 0.0, 50: 0.5})
    """By IPC, the share of real images, as in `{10: 0.2, 50: 0.6}`; between, their number grows evenly. A number is the
    share at every IPC."""
    choice: Literal["coverage", "herding", "kcenter", "random"] = "coverage"
    """Which real image comes next, given all that were taken, made ones too: as in `select.kind`; or at `random`."""

    @field_validator("real", mode="before")
    @classmethod
    def _one_share(cls, real: Any) -> Any:
        is_number = isinstance(real, int | float) and not isinstance(real, bool)
        return {1: real} if is_number else real

    @model_validator(mode="after")
    def _growing(self) -> Self:
        if not self.real:
            raise ValueError("real: no share is given; give one, as in 0.5, or {10: 0.2, 50: 0.6}")
        for before, after in pairwise(sorted(self.real)):
            grown = after * self.real[after] - before * self.real[before]
            if not 0 <= grown <= after - before:
                raise ValueError(
                    f"real: {self.real[before]} at IPC {before} and {self.real[after]} at {after} would take images out"
                    " of the smaller set, which is part of the larger one"
                )
        return self


def real_images(shares: Mapping[int, float], ipc: int) -> int:
    """How many of a class's `ipc` images are real, by the shares at some IPCs.

    Their number grows evenly from one IPC to the next, and beyond the last by its share; never by two at once.
    """
    ipcs = [0, *sorted(shares)]
    counts = [0.0, *(n * shares[n] for n in ipcs[1:])]
    ipcs, counts = [*ipcs, ipcs[-1] + 10**6], [*counts, counts[-1] + 10**6 * shares[ipcs[-1]]]
    after = next(n for n in range(1, len(ipcs)) if ipcs[n] >= ipc)
    part = (ipc - ipcs[after - 1]) / (ipcs[after] - ipcs[after - 1])
    return math.floor(counts[after - 1] + part * (counts[after] - counts[after - 1]) + 0.5 - 1e-9)
