"""RDED's own evaluator, run from a checkout of LINs-lab/RDED on the CPU: its `validation.main`, no line of it changed.

What it takes for granted is put around it: a working directory with the set, the test images and the teacher where it
looks for them, as its CIFAR-10 with ConvNet-3 (ten classes at 32 px); `.cuda()` that stays where it is; the width of
its ConvNet; and first weights and numpy's draws by the seed, which it leaves to chance.
"""

from __future__ import annotations

import contextlib
import io
import random
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn


class Checkout:
    """A checkout at `root`, made ready in the directory `work` for one set, to be trained by any seed.

    train, test: folders 00000, 00001, ... of PNG files, `ipc` and `tests` in each. teacher: a ConvNet-3 of `width`
    with batch norm, of normalised images at 32 px. Raises SystemExit: no checkout of RDED.
    """

    def __init__(
        self,
        root: Path,
        work: Path,
        train: Path,
        test: Path,
        teacher: nn.Module,
        width: int,
        ipc: int,
        tests: int,
        epochs: int,
    ) -> None:
        if not (root / "validation" / "main.py").is_file():
            raise SystemExit(f"{root} is no checkout of github.com/LINs-lab/RDED: it has no validation/main.py")
        self._work, self._width = work, width
        (work / "data" / "cifar10").mkdir(parents=True, exist_ok=True)
        (work / "data" / "pretrain_models").mkdir(exist_ok=True)
        torch.save({"model": teacher.state_dict()}, work / "data" / "pretrain_models" / "cifar10_conv3.pth")
        sys.path.insert(0, str(root.resolve()))
        given = {"subset": "cifar10", "arch-name": "conv3", "stud-name": "conv3", "ipc": ipc, "re-epochs": epochs}
        argv = ["main.py", *(f"--{key}={value}" for key, value in given.items())]
        with contextlib.chdir(work), patch.object(sys, "argv", argv), warnings.catch_warnings(action="ignore"):
            self._args = import_module("argument").args
            self._main, self._utils = import_module("validation.main"), import_module("synthesize.utils")
        self._args.val_ipc = tests
        for place, images in ((work / self._args.syn_data_path, train), (work / self._args.val_dir, test)):
            if not place.is_symlink():
                place.symlink_to(images.resolve(), target_is_directory=True)

    def __call__(self, seed: int) -> list[float]:
        """Train by a seed; return the accuracies (percent) in the order in which its code reads them."""
        read: list[float] = []
        load, validate, convnet = self._main.load_model, self._main.validate, self._utils.ConvNet

        def seeded(*args: Any, **kwargs: Any) -> nn.Module:
            if not kwargs["pretrained"]:
                torch.manual_seed(seed)
            net: nn.Module = load(*args, **kwargs)
            return net

        def noted(*args: Any) -> float:
            read.append(float(validate(*args)))
            return read[-1]

        self._args.seed = seed
        np.random.seed(seed)
        with (
            contextlib.chdir(self._work),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
            on_cpu(),
            patch.object(self._utils, "ConvNet", lambda **given: convnet(**{**given, "net_width": self._width})),
            patch.object(self._main, "load_model", seeded),
            patch.object(self._main, "validate", noted),
        ):
            self._main.main(self._args)
        random.seed()
        return read


@contextlib.contextmanager
def on_cpu() -> Iterator[None]:
    """Have `.cuda()` return what it is asked of."""
    with patch.object(torch.Tensor, "cuda", lambda tensor: tensor), patch.object(nn.Module, "cuda", lambda net: net):
        yield


def commit(root: Path) -> str:
    """The checkout's commit, or that it is not told."""
    called = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(called, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
