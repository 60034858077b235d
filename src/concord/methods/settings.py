"""Sections of recipes that are of one method each; light, as `concord.methods.specs` is."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from concord.recipe import Weight
from concord.recipe.sections import Part

SRE2L_PRESETS: dict[str, dict[str, Any]] = {
    "imagenet": {"iterations": 4000, "lr": 0.25, "bn": 0.01, "crop": True, "roll": (0, 32)},
    "tiny": {"iterations": 4000, "lr": 0.1, "bn": 1.0, "crop": True, "roll": (-4, 4)},
    "cifar": {"iterations": 1000, "lr": 0.25, "bn": 0.01, "crop": False, "roll": (0, 4)},
}
"""What was published for each data set: VILA-Lab/SRe2L, `recover/recover.sh` and `*small_dataset/recover_*`."""


class Sre2l(Part):
    """Of `sre2l`: how images are recovered from a teacher."""

    preset: Literal["imagenet", "tiny", "cifar"] = "imagenet"
    """Whose published settings the keys below take where they are not set: 224, 64 or 32 pixels."""
    iterations: PositiveInt = 4000
    """Steps of Adam; 1000 of `cifar`."""
    lr: PositiveFloat = 0.25
    """The first learning rate, which falls to 0 as a cosine; 0.1 of `tiny`."""
    bn: Weight = 0.01
    """Weight of the distance of batch statistics to the teacher's running ones, beside cross-entropy; 1 of `tiny`."""
    first: Weight = 10.0
    """How much more the first layer's distance counts."""
    crop: bool = True
    """Whether each step sees a random crop of the batch, flipped or not; not of `cifar`."""
    roll: tuple[int, int] = (0, 32)
    """The least and the most pixels by which each step shifts the batch, down and to the right, coming in again at the
    other side; -4 to 4 of `tiny`, 0 to 4 of `cifar`."""
    teachers: list[str] = Field(default=[])
    """Further teachers beside the recipe's: the loss is the mean over all."""

    @model_validator(mode="before")
    @classmethod
    def _published(cls, values: Any) -> Any:
        preset = SRE2L_PRESETS.get(str(values.get("preset", "imagenet"))) if isinstance(values, dict) else None
        return values if preset is None else {**preset, **values}

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.roll[0] > self.roll[1]:
            raise ValueError(f"roll: expected the least shift before the most, got {list(self.roll)}")
        if not self.bn and self.first != type(self).model_fields["first"].default:
            raise ValueError("first: bn is 0, so that no layer counts; raise it")
        return self
