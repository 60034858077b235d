"""A straightforward loop of the evaluation protocols: what `concord.evaluation` is measured and checked against.

Written after the facts of RDED's and DC's code (see concord.evaluation.protocols) as such loops are: torchvision's
ImageFolder and transforms on one image at a time, a DataLoader, one seed after another. It shares the networks with the
package and nothing else. `kept` holds the decoded images in memory, as RDED's loader can.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
TEMPERATURE = 20.0
CUDA = torch.cuda.is_available()


def shuffled(image: Tensor, columns: list[int], rows: list[int]) -> Tensor:
    """An image (3, H, W) cut into strips from left to right, put in an order; then the same from top to bottom."""
    for axis, order in ((2, columns), (1, rows)):
        side, strips = image.shape[axis], len(order)
        width = side // strips
        edges = [width * i for i in range(strips)] + [side]
        parts = [image.narrow(axis, edges[i], edges[i + 1] - edges[i]) for i in order]
        image = torch.cat(parts, axis)
    return image


class PatchShuffle:
    """Two strips each way, in a random order."""

    def __call__(self, image: Tensor) -> Tensor:
        columns, rows = [0, 1], [0, 1]
        random.shuffle(columns)
        random.shuffle(rows)
        return shuffled(image, columns, rows)


def rded_transform(size: int) -> Callable[[Image.Image], Tensor]:
    return transforms.Compose(
        [
            transforms.ToTensor(),
            PatchShuffle(),
            transforms.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def dc_transform(size: int) -> Callable[[Image.Image], Tensor]:
    return transforms.Compose(
        [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(CIFAR_MEAN, CIFAR_STD)]
    )


def test_transform(protocol: str, size: int) -> Callable[[Image.Image], Tensor]:
    if protocol == "dc":
        return dc_transform(size)
    return transforms.Compose(
        [
            transforms.Resize(size // 7 * 8),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


class Kept(ImageFolder):
    """An ImageFolder that decodes each image once."""

    def __init__(self, root: Path, transform: Callable[[Image.Image], Tensor]) -> None:
        super().__init__(str(root), transform)
        self._images = [self.loader(path) for path, _ in self.samples]

    def __getitem__(self, place: int) -> tuple[Any, Any]:
        return self.transform(self._images[place]), self.targets[place]


def loader(folder: Path, protocol: str, size: int, batch: int, workers: int = 0, kept: bool = False) -> DataLoader[Any]:
    transform = rded_transform(size) if protocol == "rded" else dc_transform(size)
    data = Kept(folder, transform) if kept else ImageFolder(str(folder), transform)
    return DataLoader(
        data,
        batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=CUDA,
    )


def test_loader(folder: Path, protocol: str, size: int) -> DataLoader[Any]:
    return DataLoader(ImageFolder(str(folder), test_transform(protocol, size)), 500)


def seed(number: int) -> None:
    """Seed all that a loop draws from."""
    random.seed(number)
    torch.manual_seed(number)


def random_box(side: int) -> tuple[int, int, int, int]:
    """CutMix's box as y1, y2, x1, x2: of a share 1 - Beta(1, 1) of the image, about a random pixel."""
    cut = int(side * math.sqrt(1 - random.betavariate(1, 1)))
    y, x = random.randrange(side), random.randrange(side)
    return max(y - cut // 2, 0), min(y + cut // 2, side), max(x - cut // 2, 0), min(x + cut // 2, side)


def rded_step(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    optimiser: torch.optim.Optimizer,
    others: Tensor,
    box: tuple[int, int, int, int],
) -> float:
    """One step on normalised images (B, 3, S, S), which are cut and mixed in place; return the loss.

    others: (B,) the image from which each takes the box.
    """
    y1, y2, x1, x2 = box
    images[:, :, y1:y2, x1:x2] = images[others][:, :, y1:y2, x1:x2]
    student.train()
    with torch.no_grad():
        student(images)
        soft = torch.softmax(teacher(images) / TEMPERATURE, dim=1)
    logs = torch.log_softmax(student(images) / TEMPERATURE, dim=1)
    loss = torch.sum(soft * (torch.log(soft) - logs)) / len(images)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def dc_step(student: nn.Module, images: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer) -> float:
    student.train()
    loss = F.cross_entropy(student(images), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def optimiser(student: nn.Module, protocol: str) -> torch.optim.Optimizer:
    if protocol == "dc":
        return torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    weights = [p for p in student.parameters() if p.dim() > 1]
    rest = [p for p in student.parameters() if p.dim() <= 1]
    groups = [{"params": weights, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.001)


class Loop:
    """A training by this loop; the networks take normalised images.

    teacher: None with the `dc` protocol.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None,
        protocol: str,
        batches: Iterable[Any],
        device: str = "cpu",
    ) -> None:
        self.student, self._teacher, self._protocol = student.to(device), teacher, protocol
        self._batches, self._device = batches, device
        self._optimiser = optimiser(self.student, protocol)

    def begin(self, number: int, epochs: int) -> None:
        """Set the learning rate of an epoch, from 0."""
        if self._protocol == "rded":
            for group in self._optimiser.param_groups:
                group["lr"] = 0.001 * 0.5 * (1 + math.cos(math.pi * number / epochs / 2))
        elif number == epochs // 2 + 2:
            self._optimiser = torch.optim.SGD(self.student.parameters(), lr=0.001, momentum=0.9, weight_decay=5e-4)

    def epoch(self, number: int, epochs: int) -> None:
        self.begin(number, epochs)
        for images, labels in self._batches:
            images, labels = images.to(self._device), labels.to(self._device)
            if self._teacher is None:
                dc_step(self.student, images, labels, self._optimiser)
            else:
                others = torch.randperm(len(images), device=self._device)
                self.rded(images, others, random_box(images.shape[-1]))

    def rded(self, images: Tensor, others: Tensor, box: tuple[int, int, int, int]) -> None:
        if self._teacher is None:
            raise ValueError("RDED's labels are a teacher's")
        rded_step(self.student, self._teacher, images, self._optimiser, others, box)

    @torch.no_grad()
    def accuracy(self, tests: DataLoader[Any]) -> float:
        """Top-1 in percent."""
        self.student.eval()
        right = total = 0
        for images, labels in tests:
            right += (self.student(images.to(self._device)).argmax(1).cpu() == labels).sum().item()
            total += len(labels)
        return 100 * right / total
