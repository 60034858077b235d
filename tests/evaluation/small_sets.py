"""Sets, students and teachers so small that whole trainings take a moment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from concord.data.tensors import TensorSet
from concord.events import Silent
from concord.models.students import Student, build_student

torch.set_num_threads(1)

SIDE = 16
CLASSES = 3


class Heard(Silent):
    """Keeps what work tells of itself; `step`, called with what is done after each unit, may stop it."""

    def __init__(self, step: Callable[[int], None] = lambda done: None) -> None:
        self.total = self.done = self.begun = 0
        self.facts: list[Mapping[str, Any]] = []
        self.notes: list[str] = []
        self.watched: tuple[int, Callable[[], int]] = (0, lambda: 0)
        self._step = step

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, total: int, done: int) -> None:
        self.total, self.done, self.begun = total, done, done

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        self.done += count
        self.facts += facts
        self._step(self.done)

    def watch(self, total: int, seen: Callable[[], int]) -> None:
        self.watched = total, seen


def coloured(labels: Tensor, side: int = SIDE, seed: int = 0) -> TensorSet:
    """Noise in which the channel of the class is brighter: something that a student learns within a few steps."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 150, (len(labels), 3, side, side), generator=generator, dtype=torch.uint8)
    images[torch.arange(len(labels)), labels % 3] += 80
    return TensorSet(images, labels)


def small_set(n: int = 12, side: int = SIDE, seed: int = 0) -> TensorSet:
    return coloured(torch.arange(n) * CLASSES // n, side, seed)


def student(seed: int = 0, norm: str = "batch", size: int = SIDE) -> Student:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build_student("convnet-2", CLASSES, size, norm=norm, width=8)


def labeller(seed: int = 100) -> Student:
    """A teacher: some student whose answers are far from uniform, in evaluation mode."""
    net = student(seed)
    with torch.no_grad():
        net(torch.rand(32, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)))
        net.net.classifier.weight.mul_(8)  # type: ignore[union-attr, operator]
    return net.eval().requires_grad_(False)


def weights(net: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def close(one: Mapping[str, Tensor], other: Mapping[str, Tensor], atol: float) -> None:
    for name in one.keys() | other.keys():
        torch.testing.assert_close(one[name], other[name], atol=atol, rtol=0, msg=lambda text, n=name: f"{n}: {text}")


def frozen(state: Mapping[str, Any]) -> Any:
    """A state as it would come back from a file: what goes on in training does not reach it."""
    return copy.deepcopy(dict(state))


def write_folders(root: Path, counts: Mapping[str, int], side: int = SIDE, seed: int = 0) -> Path:
    """An image folder with so many coloured squares of each class; the first of a class are the same for any count."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            images = coloured(torch.tensor([label]), side, seed * 1000 + label * 100 + number).images
            Image.fromarray(np.ascontiguousarray(images[0].permute(1, 2, 0).numpy())).save(
                root / name / f"{number:03d}.png"
            )
    return root
