"""A scorer: an image shows each of its concepts as surely as it is bright."""

from collections.abc import Callable, Sequence

from torch import Tensor

from concord.models.cache import ModelCache
from concord.recipe import Recipe
from concord.registry import ScorerSpec


class Brightness:
    threshold = 0.5

    def rate(self, pixels: Tensor, concepts: Sequence[tuple[str, str]]) -> Tensor:
        return (pixels / 2 + 0.5).mean(dim=(1, 2, 3))[:, None].expand(-1, len(concepts))


def build(recipe: Recipe, models: ModelCache, real: Callable[..., Tensor]) -> Brightness:
    return Brightness()


SCORER = ScorerSpec("brightness", "concord_example.scorer:build", "Bright images show everything.")
