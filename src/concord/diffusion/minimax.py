"""Minimax's two terms on predicted clean latents (Gu et al. 2024): like each real image, and like no other made one."""

from collections import deque
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F


class Memory:
    """The last latents of each class, the first in being the first out; they carry no gradient.

    size: latents a class.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._of: dict[int, deque[Tensor]] = {}

    def add(self, latents: Tensor, labels: Iterable[int]) -> None:
        """Take in latents (B, C, h, w) of these B classes, in their order."""
        for latent, label in zip(latents.detach(), labels, strict=True):
            self._of.setdefault(label, deque(maxlen=self.size)).append(latent.float().clone())

    def of(self, label: int) -> Tensor | None:
        """The latents (N, C, h, w) of a class, the oldest first; None where there are none yet."""
        return torch.stack(list(self._of[label])) if label in self._of else None

    def state(self) -> dict[int, Tensor]:
        return {label: torch.stack(list(rows)) for label, rows in self._of.items()}

    def load(self, state: dict[int, Tensor], device: torch.device | str = "cpu") -> None:
        self._of = {label: deque(rows.to(device), maxlen=self.size) for label, rows in state.items()}


def similarity(predicted: Tensor, memory: Tensor) -> Tensor:
    """Cosines (B, N) of latents (B, C, h, w) with remembered ones (N, C, h, w), each taken as one vector."""
    rows, columns = (F.normalize(one.flatten(1).float(), dim=1) for one in (predicted, memory))
    return rows @ columns.T


def representativeness(predicted: Tensor, real: Tensor) -> Tensor:
    """1 - the cosine with the least similar real latent, meaned over the images: 0 where all are alike, at most 2.

    Minimising it draws predictions towards the real latent that they are farthest from, so that they cover all.
    """
    return (1 - similarity(predicted, real).amin(dim=1)).mean()


def diversity(predicted: Tensor, made: Tensor) -> Tensor:
    """The cosine with the most similar earlier prediction, meaned over the images, in [-1, 1].

    Minimising it drives predictions away from the one that they are nearest to.
    """
    return similarity(predicted, made).amax(dim=1).mean()


def minimax_loss(
    predicted: Tensor, labels: list[int], real: Memory, made: Memory, weights: tuple[float, float]
) -> Tensor:
    """Both terms of a batch: the sum over its classes, each with its own memories, divided by the number of classes.

    predicted: (B, C, h, w) clean estimates with their graph. labels: B classes. weights: of representativeness and
    diversity. A term whose memory is empty is 0.
    """
    total = predicted.new_zeros((), dtype=torch.float32)
    classes = sorted(set(labels))
    for label in classes:
        mine = predicted[[other == label for other in labels]]
        if weights[0] and (memory := real.of(label)) is not None:
            total = total + weights[0] * representativeness(mine, memory)
        if weights[1] and (memory := made.of(label)) is not None:
            total = total + weights[1] * diversity(mine, memory)
    return total / len(classes)
