"""Improved distribution matching (IDM; Zhao, Li, Qin and Yu 2023): DM in networks that learn, with images in parts.

From a description of uitrbn/IDM, which has no licence. Three things are added to DM. An image holds 2 x 2 smaller ones,
each scaled up before it is seen. Features are those of a network drawn from a queue; the queue gets a new network now
and then, loses the oldest when it is full, and in each iteration some of its networks are trained on real images.
The loss of a class has its images' cross-entropy, too, weighed by how well the network has learnt: its running accuracy
on the images that it was trained with, in per cent, so up to 100.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data import ImageSet
from concord.methods.dm import DistributionMatching
from concord.methods.matching import descend, match
from concord.methods.settings import Idm
from concord.models.networks import ConvNet
from concord.recipe import Recipe

LR, MOMENTUM, DECAY = 0.01, 0.9, 5e-4
"""How networks are trained."""
Learner = dict[str, Any]
"""A network of the queue: its `weights`, their `velocity`, images `seen` and `right` of late."""


class ImprovedMatching(DistributionMatching):
    """See the module's text; a `Method`."""

    settings: Idm  # type: ignore[assignment]

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        super().__init__(recipe, data)
        self.factor = self.settings.factor

    def begin(self) -> dict[str, Any]:
        generator = self.generator("queue")
        queue = [self._learner(generator) for _ in range(self.settings.start)]
        return {**super().begin(), "queue": queue}

    def step(self, iteration: int, generator: torch.Generator) -> float:
        settings, queue = self.settings, self.kept["queue"]
        if iteration and iteration % settings.forget == 0:
            for learner in queue:
                learner["seen"] = learner["right"] = 0
        if iteration % settings.every == 0:
            push(queue, self._learner(generator), settings.networks)
        loss = self._match(queue[int(torch.randint(len(queue), (), generator=generator))], generator)
        for place in torch.randperm(len(queue), generator=generator)[: settings.trained].tolist():
            self._train(queue[place], generator)
        return loss

    def _match(self, learner: Learner, generator: torch.Generator) -> float:
        """Move the images by a step of SGD for each class in turn: momentum moves those of all others meanwhile."""
        settings, images = self.settings, self.by_class()
        velocity = self.kept["velocity"].view_as(images)
        before = torch.arange(len(images), device=self.device)
        coast(images, velocity, before, settings.lr, settings.momentum)
        net, real, views = self._restored(learner).to(self.dtype), self.real_batches(generator), self.views(generator)
        losses, gradient = match(net, real, images, views, self.factor, settings.ce * accuracy(learner))
        descend(images, gradient, velocity, settings.lr, settings.momentum)
        coast(images, velocity, before.flip(0), settings.lr, settings.momentum)
        return float(losses.mean())

    def _train(self, learner: Learner, generator: torch.Generator) -> None:
        net = self._restored(learner).requires_grad_()
        optimiser = torch.optim.SGD(net.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
        for name, velocity in learner["velocity"].items():
            optimiser.state[net.get_parameter(name)]["momentum_buffer"] = velocity
        for _ in range(self.settings.steps):
            images, labels = self.real.mixed(self.settings.batch, generator)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = net(images)
                loss = F.cross_entropy(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            learner["seen"] += len(labels)
            learner["right"] += int((logits.argmax(1) == labels).sum())
        learner["weights"] = weights_of(net)
        learner["velocity"] = {name: optimiser.state[one]["momentum_buffer"] for name, one in net.named_parameters()}

    def _learner(self, generator: torch.Generator) -> Learner:
        return {"weights": weights_of(self.network(generator)), "velocity": {}, "seen": 0, "right": 0}

    def _restored(self, learner: Learner) -> ConvNet:
        net = self.network(torch.Generator())
        net.load_state_dict(learner["weights"])
        return net


def weights_of(net: ConvNet) -> dict[str, Tensor]:
    return {name: one.detach() for name, one in net.named_parameters()}


def accuracy(learner: Learner) -> float:
    """How many of the images that a network was trained with of late it named rightly, in per cent; 0 of none."""
    return 100 * learner["right"] / learner["seen"] if learner["seen"] else 0.0


def push(queue: list[Learner], learner: Learner, most: int) -> None:
    """Add a network to a queue; the oldest leaves one that is full."""
    if len(queue) == most:
        del queue[0]
    queue.append(learner)


def coast(images: Tensor, velocity: Tensor, steps: Tensor, lr: float, momentum: float) -> None:
    """Steps of SGD without a gradient, in place: momentum alone moves. steps: (classes,) how many, of each class's."""
    of_class = steps.view(-1, *(1,) * (images.ndim - 1)).to(images)
    left = momentum**of_class
    images.sub_(lr * momentum * (1 - left) / (1 - momentum) * velocity)
    velocity.mul_(left)
