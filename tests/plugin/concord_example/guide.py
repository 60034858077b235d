"""A guide: clean estimates are drawn towards their own mean, so that images have less contrast."""

from pydantic import BaseModel, Field
from torch import Tensor

from concord.diffusion import Step
from concord.guidance.context import GuideContext
from concord.registry import GuideSpec


class Settings(BaseModel):
    strength: float = Field(0.05, ge=0, le=1, description="Which part of the way to the mean a step goes.")


class Calm:
    needs_graph = False

    def __init__(self, strength: float = 0.05) -> None:
        self.strength = strength

    def active(self, index: int, count: int) -> bool:
        return True

    def __call__(self, step: Step) -> Tensor:
        return self.strength * (step.x0.mean(dim=(2, 3), keepdim=True) - step.x0)


def build(settings: Settings, context: GuideContext) -> Calm:
    return Calm(settings.strength)


GUIDE = GuideSpec("calm", "concord_example.guide:build", Settings, "Images have less contrast.")
