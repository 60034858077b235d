"""Settings of `concord evaluate`: ``key=value``, of the evaluation itself or of its protocols."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from concord.choices import PROTOCOL_GROUPS, Norm, Pool
from concord.errors import ConcordError
from concord.evaluation.protocols import Protocol, protocol
from concord.recipe import Device, Workers
from concord.registry import METHODS
from concord.settings import GreyRange, complaints, keys, override
from concord.text import nearest

Model = TypeVar("Model", bound=BaseModel)
MANY = 1000
"""Seeds at most, where their number is given."""


class Training(BaseModel):
    """What a network that is trained here looks like, what of the data it sees, and how it is computed.

    Args:
        size: pixels of its images, null for the protocol's or RDED's by student, never above those of the set.
        norm, pool, width: of networks that leave them open.
        grey_range, max_pixels: how real images are read, as in a recipe; of a run null is what its recipe says.
        device, dtype: ``auto`` is bfloat16 on CUDA, float32 elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: list[str] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    norm: Norm | None = None
    pool: Pool | None = None
    width: PositiveInt | None = None
    grey_range: GreyRange | None = None
    max_pixels: PositiveInt | None = None
    device: Device = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False


class TensorSettings(BaseModel):
    """What a file of float images that another method's code left does not say itself.

    Args:
        space: what its values are, a name of `concord.data.space.SPACES`.
        mean, std: or by which mean and deviation of the channels, of pixels in [0, 1], they were normalised.
        zca: or the training images by which they were whitened (MTT); the test images are whitened alike.
        decode: each image holds decode x decode images (IDC's factor, 2 for IDM).
        experiment: which of the sets in one file, from 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: str | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None
    zca: str | None = None
    decode: Annotated[int, Field(ge=1, le=64)] = 1
    experiment: Annotated[int, Field(ge=0)] | None = None

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _several(cls, values: Any) -> Any:
        return [values] if isinstance(values, int | float) else _listed(values)

    @model_validator(mode="after")
    def _one_space(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both")
        if sum(given is not None for given in (self.space, self.mean, self.zca)) > 1:
            raise ValueError("space, mean with std, and zca say the same; give one of them")
        return self


class Settings(Training):
    """What is evaluated, and how it is computed.

    Args:
        student, protocol, ipc: lists, ``student=convnet-5,resnet-18 ipc=1,10,50``; each combination is a cell, and ipc
            null takes all images of the set. A protocol may be one of `PROTOCOL_GROUPS`.
        seeds: their number, or a list of them.
        teacher: see `concord.models.teachers`, null for the one that the set's own recipe names.
        arch, teacher_size: the teacher's network and the side of its images, where a `.pth` does not tell.
        remap: put a teacher's classes in order by its own confusions.
        soft_labels: a directory that `concord labels` filled, instead of a teacher.
        workers: trainings at once, each with its share of the cores; ``auto`` is one a core, or one on a GPU.
        metrics: what is read of the predictions beside top-1, by the names of `concord.evaluation.metrics` and others.
        beside: methods that choose as many real images from what the set was made of, to be evaluated with it.
        draws: sets of each of these, where their choice is drawn; null for those of the set itself, and three at least.
        tensors: of a set of float images.
        ranking: DD-Ranking's scores in its own way, ``ddranking``: see `concord.evaluation.rate_search`.
    """

    student: Annotated[list[str], Field(min_length=1)] = ["resnet-18"]
    protocol: Annotated[list[str], Field(min_length=1)] = ["rded"]
    ipc: list[PositiveInt] | None = None
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)] = [0, 1, 2]
    teacher: str | None = None
    arch: str | None = None
    teacher_size: Annotated[int, Field(ge=8)] | None = None
    remap: bool = False
    soft_labels: str | None = None
    workers: Workers = "auto"
    metrics: list[str] = []
    beside: list[str] = []
    draws: PositiveInt | None = None
    tensors: TensorSettings = TensorSettings()
    ranking: Literal["ddranking"] | None = None

    @field_validator("seeds", mode="before")
    @classmethod
    def _counted(cls, seeds: Any) -> Any:
        if not isinstance(seeds, int) or isinstance(seeds, bool):
            return _listed(seeds)
        if not 1 <= seeds <= MANY:
            raise ValueError(f"expected a number of seeds from 1 to {MANY}, or a list of them as in 0,5, got {seeds}")
        return list(range(seeds))

    @field_validator("ipc", mode="before")
    @classmethod
    def _one(cls, ipc: Any) -> Any:
        return [ipc] if isinstance(ipc, int) and not isinstance(ipc, bool) else _listed(ipc)

    @field_validator("protocol")
    @classmethod
    def _grouped(cls, names: list[str]) -> list[str]:
        return [name for given in names for name in PROTOCOL_GROUPS.get(given, (given,))]

    @field_validator("beside")
    @classmethod
    def _real(cls, names: list[str]) -> list[str]:
        for name in names:
            spec = METHODS.get(name)
            if spec.kind != "real" or spec.ipc == "all":
                raise ValueError(f"{name} does not choose among real images as a set of so many a class does")
        return names

    @model_validator(mode="after")
    def _acting(self) -> Self:
        if self.draws is not None and not self.beside:
            raise ValueError("draws counts the sets of real images beside this one; name them, as in beside=random")
        if self.beside and self.soft_labels is not None:
            raise ValueError("soft_labels are of one set's images, not of those beside it; take a teacher")
        if self.ranking and self.soft_labels is not None:
            raise ValueError("ranking takes random images, for which soft_labels has none; take a teacher")
        return self

    @field_validator("student", "protocol", "ipc", "seeds", "metrics", "beside")
    @classmethod
    def _once(cls, values: Any) -> Any:
        return None if values is None else list(dict.fromkeys(values))


def _listed(values: Any) -> Any:
    """A text such as ``1,10,50`` as its parts."""
    return [part.strip() for part in values.split(",")] if isinstance(values, str) else values


@dataclass(frozen=True)
class ProtocolConfig:
    """A protocol as it is used. changed: the settings that differ from the preset's. given: those that were set."""

    protocol: Protocol
    changed: Mapping[str, Any]
    given: frozenset[str] = frozenset()

    def among(self, classes: int) -> Self:
        """As it is used with so many classes."""
        many = self.protocol.many if classes > 100 else None
        update = {key: value for key, value in dict(many or ()).items() if key not in self.changed}
        return replace(self, protocol=self.protocol.model_copy(update=update)) if update else self


