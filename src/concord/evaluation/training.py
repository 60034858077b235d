"""Training a student on a small set that lies in memory, and reading its accuracy; all is drawn from one seed."""

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from concord.data.tensors import TensorSet
from concord.evaluation.augment import Augment, View, apply, draw, to_device
from concord.evaluation.mixing import draw_mix, mix, mixed_share
from concord.evaluation.protocols import Protocol, is_eval_epoch, lr_factor


@dataclass(frozen=True)
class Batch:
    """One step. index: int64 (B,), the images. view, mixing: see `concord.evaluation.augment`.

    soft: the teacher's probabilities (B, K) at the protocol's temperature, where they were stored ahead.
    """

    index: Tensor
    view: View
    mixing: View
    soft: Tensor | None = None


class Batches(Interface):
    """Where batches come from: drawn anew (`Drawn`) or stored with a teacher's labels."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0; the same on every call."""


@dataclass(frozen=True)
class Drawn:
    """Batches drawn anew; an epoch is a function of (seed, number), so that a training can go on in its midst.

    images: how many the set has, squares of `side` pixels. size: pixels of what the student sees. batch: images a step.
    """

    protocol: Protocol
    images: int
    side: int
    size: int
    batch: int
    seed: int

    def epoch(self, number: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        order = torch.randperm(self.images, generator=generator)
        if not self.protocol.shuffle:
            order = torch.arange(self.images)
        for index in order.split(self.batch):  # a last smaller batch is kept, as in RDED, IDC and DC
            view = draw(self.protocol.augment, len(index), self.side, self.side, generator)
            yield Batch(index, view, draw_mix(self.protocol.mixing, len(index), self.size, self.size, generator))


_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_OWN = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20), (_MMAP_MAX, 65536))  # where glibc itself settles


def keep_freed(keep: bool = True) -> bool:
    """Have the C library keep the memory that tensors free (or not), and say whether it does as told.

    A training on the CPU frees and takes the same large blocks at every layer. glibc returns the largest to the system,
    which clears them page by page when they are taken again: 15 to 30 % of a ConvNet's pass
    (benchmarks/results/evaluation_speed.json, `memory`). Kept, they stay with the process until it ends, at most its
    peak.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)) if keep else _OWN
    return set_option is not None and all([set_option(option, value) for option, value in options])


Labeller = Callable[[Tensor], Tensor]
"""Pixels (B, 3, S, S) in [0, 1] to a teacher's logits (B, K)."""
JUDGING = 500
"""Test images at once."""


@dataclass
class TrainingLog:
    """What a training came to. accuracies: epoch (from 0) to top-1 in percent, where it was read.

    predictions: int64 (N,), the classes that the trained student gives the test images. logits: float32 (N, K) on the
    CPU, what they were read off after the ``last`` epoch and the first of the ``best`` accuracy, where they are kept.
    """

    accuracies: dict[int, float] = field(default_factory=dict)
    predictions: Tensor | None = None
    logits: dict[str, Tensor] = field(default_factory=dict)

    @property
    def last(self) -> float:
        return self.accuracies[max(self.accuracies)]

    @property
    def best(self) -> float:
        return max(self.accuracies.values())


