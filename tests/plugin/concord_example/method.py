"""A method: of each class the real images whose mean colour is nearest to the class's mean colour."""

import numpy as np
from pydantic import BaseModel, Field

from concord.data import ImageSet
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.registry import MethodSpec


class Settings(BaseModel):
    skip: int = Field(0, ge=0, description="How many of the nearest images are passed over.")


class Middle:
    batch_size = 1
    variants = ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data, self._skip = recipe, data, recipe.middle.skip

    def count(self, class_index: int, ipc: int) -> int:
        return min(ipc, len(self._data.items(class_index)) - self._skip)

    def sample(self, class_index: int, index: int) -> Sample:
        items = self._data.items(class_index)
        colours = np.array([np.asarray(self._data.read(item), float).mean((0, 1)) for item in items])
        order = np.argsort(((colours - colours.mean(0)) ** 2).sum(1), kind="stable")
        seed = sample_seed(self._recipe.seed, self._data.classes[class_index].key, index)
        return Sample(class_index, index, seed, source=items[order[self._skip + index]])

    def make(self, batch: list[Sample], variant: str) -> list[GeneratedImage]:
        return [GeneratedImage(self._data.read(sample.source)) for sample in batch]

    def cost(self) -> Cost:
        return Cost()


METHOD = MethodSpec(
    name="middle",
    build="concord_example.method:Middle",
    kind="real",
    about="Real images whose mean colour is nearest to their class's.",
    settings=Settings,
)
