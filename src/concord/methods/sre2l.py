"""SRe2L (Yin et al. 2023): images recovered from a teacher, whose batch norm remembers what its training images were.

A batch of noise descends the teacher's cross-entropy with the classes wanted, and the distance of its statistics in
every batch norm to the running ones. Facts of VILA-Lab/SRe2L, `recover`: Adam with betas (0.5, 0.9), a cosine to zero,
one random crop and one shift for the whole batch at each step, pixels clamped to what an image can have after it, and
the last iterate kept. A batch has consecutive classes of the endless plan, each once: it is the unit of bytes.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import Compose, RandomHorizontalFlip, RandomResizedCrop

from concord.data import ImageSet
from concord.errors import ConcordError
from concord.methods.base import Cost, GeneratedImage
from concord.methods.real import ImagePool, shuffled
from concord.methods.settings import Sre2l
from concord.methods.teacher import open_teacher, seen_side, try_teacher
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.storage.images import encode, to_pil
from concord.system import quartiles, timed

if TYPE_CHECKING:
    from concord.models.teachers import Teacher

BETAS = (0.5, 0.9)
TIMED = 4
"""Steps that say what one takes."""


def batch_norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """The layers of a network that keep running statistics of a batch, in their order."""
    kept = (m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    return [layer for layer in kept if layer.running_mean is not None]


@contextmanager
def statistics(layers: Sequence[nn.modules.batchnorm._BatchNorm]) -> Iterator[Callable[[], list[Tensor]]]:
    """Watch what layers are given meanwhile; what is yielded gives the distances of the last forward pass, each ().

    A layer's is ||running_var - var|| + ||running_mean - mean||, Euclidean norms over its channels, with the mean and
    the biased variance of its input over batch and pixels.
    """
    seen: dict[int, Tensor] = {}

    def hook(place: int, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen[place] = given[0]

    def distances() -> list[Tensor]:
        found = []
        for place, layer in enumerate(layers):
            of_channel = seen[place].transpose(0, 1).flatten(1)  # (C, B H W)
            variance, mean = torch.var_mean(of_channel, dim=1, correction=0)
            assert layer.running_var is not None and layer.running_mean is not None
            found.append((layer.running_var - variance).norm() + (layer.running_mean - mean).norm())
        return found

    hooks = [layer.register_forward_pre_hook(partial(hook, place)) for place, layer in enumerate(layers)]
    try:
        yield distances
    finally:
        for one in hooks:
            one.remove()


def bn_loss(distances: Sequence[Tensor], first: float) -> Tensor:
    """The sum of a network's distances, the first layer's times `first`."""
    return torch.stack([distance * (1.0 if place else first) for place, distance in enumerate(distances)]).sum()


def recover(
    teachers: Sequence["Teacher"], labels: Tensor, noise: Tensor, settings: Sre2l, iterations: int | None = None
) -> Tensor:
    """Descend from noise to images that teachers take for these classes; crops and shifts from torch's global state.

    teachers: the first one's mean and deviation are those of the space. labels: int64 (B,). noise: float32 (B, 3, S, S)
    in that space. iterations: fewer than the settings', to time them. Returns pixels (B, 3, S, S) in [0, 1].
    """
    mean, std = teachers[0].network.mean, teachers[0].network.std
    low, high = (0 - mean) / std, (1 - mean) / std
    values = noise.clone().requires_grad_()
    optimiser = torch.optim.Adam([values], lr=settings.lr, betas=BETAS)
    side, (least, most) = noise.shape[-1], settings.roll
    view = (
        Compose([RandomResizedCrop(side, antialias=True), RandomHorizontalFlip()]) if settings.crop else nn.Identity()
    )
    layers = [batch_norms(teacher.network) for teacher in teachers]
    for step in range(iterations or settings.iterations):
        optimiser.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * step / settings.iterations)) / 2
        down, right = torch.randint(least, most + 1, (2,)).tolist()
        pixels = torch.roll(view(values), (down, right), (2, 3)) * std + mean
        loss = torch.zeros((), device=values.device)
        for teacher, of_teacher in zip(teachers, layers, strict=True):
            with statistics(of_teacher if settings.bn else ()) as distances:
                loss = loss + F.cross_entropy(teacher.logits(pixels), labels)
                if settings.bn:
                    loss = loss + settings.bn * bn_loss(distances(), settings.first)
        optimiser.zero_grad()
        (loss / len(teachers)).backward()
        optimiser.step()
        with torch.no_grad():
            values.copy_(torch.clamp(values, low, high))
    return (values.detach() * std + mean).clamp(0, 1)


class Recovered:
    """See the module's text; a `Method`."""

    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data, self._settings = recipe, data, cast(Sre2l, recipe.of_method)

    @property
    def batch_size(self) -> int:
        """Never more than there are classes, so that a batch has each once; the plan is cut by it whatever the IPC."""
        return min(self._recipe.batch_size, len(self._data.classes))

    def count(self, class_index: int, ipc: int) -> int:
        _ = self._tried
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        key = self._data.classes[class_index].key
        return Sample(class_index, index, sample_seed(self._recipe.seed, key, index))

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        pixels = self._recover(batch)
        labels = torch.tensor([sample.class_index for sample in batch], device=pixels.device)
        with torch.no_grad():
            losses = F.cross_entropy(self._teachers[0].logits(pixels), labels, reduction="none").tolist()
        pictures = to_pil(pixels * 2 - 1)
        return [
            GeneratedImage(one, {"teacher_loss": round(loss, 4)}) for one, loss in zip(pictures, losses, strict=True)
        ]

    def cost(self) -> Cost:
        batch = [self.sample(label, 0) for label in range(self.batch_size)]
        of_steps = [timed(partial(self._recover, batch, 1), self._device.type) for _ in range(TIMED)]
        each = self._settings.iterations / len(batch)
        low, middle, high = (each * seconds for seconds in quartiles(of_steps[1:]))  # the first takes memory anew
        size = len(encode(to_pil(self._recover(batch, 1) * 2 - 1)[0], self._recipe.format))
        return Cost(size, middle, seconds_range=(low, high))

    @property
    def _device(self) -> torch.device:
        return self._teachers[0].network.mean.device

    def _recover(self, batch: Sequence[Sample], iterations: int | None = None) -> Tensor:
        """Pixels (B, 3, S, S) of a batch: each image's noise from its own seed, crops and shifts from the first's."""
        side = self._recipe.size or seen_side(self._teachers[0], None)
        of_images = [torch.Generator().manual_seed(sample.seed) for sample in batch]
        noise = torch.stack([torch.randn(3, side, side, generator=generator) for generator in of_images])
        labels = torch.tensor([sample.class_index for sample in batch], device=self._device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(batch[0].seed)
            return recover(self._teachers, labels, noise.to(self._device), self._settings, iterations)

    @cached_property
    def _teachers(self) -> list["Teacher"]:
        found = []
        for key, spec in {"teacher": self._recipe.teacher, **_numbered(self._settings.teachers)}.items():
            teacher = open_teacher(self._recipe, self._data, spec)
            if not batch_norms(teacher.network):
                raise ConcordError(
                    f"{key}: {spec} has no batch norm, whose running statistics sre2l recovers images from; give a"
                    " network that has (a ResNet, or a convnet of norm=batch)"
                )
            found.append(teacher)
        return found

    @cached_property
    def _tried(self) -> bool:
        """In the parent alone: whether the teachers may be believed is asked once."""
        pool = ImagePool(self._data, shuffled(self._recipe.seed), self._recipe.unreadable == "skip")
        return all(try_teacher(teacher, self._recipe, self._data, pool) is teacher for teacher in self._teachers)


def _numbered(teachers: Sequence[str]) -> dict[str, str]:
    return {f"sre2l.teachers {number}": spec for number, spec in enumerate(teachers, 1)}
