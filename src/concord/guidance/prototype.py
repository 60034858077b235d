"""A guide that draws clean estimates towards latents that are given: a class's mean, or a real image of it."""

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from concord.diffusion import Step
from concord.diffusion.level import Scale
from concord.errors import ConcordError
from concord.guidance.context import GuideContext
from concord.guidance.window import check_size, check_window
from concord.pipelines.base import Family
from concord.pipelines.load import recipe_family
from concord.pipelines.prototypes import prototypes
from concord.pipelines.starts import image_latents
from concord.recipe import Fraction, Recipe, Weight
from concord.recipe.window import window_steps
from concord.registry import GuideSpec


class Settings(BaseModel):
    """What an entry `{name: prototype, ...}` of a recipe's `guides` may say."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    towards: Literal["mean", "real"] = "mean"
    weight: Weight = 0.1
    window: tuple[Fraction, Fraction] = (0.0, 0.5)


class Prototype:
    """Moves each clean estimate a part of the way to its target: dx0 = weight (m - x0), down weight |x0 - m|^2 / 2.

    targets: (B, C, h, w) latents m, scheduler space. weight: the part of the way, at each step. window: the part of the
    schedule, as fractions [start, end).
    """

    needs_graph = False

    def __init__(self, targets: Tensor, weight: float = 0.1, window: tuple[float, float] = (0.0, 0.5)) -> None:
        self.targets, self.window = targets, check_window(window, "window")
        self.weight = check_size(weight, "weight")

    def active(self, index: int, count: int) -> bool:
        return index in window_steps(self.window, count)

    def share(self, step: Step) -> Scale:
        """The part of the way that this step goes."""
        return self.weight

    @torch.no_grad()
    def __call__(self, step: Step) -> Tensor | None:
        """dx0, (B, C, h, w); None at pure noise, where there is no clean estimate."""
        if not step.level.alpha:
            return None
        if self.targets.shape != step.x0.shape:
            given, wanted = tuple(self.targets.shape), tuple(step.x0.shape)
            raise ConcordError(f"prototype guidance was given targets {given} for latents {wanted}: give one each")
        return self.share(step) * (self.targets.to(step.x0) - step.x0)


def class_prototypes(context: GuideContext, count: int) -> Tensor:
    """The prototype of each image of a batch, (B, C, h, w), of `count` a class; its samples take them by turns."""
    chosen, recipe = [], context.recipe
    for sample in context.samples:
        skip = recipe.unreadable == "skip"
        found = prototypes(family(context), context.data, sample.class_index, count, recipe.seed, skip)
        chosen.append(found[sample.index % len(found)])
    return torch.stack(chosen)


def family(context: GuideContext) -> Family:
    """The model, which encodes images; a ConcordError where it is a pipeline that is called as it is."""
    if isinstance(context.model, Family):
        return context.model
    name = type(context.model.pipeline).__name__
    raise ConcordError(f"guides: latents of real images need a pipeline that the own sampler runs, not a {name}")


def build(settings: Settings, context: GuideContext) -> Prototype:
    if settings.towards == "mean":
        targets = class_prototypes(context, 1)
    else:
        targets = image_latents(family(context), [context.data.read(s.source) for s in context.samples])
    return Prototype(targets, settings.weight, settings.window)


def check(settings: BaseModel, recipe: Recipe, classes: int) -> None:
    """Refuse pipelines that are called as they are: they encode nothing."""
    if not (spec := recipe_family(recipe)).exact:
        raise ConcordError(f"guides: latents of real images need a pipeline that the own sampler runs: {spec.about}")


PROTOTYPE = GuideSpec(
    name="prototype",
    build="concord.guidance.prototype:build",
    settings=Settings,
    about="Images are drawn towards their class's mean latent, or a real image's.",
    takes_image=lambda settings: settings.towards == "real",
    check=check,
)
