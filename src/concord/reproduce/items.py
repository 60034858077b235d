"""The paper's tables and figures as declarations: rows, columns, what is drawn and what the paper claims of them."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from concord.errors import ConcordError
from concord.settings import complaints, read_yaml
from concord.text import nearest

Student = Literal["convnet", "resnet18", "resnet101"]
Objective = Literal["contrastive", "cosine", "class-name", "classifier", "both"]


class Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Varied(Declared):
    """What a row changes of its method, in the paper's words; a place knows the recipe's keys for them.

    Args:
        objective: what informs; ``both`` is a classifier and the contrast of concepts.
        negatives: how negatives are drawn, as `concepts.negatives.kind` has it. count: how many.
        weight: the informing weight, as a multiple of the recipe's.
        steps: denoising steps, where the paper's main setting has 50.
        bank: whose phrases: ``descriptive``, ``distinctive`` or ``another`` model's.
    """

    objective: Objective | None = None
    negatives: str | None = None
    count: PositiveInt | None = None
    weight: Annotated[float, Field(gt=0)] | None = None
    steps: PositiveInt | None = None
    bank: Literal["descriptive", "distinctive", "another"] | None = None


class Row(Declared):
    """A method with its settings.

    Args:
        method: as `concord.paper` names it. informed: whether concepts inform its images. paired: these are made
            without informing, too, at the same seeds, so that both are judged by the same phrases.
        students, ipc: those of the item that the row has cells of; null for all.
        series, x: which line of a curve its points are on, and where.
        paper: the variant of the paper's cells. of_paper: further values by which these are found.
    """

    name: str
    method: str
    informed: bool = False
    paired: bool = False
    vary: Varied = Varied()
    students: list[Student] | None = None
    ipc: list[PositiveInt] | None = None
    series: str = ""
    x: float | None = None
    paper: str = ""
    of_paper: dict[str, bool] = {}


class Claim(Declared):
    """What the paper says of two rows: how far the first is ahead lies between two bounds.

    Of accuracies it is their difference in points, of seconds their ratio. start, end: the bounds, null for none.
    ipc, students: the columns that it is about; null for all.
    """

    says: str
    better: str
    than: str
    ipc: list[PositiveInt] | None = None
    students: list[Student] | None = None
    start: float | None = Field(default=0.0, alias="from")
    end: float | None = Field(default=None, alias="to")


class InPaper(Declared):
    """Where the paper's cells are: a table, and its data sets."""

    table: Annotated[int, Field(ge=1, le=9)]
    datasets: list[str]


class Item(Declared):
    """A table or a figure.

    Args:
        name: as the command line has it, ``table-1``. title: what it shows.
        kind: accuracies of students, or seconds an image (``cost``); or pictures: ``pairs`` of images, ``strips`` of
            the same sample, a ``plane`` of embeddings, ``phrases`` of banks.
        curve: draw accuracies as lines over ``ipc``, or over each row's ``x``; null is a table. axis: what x is.
        pick, count: which pairs are shown, or how many classes.
    """

    name: str
    title: str
    kind: Literal["accuracies", "cost", "pairs", "strips", "plane", "phrases"]
    paper: InPaper | None = None
    students: list[Student] = []
    ipc: list[PositiveInt] = []
    rows: Annotated[list[Row], Field(min_length=1)]
    claims: list[Claim] = []
    curve: Literal["ipc", "x"] | None = None
    axis: str = "images a class"
    pick: Literal["first", "improved", "failed"] | None = None
    count: PositiveInt = 10

    @property
    def label(self) -> str:
        """As the paper calls it: ``Table 1``."""
        return self.name.replace("-", " ").capitalize()

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @model_validator(mode="after")
    def _named(self) -> Self:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"rows: a name is there twice among {names}")
        for claim in self.claims:
            if unknown := {claim.better, claim.than} - set(names):
                raise ValueError(f"claims: no row {unknown.pop()!r}")
        if self.pick in ("improved", "failed") and not all(row.paired for row in self.rows):
            raise ValueError(f"pick={self.pick} is of paired rows")
        if (self.kind == "accuracies") != bool(self.students and self.ipc):
            raise ValueError("students and ipc are of accuracies")
        return self


ALL = "all"
_ITEMS = files("concord.reproduce") / "items"


def names() -> list[str]:
    """Every table and figure, in the paper's order."""

    def order(name: str) -> tuple[bool, int, str]:
        kind, _, number = name.partition("-")
        digits = number.rstrip("abc")
        return kind != "table", int(digits), number

    return sorted(
        (path.name.removesuffix(".yaml") for path in _ITEMS.iterdir() if path.name.endswith(".yaml")), key=order
    )


@cache
def item(name: str) -> Item:
    """Return one table or figure. Raises ConcordError: there is none of this name."""
    if name not in names():
        raise ConcordError(
            f'unknown table or figure "{name}"{nearest(name, names())}; there are {", ".join(names())}, all'
        )
    return declared(Item, read_yaml((_ITEMS / f"{name}.yaml").read_text(encoding="utf-8")) | {"name": name}, name)


def wanted(given: str) -> list[Item]:
    """The items of a word or of several with commas: names, ``all``, or a figure of several parts (``figure-4``).

    Raises ConcordError: none is called so.
    """
    known = names()
    found: dict[str, Item] = {}
    for word in (part.strip().lower() for part in given.split(",")):
        parts = known if word == ALL else [name for name in known if name.rstrip("abc") == word] or [word]
        found |= {name: item(name) for name in parts}
    return list(found.values())


def declared(model: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """Values of a declaration as its model. Raises ConcordError: they do not fit."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConcordError(f"{where}: {complaints(model, error)}") from None
