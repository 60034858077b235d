"""What a training sees, step by step: which images, how augmented, how mixed. All of it is drawn from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from torch import Tensor

from concord.evaluation.augment import View, draw
from concord.evaluation.mixing import draw_mix
from concord.evaluation.protocol import Protocol


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
        ...


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
        for index in order.split(self.batch):  # a last smaller batch is kept, as in RDED, IDC and DC
            view = draw(self.protocol.augment, len(index), self.side, self.side, generator)
            yield Batch(index, view, draw_mix(self.protocol.mixing, len(index), self.size, self.size, generator))
