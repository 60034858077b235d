"""MTT (Cazenavette et al. 2022): images on which a network takes the way that experts took on the real ones.

Facts of GeorgeCazenavette/mtt-distillation, `distill.py`: each iteration begins at a random epoch of a random expert;
SGD with momentum 0.5 on the images and on the rate with which students are trained on them, without clamping; each
step's images have a draw of DSA of their own. `concord.methods.trajectory` has the loss and its gradient.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from concord.data import dsa
from concord.data.space import Space
from concord.data.tensor_set import TensorForm
from concord.data.tensors import TensorSet, for_training, load
from concord.errors import ConcordError
from concord.methods.experts import Experts, open_experts
from concord.methods.joint import JointMethod
from concord.methods.matching import descend
from concord.methods.settings import Mtt
from concord.methods.trajectory import Step, match
from concord.models.networks import ConvNet
from concord.text import listed


class TrajectoryMatching(JointMethod):
    """See the module's text; a `Method`."""

    settings: Mtt

    def count(self, class_index: int, ipc: int) -> int:
        _ = self._experts
        return super().count(class_index, ipc)

    def begin(self) -> dict[str, Any]:
        rate = torch.tensor(self.settings.rate, device=self.device)
        zeros = torch.zeros_like(self.images), torch.zeros_like(rate)
        return {"velocity": zeros[0], "rate": rate, "rate_velocity": zeros[1], "experts": self._experts.digest}

    def step(self, iteration: int, generator: torch.Generator) -> float:
        settings, experts, kept = self.settings, self._experts, self.kept
        if kept["experts"] != experts.digest:
            raise ConcordError(f"mtt.experts: {experts.root} holds others than those that the set was begun with")
        number, epoch = (int(torch.randint(most, (), generator=generator)) for most in (experts.count, settings.start))
        start, target = (experts.parameters(number, at).to(self.device) for at in (epoch, epoch + settings.epochs))
        labels = torch.arange(len(self.data.classes), device=self.device).repeat_interleave(self.recipe.ipc)
        found = match(self._network, start, target, self.images, labels, self._steps(generator), kept["rate"])
        descend(self.images, found.images, kept["velocity"], settings.lr, settings.momentum)
        descend(kept["rate"], found.rate, kept["rate_velocity"], settings.rate_lr, settings.momentum)
        if not float(kept["rate"]) > 0:
            raise ConcordError(
                f"mtt: the learnt rate fell to {float(kept['rate']):.3g} at iteration {iteration}, with which no"
                " student learns; give a smaller mtt.rate_lr, or another mtt.rate to begin with"
            )
        return float(found.loss)

    def form(self) -> TensorForm:
        return TensorForm(self.space, rate=float(self.kept["rate"]))

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({"rate": float(self.kept["rate"])} if hasattr(self, "kept") else {})

    def _steps(self, generator: torch.Generator) -> list[Step]:
        """The student's steps: all images in a random order, a batch at a time, and over again."""
        count, steps = len(self.images), list[Step]()
        while len(steps) < self.settings.steps:
            order = torch.randperm(count, generator=generator)
            for index in order.split(self.settings.batch or count)[: self.settings.steps - len(steps)]:
                view = dsa.draw(self.settings.dsa, len(index), generator) if self.settings.dsa else None
                on_device = None if view is None else {name: of.to(self.device) for name, of in view.items()}
                steps.append(Step(index.to(self.device), on_device))
        return steps

    @cached_property
    def _experts(self) -> Experts:
        """Raises ConcordError: they are not of these classes, of another size, or were not trained long enough."""
        found, key = open_experts(Path(self.settings.experts or "").expanduser(), "mtt.experts"), "mtt.experts"
        folders, size = [entry.folder for entry in self.data.classes], self.recipe.size
        if list(found.classes) != folders:
            theirs = listed(found.classes)
            raise ConcordError(
                f"{key}: those in {found.root} know the classes {theirs}, the data have {listed(folders)}"
            )
        if size not in (None, found.side):
            raise ConcordError(
                f"{key}: those in {found.root} are for {found.side} px, not {size}; give size={found.side}"
            )
        if self.settings.start - 1 + self.settings.epochs > found.epochs:
            raise ConcordError(
                f"mtt.start={self.settings.start} and mtt.epochs={self.settings.epochs} ask for experts of"
                f" {self.settings.start - 1 + self.settings.epochs} epochs; those in {found.root} have {found.epochs}"
            )
        return found

    @cached_property
    def _network(self) -> ConvNet:
        return self._experts.network().requires_grad_(False).to(self.device)

    def _load(self) -> TensorSet:
        return load(self.data, for_training(self._experts.side))

    def _space(self, images: TensorSet) -> Space:
        return self._experts.space
