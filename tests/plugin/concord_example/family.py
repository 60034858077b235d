"""A family of class-conditional pipelines: a DiT whose images are mirrored."""

from diffusers import DiTPipeline
from torch import Tensor

from concord.pipelines.base import Planned
from concord.pipelines.dit import DiT
from concord.registry import FamilySpec


class MirroredPipeline(DiTPipeline):
    """A pipeline class of its own, as a model's authors would have one."""


class Mirrored(DiT):
    def make(self, batch: Planned, **options: object) -> Tensor:
        return super().make(batch, **options).flip(-1)


FAMILY = FamilySpec(
    name="mirrored",
    pipelines=("concord_example.family:MirroredPipeline",),
    build="concord_example.family:Mirrored",
    about="DiT, mirrored.",
    reads=frozenset({"class"}),
)