@dataclass(frozen=True)
class Compute:
    """How a student is computed: device, dtype of the networks (float32 or bfloat16, by autocast), torch.compile."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    compile: bool = False

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        kind = torch.device(self.device).type
        return torch.autocast(kind, self.dtype, enabled=self.dtype != torch.float32)

    def place(self, net: nn.Module) -> nn.Module:
        """Bring a student to the device, in the layout in which its convolutions are fastest.

        Channels-last suits batch norm and group norm of a few groups. Instance norm, a group a channel, has no fast
        kernel for it on the CPU: a step is somewhat slower there in float32, and takes more than twice as long in
        bfloat16 (benchmarks/results/evaluation_speed.json, `choices`).
        """
        net = self.lay_out(net.to(self.device))
        if self.compile:
            net.compile()
        return net

    def lay_out(self, net: nn.Module) -> nn.Module:
        """Channels-last but for instance norm on the CPU; a teacher gains by it, too."""
        instance = any(isinstance(m, nn.GroupNorm) and m.num_groups == m.num_channels for m in net.modules())
        slow = instance and torch.device(self.device).type != "cuda"
        return net if slow else net.to(memory_format=torch.channels_last)


HERE = Compute()
"""The CPU, in float32."""


def train(
    net: nn.Module,
    data: TensorSet,
    batches: Batches,
    protocol: Protocol,
    epochs: int,
    size: int,
    *,
    test: TensorSet | None,
    seed: int = 0,
    labeller: Labeller | None = None,
    compute: Compute = HERE,
    start: int = 0,
    state: Mapping[str, Any] | None = None,
    keep_logits: bool = False,
    after: "Callable[[int, Trainer, TrainingLog], None] | None" = None,
) -> TrainingLog:
    """Train a student in place and judge it where the protocol says.

    net: pixels (B, 3, size, size) in [0, 1] to logits. test: images at that size; None: accuracy is not read. seed: of
    what the student itself draws, such as dropout; torch's global random state is left as it was. labeller: the
    teacher, where labels are soft and not stored in the batches. start, state: go on before this epoch from what
    `Trainer.state` returned. keep_logits: whether `TrainingLog.logits` is filled. after: called after each epoch.
    """
    if torch.device(compute.device).type == "cpu":
        keep_freed()
    trainer = Trainer(net, data.to(compute.device), protocol, size, labeller, compute)
    if state is not None:
        trainer.load(state)
    course, test = TrainingLog(), test.to(compute.device) if test is not None else None
    with torch.random.fork_rng([compute.device] if compute.device.startswith("cuda") else []):
        for epoch in range(start, epochs):
            torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)
            trainer.begin(lr_factor(protocol.schedule, epoch, epochs))
            for batch in batches.epoch(epoch):
                trainer.step(batch)
            if test is not None and is_eval_epoch(protocol, epoch, epochs):
                logits: list[Tensor] = []
                course.predictions = predict(net, test, compute, logits if keep_logits else None)
                reached, before = accuracy(course.predictions, test.labels), max(course.accuracies.values(), default=-1)
                course.accuracies[epoch] = reached
                if keep_logits:
                    course.logits["last"] = torch.cat(logits)
                    if reached > before:
                        course.logits["best"] = course.logits["last"]
            if after is not None:
                after(epoch, trainer, course)
    return course


class Trainer:
    """A student in training, step by step."""

    def __init__(
        self,
        net: nn.Module,
        data: TensorSet,
        protocol: Protocol,
        size: int,
        labeller: Labeller | None = None,
        compute: Compute = HERE,
    ) -> None:
        self.net, self._data, self._protocol, self._size = compute.place(net), data, protocol, size
        self._labeller, self._compute = labeller, compute
        self._share = 1.0
        self._normalise = normalisation(protocol, compute)
        self._fixed = self._labelled() if protocol.labels == "fixed" else None
        self._optimiser = self._fresh()

    def _fresh(self) -> torch.optim.Optimizer:
        protocol = self._protocol
        named = [(name, p) for name, p in self.net.named_parameters() if p.requires_grad]
        # RDED: "weight" in the name and more than one dimension; the rest is not decayed.
        matrices = {name for name, p in named if "weight" in name and p.ndim > 1}
        decayed = [p for name, p in named if protocol.decay == "all" or name in matrices]
        rest = [p for name, p in named if protocol.decay == "matrices" and name not in matrices]
        groups = [{"params": decayed, "weight_decay": protocol.weight_decay}]
        groups += [{"params": rest, "weight_decay": 0.0}] if rest else []
        if protocol.optimiser == "adamw":
            return torch.optim.AdamW(groups, lr=protocol.lr, betas=(0.9, 0.999), fused=True)
        return torch.optim.SGD(groups, lr=protocol.lr, momentum=protocol.momentum, fused=True)

    def begin(self, share: float) -> None:
        """Set the learning rate of an epoch, as a share of the first."""
        if self._protocol.schedule == "dc" and share != self._share:
            self._optimiser = self._fresh()  # DC makes a new optimiser where the rate drops
        self._share = share
        for group in self._optimiser.param_groups:
            group["lr"] = self._protocol.lr * share

    def step(self, batch: Batch) -> Tensor:
        """Train on one batch; return its loss, (), which nothing has waited for."""
        protocol, data = self._protocol, self._data
        plain, pixels = augmented_batch(data, batch, protocol, self._size, self._normalise)
        self.net.train()
        if protocol.double_pass:
            with torch.no_grad(), self._compute.autocast():
                # RDED cuts the batch in place, so that this pass sees the mixed images; mixup makes a new tensor.
                self.net(plain if protocol.mixing.kind == "mixup" else pixels)
        targets = None if protocol.labels == "hard" else self._soft(batch, pixels)
        with self._compute.autocast():
            logits = self.net(pixels)
        if targets is not None:
            loss = soft_loss(logits.float(), targets, protocol.temperature)
        else:
            labels = data.targets[to_device(batch.index, data.labels.device)]
            loss = hard_loss(logits.float(), labels, batch, self._size)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self._optimiser.step()
        return loss.detach()

    def _labelled(self) -> Tensor:
        """The teacher's probabilities (N, K) of the images as they are."""
        parts = torch.arange(len(self._data), device=self._data.images.device).split(JUDGING)
        return torch.cat([self._asked(apply(Augment(), self._data.pixels(index), {}, self._size)) for index in parts])

    def _soft(self, batch: Batch, pixels: Tensor) -> Tensor:
        if self._fixed is not None:
            own = self._fixed[to_device(batch.index, pixels.device)]
            if not batch.mixing:
                return own
            share = mixed_share(batch.mixing, self._size, self._size)
            return share * own + (1 - share) * own[to_device(batch.mixing["index"], pixels.device)]
        if batch.soft is not None:
            return to_device(batch.soft, pixels.device)
        return self._asked(pixels)

    def _asked(self, pixels: Tensor) -> Tensor:
        if self._labeller is None:
            raise ValueError("soft labels need a teacher, or batches that hold them")
        return soft_labels(self._labeller, self._data.colours(pixels), self._protocol.temperature, self._compute)

    def state(self) -> dict[str, Any]:
        return {"net": self.net.state_dict(), "optimiser": self._optimiser.state_dict(), "share": self._share}

    def load(self, state: Mapping[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._share = state["share"]


Normalisation = tuple[Tensor, Tensor]
"""Mean and deviation of the channels, each (3,), on the device."""


def normalisation(protocol: Protocol, compute: Compute) -> Normalisation:
    """What a student normalises with, for the augmentation that is defined on normalised pixels."""
    mean, std = protocol.mean_std
    return torch.tensor(mean, device=compute.device), torch.tensor(std, device=compute.device)


def augmented_batch(
    data: TensorSet, batch: Batch, protocol: Protocol, size: int, normalise: Normalisation
) -> tuple[Tensor, Tensor]:
    """A batch as a student sees it, float32 (B, C, size, size): augmented, and then mixed."""
    images = data.images[to_device(batch.index, data.images.device)]
    if data.space is None:
        plain = apply(protocol.augment, images, batch.view, size, *normalise)
    else:
        plain = apply(protocol.augment, images, batch.view, size, space=data.space)
    return plain, mix(plain, batch.mixing)


def soft_labels(labeller: Labeller, pixels: Tensor, temperature: float, compute: Compute = HERE) -> Tensor:
    """A teacher's probabilities (B, K), float32, at a temperature."""
    with torch.no_grad(), compute.autocast():
        logits = labeller(pixels)
    return F.softmax(logits.float() / temperature, dim=1)


def soft_loss(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """KL(targets || softmax(logits / T)), the mean over the batch, without the factor T^2 (RDED)."""
    return F.kl_div(F.log_softmax(logits / temperature, dim=1), targets, reduction="batchmean")


def hard_loss(logits: Tensor, labels: Tensor, batch: Batch, size: int) -> Tensor:
    """Cross entropy with classes (B,) or the set's own probabilities (B, K).

    With mixed images it is of both labels, by the share of pixels that each image has.
    """
    own = F.cross_entropy(logits, labels)
    if not batch.mixing:
        return own
    share = mixed_share(batch.mixing, size, size)
    other = F.cross_entropy(logits, labels[to_device(batch.mixing["index"], labels.device)])
    return own * share + other * (1 - share)


@torch.no_grad()
def predict(net: nn.Module, test: TensorSet, compute: Compute = HERE, logits: list[Tensor] | None = None) -> Tensor:
    """The classes that a student gives test images, int64 (N,); `logits` is given a float32 (B, K) for each batch."""
    net.eval()
    found = []
    for index in torch.arange(len(test), device=test.images.device).split(JUDGING):
        with compute.autocast():
            out = net(test.pixels(index))
        found.append(out.argmax(dim=1))
        if logits is not None:
            logits.append(out.float().cpu())
    return torch.cat(found)


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Top-1 in percent."""
    return 100 * float((predictions == labels.to(predictions.device)).double().mean())
