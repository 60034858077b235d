"""The second guide, and the example of one: images of a class that are made together are pushed apart."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from concord.diffusion import Step, noise_estimate
from concord.errors import ConcordError
from concord.guidance.context import GuideContext
from concord.guidance.shifts import fast_shift
from concord.guidance.window import check_size, check_window
from concord.recipe import Fraction, Recipe, Weight
from concord.recipe.window import window_steps
from concord.registry import GuideSpec


class Settings(BaseModel):
    """What an entry `{name: repulsion, ...}` of a recipe's `guides` may say."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    strength: Weight = 0.1
    window: tuple[Fraction, Fraction] = (0.0, 1.0)


class Repulsion:
    """Moves each clean estimate down sum_j exp(-|x_i - x_j|^2 / s_i), j the other images of its class in the batch.

    s_i is the mean of the squares, so that near ones count most. An image that is alone of its class stays as it is.
    This is up the gradient of the conditional RKE score, -log sum_ij (k(x_i, x_j) [same class])^2 with the Gaussian
    kernel k of bandwidth sigma^2 = s_i, by which SPARKE (Jalali et al. 2025) guides, on the images of one batch.

    labels: (B,) the classes of the batch's images. strength: the size of the shift, as in `fast_shift`. window: the
    part of the schedule, as fractions [start, end).
    """

    needs_graph = False

    def __init__(self, labels: Sequence[int], strength: float = 0.1, window: tuple[float, float] = (0.0, 1.0)) -> None:
        self.labels, self.window = torch.tensor(labels), check_window(window, "window")
        self.strength = check_size(strength, "strength")

    def active(self, index: int, count: int) -> bool:
        return index in window_steps(self.window, count)

    @torch.no_grad()
    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w); None at pure noise, where there is no clean estimate, and where all are alone."""
        if step.level.pure_noise:
            return None
        x, labels = step.x0.flatten(1), self.labels.to(step.x0.device)
        if len(x) != len(labels):
            raise ConcordError(f"repulsion was given the classes of {len(labels)} images for a batch of {len(x)}")
        mates = (labels[:, None] == labels).fill_diagonal_(False)
        if not mates.any():
            return None
        square = torch.cdist(x, x).square()
        scale = (square * mates).sum(1, keepdim=True) / mates.sum(1, keepdim=True).clamp(min=1)
        kernel = mates * torch.exp(-square / scale.clamp(min=torch.finfo(x.dtype).tiny))
        gradient = (kernel @ x - kernel.sum(1, keepdim=True) * x).view_as(step.x0)  # but for a factor 2 / s_i
        return fast_shift(gradient, noise_estimate(step.prediction, step.x_t, step.level), step.level, self.strength)


def build(settings: Settings, context: GuideContext) -> Repulsion:
    return Repulsion(context.labels, settings.strength, settings.window)


def check(settings: Settings, recipe: Recipe, classes: int) -> None:
    """Refuse batches in which no two images of a class meet."""
    if recipe.batch_size <= classes:
        some = f"batches of {recipe.batch_size} that go round {classes} classes hold no two images of a class"
        raise ConcordError(f"guides: repulsion cannot act, as {some}; set batch_size above {classes}")


REPULSION = GuideSpec(
    name="repulsion",
    build="concord.guidance.repulsion:build",
    settings=Settings,
    about="Images of a class that are made in one batch are pushed apart.",
    across=True,
    check=check,
)
