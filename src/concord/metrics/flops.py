"""Counting the operations of code as it runs: matrix products, convolutions, attention; two a multiply-add."""

import contextlib
from typing import Any

from torch.utils.flop_counter import FlopCounterMode


class Counter(FlopCounterMode):
    """`FlopCounterMode` without its account by module, whose hooks `torch.autograd.grad` does not bear."""

    def __init__(self) -> None:
        super().__init__(display=False)
        self.mod_tracker: Any = _Untracked()


class _Untracked(contextlib.nullcontext[None]):
    parents = frozenset({"Global"})
