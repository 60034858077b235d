"""What the JSON files of a run must be where readers rely on it; docs/formats.md has every key."""

from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

Numbers = list[FiniteFloat | None]


class _Shape(BaseModel):
    """Keys that are not named here are free."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Summary(_Shape):
    mean: FiniteFloat | None = None
    std: FiniteFloat | None = None
    values: Numbers = []


class _Top1(_Shape):
    seeds: list[int] = []
    last: _Summary | None = None
    best: _Summary | None = None


class _Cell(_Shape):
    student: str = ""
    protocol: str = ""
    ipc: int | None = None
    changed: dict[str, Any] | None = None
    settings: str = ""
    seeds: list[int] = []
    draws: int = 1
    top1: _Top1 | None = None
    metrics: dict[str, _Top1] | None = None
    seconds: FiniteFloat | None = None
    per_class: Numbers | None = None
    confusion: list[list[int]] | None = None
    soft_labels: dict[str, Any] | None = None


class _Side(_Shape):
    name: str
    cells: list[_Cell] = []


class _Evaluation(_Shape):
    of: str | None = None
    classes: list[str] = []
    teacher: dict[str, Any] | None = None
    notes: list[str] = []
    environment: dict[str, Any] = {}
    cells: list[_Cell] = []
    coverage: dict[str, Any] = {}
    ranking: list[dict[str, Any]] = []
    sides: list[_Side] = []


class _Detail(_Shape):
    phrase: str
    percentile: FiniteFloat


class _Details(_Shape):
    missing_below: FiniteFloat = 0
    images: dict[str, list[_Detail]] = {}


class _Near(_Shape):
    nearest: str = ""
    similarity: FiniteFloat = 0
    flagged: bool = False


class _NearCopies(_Shape):
    threshold: dict[str, FiniteFloat | None] = {}
    images: dict[str, _Near] = {}


class _Concept(_Shape):
    phrase: str
    activation: FiniteFloat
    kept: bool


class _OfClass(_Shape):
    concepts: list[_Concept] = []


class _Similarity(_Shape):
    classes: list[str]
    cosine: list[list[FiniteFloat]]


class _Concepts(_Shape):
    classes: dict[str, _OfClass] = {}
    similarity: _Similarity | None = None


class _Environment(_Shape):
    packages: dict[str, str] = {}
    data: dict[str, Any] = {}


_SHAPES: dict[str, type[_Shape]] = {
    "evaluation": _Evaluation,
    "details": _Details,
    "near_copies": _NearCopies,
    "concepts": _Concepts,
    "environment": _Environment,
}


def misfit(name: str, values: dict[str, Any]) -> str:
    """Say where the object of a file ``NAME.json`` is not as it must be; nothing where it is."""
    try:
        _SHAPES.get(name, _Shape).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return ""
