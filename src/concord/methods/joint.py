"""What methods share that optimise all pixels of a set together: the real images, one resumable descent, float images.

An iteration is a function of what was before it, the recipe's seed and its number: its draws come from a generator of
its own, so that a descent that was killed goes on as if it had not been.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concord.data import ImageSet
from concord.data.space import Space
from concord.data.tensor_set import TensorForm
from concord.data.tensors import TensorSet, for_training, load
from concord.errors import ConcordError
from concord.events import Progress
from concord.methods.base import Cost, GeneratedImage
from concord.methods.initial import Initial
from concord.methods.settings import Descent, Joint
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.storage.atomic import disk_errors, make_directories
from concord.storage.torch_file import load_torch_file, save_torch_file
from concord.system import resolve_device
from concord.text import duration

STATE = "state.pt"
"""What an optimisation has come to, in the folder that is the method's while it fits."""
KEPT = {"iteration", "images", "kept", "space", "losses", "since", "cpu_seconds"}
EVERY, SHARE = 60.0, 50
"""Seconds between two checkpoints, at least; and so many times what the last one took."""
TOLD = 100
"""How many losses of a whole descent are kept, each the mean over the iterations since the one before."""


class RealImages:
    """All real images in memory, uint8, given out at random as values of a space, float32 on a device."""

    def __init__(self, images: TensorSet, space: Space, device: torch.device) -> None:
        self._images, self._space, self._device = images, space.to(device), device
        counts = images.labels.bincount().tolist()
        self._starts = [sum(counts[:label]) for label in range(len(counts) + 1)]

    def of_class(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """So many images (n, 3, S, S) of a class, none twice; all where it has no more."""
        start, end = self._starts[label : label + 2]
        return self._values(start + torch.randperm(end - start, generator=generator)[:count])

    def mixed(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """So many images of all classes, none twice, and their labels (n,)."""
        places = torch.randperm(len(self._images), generator=generator)[:count]
        return self._values(places), self._images.labels[places].to(self._device)

    def _values(self, places: Tensor) -> Tensor:
        return self._space.of_pixels(self._images.images[places].to(self._device).float().div_(255))


class JointMethod(ABC):
    """A `Method` that `Fits`, and is `InTensors`: a subclass says what it keeps and what an iteration does.

    images: (classes x IPC, 3, S, S) float32 on the device, by label and index; `step` moves them. kept: what else goes
    from one iteration to the next, tensors in plain containers. factor: see `TensorForm.decode`.
    """

    batch_size = 10
    variants = ("images",)
    images: Tensor
    kept: dict[str, Any]
    real: RealImages
    space: Space
    losses: list[list[float]]
    seconds: float

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self.recipe, self.data, self.name = recipe, data, recipe.method
        self.settings: Descent = recipe.of_method
        self.factor = 1

    @abstractmethod
    def begin(self) -> dict[str, Any]:
        """What is `kept` before the first iteration."""

    @abstractmethod
    def step(self, iteration: int, generator: torch.Generator) -> float:
        """Move the images; return the loss of a class before. generator: on the CPU, for all that it draws."""

    # --- a method -------------------------------------------------------------------------------------------------

    def count(self, class_index: int, ipc: int) -> int:
        self._initial.require(self.data.classes[class_index])
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        key = self.data.classes[class_index].key
        return Sample(class_index, index, sample_seed(self.recipe.seed, key, index))

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        ipc = self.recipe.ipc
        found = []
        for sample in batch:  # of one beyond the IPC, which a batch's end may ask for, nothing is kept
            values = self.images[sample.class_index * ipc + min(sample.index, ipc - 1)].cpu()
            found.append(GeneratedImage(self.space.picture(values), tensor=values.numpy()))
        return found

    def cost(self) -> Cost:
        return Cost(bytes_per_image=None if (side := self.recipe.size) is None else 15.0 * side**2)

    def form(self) -> TensorForm:
        return TensorForm(self.space, decode=self.factor)

    def facts(self) -> dict[str, Any]:
        """What results.json says of the descent, where this call had a part in it."""
        if not hasattr(self, "losses"):
            return {}
        return {
            "descent": {
                "iterations": self.settings.iterations,
                "cpu_seconds": round(self.seconds, 1),
                "loss": self.losses,
            }
        }

    # --- the descent ----------------------------------------------------------------------------------------------

    def fit(self, folder: Path, progress: Progress) -> None:
        state = read_state(folder / STATE)
        done, total = (state["iteration"] if state else 0), self.settings.iterations
        progress.stage("fitting: reading the real images")
        images = self._load() if done < total else None
        if state is None:
            assert images is not None
            self.space = self._space(images)
            self.images = self._initial.values(self.space, images.side).to(self.device)
        else:
            space = Space.of_tensors(state["space"])
            assert space is not None
            self.space, self.images = space, _on(self.device, state["images"])
        if images is not None:
            self.side = images.side
            self.real = RealImages(images, self.space, self.device)
        self.kept = _on(self.device, state["kept"]) if state else self.begin()
        self.losses, since = (state["losses"], state["since"]) if state else ([], list[float]())
        self.seconds = state["cpu_seconds"] if state else 0.0
        begun = saved = told = time.monotonic()
        pause, worked = EVERY, time.process_time()
        for iteration in range(done, total):
            loss = self.step(iteration, self.generator(iteration))
            if not math.isfinite(loss):
                raise ConcordError(
                    f"{self.name}: the loss is {loss} at iteration {iteration}, so that nothing would come of it;"
                    f" give a smaller {self.name}.lr, or dtype=float32"
                )
            since.append(loss)
            if (iteration + 1) * TOLD // total > iteration * TOLD // total:
                self.losses.append([iteration + 1, round(sum(since) / len(since), 4)])
                since = []
            now, last = time.monotonic(), iteration + 1 == total
            if now - told > 1 or last:
                told = now
                left = duration((now - begun) / (iteration + 1 - done) * (total - iteration - 1))
                progress.stage(f"fitting: iteration {iteration + 1} of {total}, loss {loss:.4g}, {left} left")
            if last or now - saved > pause:
                self.seconds, worked = self.seconds + time.process_time() - worked, time.process_time()
                self._write(folder, iteration + 1, since)
                saved = time.monotonic()
                pause = max(EVERY, SHARE * (saved - now))
        if done < total:
            progress.note(f"{total} iterations, loss {self.losses[-1][1]:.4g} of a class over the last")

    def generator(self, of: int | str) -> torch.Generator:
        """What the draws of an iteration come from, on the CPU, or those of a name."""
        return torch.Generator().manual_seed(sample_seed(self.recipe.seed, self.name, of))

    def _write(self, folder: Path, iteration: int, since: list[float]) -> None:
        state = {
            "iteration": iteration,
            "images": self.images,
            "kept": self.kept,
            "space": self.space.tensors(),
            "losses": self.losses,
            "since": since,
            "cpu_seconds": self.seconds,
        }
        with disk_errors(folder):
            make_directories(folder)
        save_torch_file(folder / STATE, _on(torch.device("cpu"), state))

    @cached_property
    def device(self) -> torch.device:
        return torch.device(resolve_device(self.recipe.device))

    @cached_property
    def _initial(self) -> Initial:
        return Initial(self.recipe, self.data, self.settings.init, f"{self.name}.init", self.factor)

    def _load(self) -> TensorSet:
        """All real images at the recipe's size, or at their own where they are squares alike."""
        side = self.recipe.size or own_side(self.data, f"{self.name}: ")
        if side % self.factor or side < 8:
            raise ConcordError(f"{self.name}: images of {side} px; expected 8 or more, and a multiple of {self.factor}")
        return load(self.data, for_training(side))

    def _space(self, images: TensorSet) -> Space:
        """The space that the recipe names; else by the mean and the deviation of the real images' channels."""
        named = self.settings.space if isinstance(self.settings, Joint) else None
        return channel_space(images) if named is None else Space.named(named)


def own_side(data: ImageSet, of: str = "") -> int:
    """Pixels of the side of images that are squares alike. Raises ConcordError: they are not; `of` stands before it."""
    sides = {data.size(item) for entry in data.classes for item in data.items(entry.label)}
    if len(sides) != 1 or len(set(*sides)) > 1:
        raise ConcordError(f"{of}the real images are no squares of one size; give size=")
    return sides.pop()[0]


def channel_space(images: TensorSet) -> Space:
    """The space in which the channels of some images have mean 0 and deviation 1."""
    parts = [part.double().div_(255) for part in images.images.split(1000)]
    total = sum(len(part) for part in parts) * images.side**2
    mean = torch.stack([part.sum((0, 2, 3)) for part in parts]).sum(0) / total
    square = torch.stack([part.square().sum((0, 2, 3)) for part in parts]).sum(0) / total
    deviation = (square - mean.square()).clamp(min=1e-12).sqrt()
    return Space.normalised(mean.tolist(), deviation.tolist())


def _on(device: torch.device, value: Any) -> Any:
    """Tensors in plain containers, copied to a device: those of a file are mapped to it, and it is written anew."""
    if isinstance(value, Tensor):
        return value.detach().to(device, copy=True)
    if isinstance(value, dict):
        return {key: _on(device, one) for key, one in value.items()}
    return [_on(device, one) for one in value] if isinstance(value, list) else value


def read_state(path: Path) -> dict[str, Any] | None:
    """What an earlier call left of a descent, on the CPU; None where it did not. Raises ConcordError: it is damaged.

    `KEPT` has its keys: how many iterations are done, images (N, 3, S, S) and what space they are in, ...
    """
    if not path.is_file():
        return None
    damaged = f"{path} is damaged; take it away to begin anew"
    try:
        state = load_torch_file(path, "checkpoint of a descent", damaged)
    except ConcordError as error:
        raise ConcordError(damaged) from error
    if not isinstance(state, dict) or not state.keys() >= KEPT:
        raise ConcordError(damaged)
    return state
