"""What the guides that a recipe names are built from, batch by batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from concord.data import ImageSet
from concord.diffusion.sampler import Guide
from concord.models.cache import ModelCache
from concord.pipelines.base import FrozenPipeline
from concord.plan import Sample
from concord.recipe import Recipe, guide_settings
from concord.registry import GUIDES


@dataclass(frozen=True)
class GuideContext:
    """A batch and what its guides may use.

    Args:
        samples: the batch's planned images, in its order.
        data: the real images and their classes.
        model: the diffusion model; its `decode` and `tiny_decode` take latents to images in [-1, 1].
        models: the recipe's other models, as its image-text `encoder`, each loaded at first need; and the `device`.
        recipe: the run's.
    """

    samples: Sequence[Sample]
    data: ImageSet
    model: FrozenPipeline
    models: ModelCache
    recipe: Recipe

    @property
    def labels(self) -> list[int]:
        """Each image's class, as its place in the data's classes."""
        return [sample.class_index for sample in self.samples]

    @property
    def names(self) -> list[str]:
        """Each image's class, as texts name it."""
        return [self.data.classes[label].class_name for label in self.labels]


def recipe_guides(context: GuideContext) -> list[Guide]:
    """The guides that the recipe names in `guides`, built for one batch."""
    built = []
    for entry in context.recipe.guides:
        name, settings = guide_settings(entry)
        built.append(GUIDES.build(name, GUIDES.get(name).build)(settings, context))
    return built


def looks_across(recipe: Recipe) -> bool:
    """Whether a guide of the recipe compares the images of a batch, which then is made whole or not at all."""
    return any(GUIDES.get(entry["name"]).across for entry in recipe.guides)
