"""What a family makes images of: a batch of planned samples, and what these refer to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from concord.data import ImageSet
from concord.plan import Sample
from concord.recipe import Pipeline


@dataclass(frozen=True)
class Planned:
    """A batch of planned images: their `samples`, the real images and classes that these refer to, and `pipeline` of
    the recipe.

    generators: one an image; all that is random comes from them. seed, skip_unreadable: the recipe's.
    """

    samples: Sequence[Sample]
    data: ImageSet
    settings: Pipeline
    generators: Sequence[torch.Generator]
    seed: int = 0
    skip_unreadable: bool = False

    @property
    def prompts(self) -> list[str]:
        return [sample.prompt for sample in self.samples]

    @property
    def negative_prompts(self) -> list[str] | None:
        """What guidance leads away from; None for the pipeline's own."""
        return [sample.negative_prompt for sample in self.samples] if self.settings.negative_prompts else None

    @property
    def sources(self) -> list[Image.Image]:
        """The real images that the samples are conditioned on."""
        return [self.data.read(sample.source) for sample in self.samples]
