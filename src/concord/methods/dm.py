"""Distribution matching (DM; Zhao and Bilen 2023): each iteration in a network drawn anew, which is never trained.

Facts of VICO-UoE/DatasetCondensation, `main_DM.py`: in each iteration a ConvNet of instance norm; of each class 256
real images and all its own, under one shared draw of DSA; the sum over classes of the squared distance of mean features
is descended by SGD with momentum 0.5.
"""

import math
from typing import Any

import torch

from concord.data import dsa
from concord.methods.joint import JointMethod
from concord.methods.matching import View, descend, match
from concord.methods.settings import Dm
from concord.models.networks import ConvNet


class DistributionMatching(JointMethod):
    """See the module's text; a `Method`."""

    settings: Dm

    def begin(self) -> dict[str, Any]:
        return {"velocity": torch.zeros_like(self.images)}

    def step(self, iteration: int, generator: torch.Generator) -> float:
        real = self.real_batches(generator)
        net = self.network(generator).to(self.dtype)
        losses, gradient = match(net, real, self.by_class(), self.views(generator))
        gradient = gradient.view_as(self.images)
        descend(self.images, gradient, self.kept["velocity"], self.settings.lr, self.settings.momentum)
        return float(losses.mean())

    # --- what its improvement shares --------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Of the networks in which features are matched."""
        return getattr(torch, self.recipe.dtype)

    def by_class(self) -> torch.Tensor:
        """The images as (classes, IPC, 3, S, S)."""
        return self.images.view(len(self.data.classes), self.recipe.ipc, *self.images.shape[1:])

    def real_batches(self, generator: torch.Generator) -> list[torch.Tensor]:
        return [self.real.of_class(entry.label, self.settings.real, generator) for entry in self.data.classes]

    def views(self, generator: torch.Generator) -> list[View]:
        if not self.settings.dsa:
            return []
        return [dsa.draw(self.settings.dsa, 1, generator) for _ in self.data.classes]

    def network(self, generator: torch.Generator) -> ConvNet:
        """A network of the settings' shape, as torch draws one, by a seed of the generator's."""
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            depth = self.settings.depth or usual_depth(self.side)
            net = ConvNet(depth, len(self.data.classes), self.side, "instance", width=self.settings.width)
        return net.requires_grad_(False).to(self.device)


def usual_depth(side: int) -> int:
    """Blocks of the field's ConvNets: 3 at 28 and 32 px, 4 at 64, 5 at 128, 6 at 224 and 256."""
    return min(6, max(1, round(math.log2(side)) - 2))