def read_settings(texts: Sequence[str]) -> tuple[Settings, list[ProtocolConfig]]:
    """Read ``key=value`` texts: keys of `Settings`, or of every chosen protocol; a ConcordError names the nearest."""
    settings, of_protocol = read_values(Settings, texts)
    return settings, [changed_protocol(protocol(name), of_protocol) for name in settings.protocol]


def read_values(model: type[Model], texts: Sequence[str]) -> tuple[Model, list[str]]:
    """As `read_settings`, into any model; the texts that are keys of `Protocol` instead are returned with it."""
    values: dict[str, Any] = {}
    rest = []
    for text in texts:
        key = text.partition("=")[0].strip()
        first = key.partition(".")[0]
        if first in model.model_fields:
            override(model, values, text)
        elif first in Protocol.model_fields and first != "name":
            rest.append(text)
        elif "=" not in text:
            raise ConcordError(f'expected key=value, as in ipc=10, got "{text}"')
        else:
            raise ConcordError(f'unknown key "{key}"{nearest(key, [*keys(model), *keys(Protocol)])}')
    return validated(model, values), rest


def changed_protocol(preset: Protocol, texts: Sequence[str]) -> ProtocolConfig:
    """Return a preset with some settings changed. Raises ConcordError: a value does not fit."""
    values = preset.model_dump()
    for text in texts:
        override(Protocol, values, text)
    after = validated(Protocol, values)
    before, now = (_flat(one.model_dump(mode="json")) for one in (preset, after))
    given = frozenset(text.partition("=")[0].strip() for text in texts)
    return ProtocolConfig(after, {key: value for key, value in now.items() if value != before.get(key)}, given)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings with those of inner models beside the others, by dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def validated(model: type[Model], values: dict[str, Any]) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConcordError(complaints(model, error)) from None
