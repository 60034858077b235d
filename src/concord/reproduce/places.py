"""Where the paper is reproduced: what its methods, networks and settings are on some data, by which recipes."""

import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator

from concord.errors import ConcordError
from concord.evaluation.settings import validated
from concord.recipe import Recipe, bundled, load
from concord.registry import METHODS
from concord.reproduce.items import Declared, Row, Varied, declared
from concord.settings import laid_over, override, read_yaml
from concord.text import nearest

Verb = Literal["teacher", "experts", "finetune", "distill"]
_PLACES = files("concord.reproduce") / "places"
QUICK = "-quick"
"""What the name of a place's short form ends in."""
CLASSIFIER_WEIGHT = 0.05
"""The informing weight of a classifier, as the paper tuned it (Sec. 4.3)."""
OBJECTIVES: Mapping[str, Mapping[str, float]] = {
    "contrastive": {},
    "cosine": {"contrastive": 0, "cosine": 1},
    "class-name": {"contrastive": 0, "class_name": 1},
    "classifier": {"contrastive": 0, "classifier": 1},
    "both": {"classifier": CLASSIFIER_WEIGHT},
}
"""What informs, as weights of `informing.objective` beside its defaults."""
PLAIN = ("informing.enabled=false", "uninformed=false")
"""What a row that is not informed sets."""
GENERATED = ("dit", "minimax", "unclip")
"""The paper's generators."""


class MethodHere(Declared):
    """A method of the paper at a place: a recipe with settings (``key=value``), and what must be prepared for it.

    note: what stands for what, for people.
    """

    recipe: str
    set: list[str] = Field(default=[])
    needs: list[str] = Field(default=[])
    note: str = ""


class StudentHere(Declared):
    """A network of the paper at a place: settings of `concord evaluate`."""

    set: list[str]
    note: str = ""


class Prepared(Declared):
    """What is trained or made before any set: by a command of concord, into `file` of the directory ``prepared``.

    recipe: of ``distill``. data: of the others. ipc: images a class, of ``distill``.
    """

    verb: Verb
    file: str
    recipe: str = ""
    data: str = ""
    set: list[str] = Field(default=[])
    ipc: PositiveInt | None = None


class Place(Declared):
    """What the paper's words are on some data.

    Args:
        name, about: of the place, for the command line and for people.
        dataset: the paper's data set that it is, so that its cells alone are shown; empty where it is none of them.
        data, test: real images, to distil and to test on.
        methods, students: by the paper's names; one that is not there cannot be reproduced here.
        prepared: by name. In settings ``{NAME}`` is where a prepared thing lies, beside ``{data}`` and ``{teacher}``.
        teacher, classifier: what gives soft labels, and what guides in the paper's comparison.
        banks: files or names of banks by `Varied.bank`.
        protocol, evaluation: how students are trained, and further settings of `concord evaluate`.
        epochs: by the paper's IPC, or ``full``. always: of every training instead.
        ipc: what stands for the paper's, itself where it is not there.
        steps: denoising steps by the paper's.
        images: real images of a class that select concepts, null as the recipe says.
        cost: settings of sets whose images are timed.
        dtype: of generated sets and of students; null for their own.
        draws, seeds: sets of each method, and students of each set.
        measured: which sets are measured: the first draw of each, or those that a figure needs.
    """

    name: str
    about: str
    dataset: str = ""
    data: str = ""
    test: str
    methods: dict[str, MethodHere | None]
    prepared: dict[str, Prepared | None] = Field(default={})
    teacher: str = ""
    classifier: str = ""
    banks: dict[str, str] = Field(default={})
    students: dict[str, StudentHere | None]
    protocol: str = "rded"
    evaluation: list[str] = Field(default=[])
    epochs: dict[int | Literal["full"], PositiveInt] = Field(default={})
    always: PositiveInt | None = None
    ipc: dict[int, PositiveInt] = Field(default={})
    steps: dict[int, PositiveInt] = Field(default={})
    images: PositiveInt | None = None
    cost: list[str] = Field(default=[])
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    draws: PositiveInt = 3
    seeds: PositiveInt = 1
    measured: Literal["first", "needed"] = "first"

    def epochs_of(self, ipc: int | None) -> int | None:
        """Epochs of a training on so many images a class, in the paper's words; None for the protocol's own."""
        return self.always or self.epochs.get("full" if ipc is None else ipc)

    @cached_property
    def notes(self) -> dict[str, str]:
        """What stands for the paper's methods and networks here, by their names."""
        here = {**self.methods, **self.students}
        found = {name: one.note for name, one in here.items() if one is not None and one.note}
        for what, others in (("images a class", self.ipc), ("denoising steps", self.steps)):
            if others := {of_paper: own for of_paper, own in others.items() if of_paper != own}:
                found[what] = ", ".join(f"{own} for the paper's {of_paper}" for of_paper, own in others.items())
        if self.always or self.epochs:
            by_ipc = {f"{ipc} images a class": count for ipc, count in self.epochs.items() if ipc != "full"}
            by_ipc |= {"the whole set": self.epochs["full"]} if "full" in self.epochs else {}
            counts = {self.always} if self.always else set(by_ipc.values())
            of = ", ".join(f"{count} at {ipc}" for ipc, count in by_ipc.items())
            found["epochs"] = f"{counts.pop()} of every training" if len(counts) == 1 else of
        return found


class Choices(BaseModel):
    """``key=value`` of `concord reproduce`.

    Args:
        data, test: the real images to distil and to test on, where the place's own are others.
        teacher, classifier: what gives soft labels, and what guides in Tables 6 and 7: files or ids.
        banks: a bank for ``descriptive``, ``distinctive`` or ``another``: ``banks.another=FILE``.
        students: what stands for a network: ``students.resnet18="convnet-4 width=32"``.
        student, ipc: the columns that are wanted, in the paper's words; null for all.
        draws, seeds: sets of each method, and students of each set.
        beside: methods on real images that stand beside the rows of each table.
        protocol: how students are trained. epochs: of every training, instead of the place's.
        evaluation: further settings of `concord evaluate`, separated by spaces.
        dtype: of generated sets and of students: bfloat16 takes half of the time where the device has units for it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str | None = None
    test: str | None = None
    teacher: str | None = None
    classifier: str | None = None
    banks: dict[Literal["descriptive", "distinctive", "another"], str] = Field(default={})
    students: dict[Literal["convnet", "resnet18", "resnet101"], str] = Field(default={})
    student: list[Literal["convnet", "resnet18", "resnet101"]] | None = None
    ipc: list[PositiveInt] | None = None
    draws: PositiveInt | None = None
    seeds: PositiveInt | None = None
    beside: list[str] = Field(default=[])
    protocol: str | None = None
    epochs: PositiveInt | None = None
    evaluation: str = ""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None

    @field_validator("ipc", "student", "beside", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        if isinstance(given, str):
            return [part.strip() for part in given.split(",")]
        return [given] if isinstance(given, int) and not isinstance(given, bool) else given

    @field_validator("beside")
    @classmethod
    def _real(cls, names: list[str]) -> list[str]:
        for name in names:
            if METHODS.get(name).kind != "real":
                raise ValueError(f"{name} does not take real images, as random, herding, k_center, rded and full do")
        return names


def read_choices(texts: Sequence[str]) -> Choices:
    """Read ``key=value`` texts. Raises ConcordError: an unknown key, or a value that does not fit."""
    values: dict[str, Any] = {}
    for text in texts:
        override(Choices, values, text)
    return validated(Choices, values)


def names() -> list[str]:
    """The places that come with the package, but for their short forms."""
    found = (path.name.removesuffix(".yaml") for path in _PLACES.iterdir() if path.name.endswith(".yaml"))
    return sorted(name for name in found if not name.endswith(QUICK))


def place(name: str, choices: Choices, quick: bool = False) -> Place:
    """Return a place that comes with the package, or what a recipe makes one, with what was chosen of it.

    Raises:
        ConcordError: neither is of this name, it has no short form, or a choice does not fit.
    """
    if name in names():
        if quick and not (_PLACES / f"{name}{QUICK}.yaml").is_file():
            raise ConcordError(
                f"--quick is for --on reef, which needs no models; leave it out for {name}, or give ipc= and draws="
            )
        values = _values(f"{name}{QUICK}" if quick else name) | {"name": name}
    elif quick:
        raise ConcordError(
            "--quick is for --on reef, which needs no models; for a recipe give ipc=, draws= and epochs="
        )
    else:
        values = _of_recipe(name, choices)
    given = {
        key: getattr(choices, key)
        for key in ("data", "test", "teacher", "classifier", "draws", "seeds", "protocol", "dtype")
    }
    values |= {key: value for key, value in given.items() if value is not None}
    values["banks"] = {**values.get("banks", {}), **choices.banks}
    values["students"] = {**values["students"], **{one: _student(text) for one, text in choices.students.items()}}
    values["evaluation"] = [*values.get("evaluation", []), *shlex.split(choices.evaluation)]
    found: Place = declared(Place, values | {"always": choices.epochs}, f'place "{name}"')
    return found


def _values(name: str) -> dict[str, Any]:
    """The plain values of a place, laid over those that it extends."""
    values = read_yaml((_PLACES / f"{name}.yaml").read_text(encoding="utf-8"))
    return laid_over(_values(values.pop("extends")), values) if "extends" in values else dict(values)


def _student(text: str) -> dict[str, Any]:
    name, *settings = shlex.split(text)
    return {"set": [name if "=" in name else f"student={name}", *settings], "note": text}


def _of_recipe(name: str, choices: Choices) -> dict[str, Any]:
    """A place of one recipe: its method, and real images of its data."""
    try:
        recipe = load(name, [f"data={choices.data}"] if choices.data else [])
    except ConcordError as error:
        if name in bundled() or "unknown recipe" not in str(error):
            raise
        known = ", ".join(names())
        raise ConcordError(
            f'--on "{name}": expected {known}, or a recipe{nearest(name, [*names(), *bundled()])}'
        ) from None
    if choices.test is None:
        raise ConcordError(f"--on {name}: name the real images to test on, as in test=photos/validation")
    data = [f"data={choices.data}"] if choices.data else []
    real = {
        one: {"recipe": name, "set": [*data, f"method={one}", *_not_guided(recipe)]}
        for one in ("random", "k_center", "herding", "full")
    }
    rded = {
        "recipe": name,
        "set": [*data, "method=rded", "teacher={teacher}", *_not_guided(recipe)],
        "needs": ["teacher"],
    }
    methods: dict[str, Any] = {**real, "rded": rded}
    if recipe.is_generated:
        own = recipe.method if recipe.method in GENERATED else "unclip"
        note = "" if own == recipe.method else f"the recipe {recipe.name} (method {recipe.method})"
        methods[own] = {"recipe": name, "set": data, "note": note}
    elif recipe.method not in methods:
        methods[recipe.method] = {"recipe": name, "set": data}
    classes = [f"classes=[{', '.join(recipe.classes)}]"] if recipe.classes else []
    return {
        "name": recipe.name,
        "about": f"the data and the method of the recipe {recipe.name}",
        "data": recipe.data,
        "test": choices.test,
        "methods": methods,
        "prepared": {
            "teacher": {
                "verb": "teacher",
                "data": "{data}",
                "set": ["student=resnet-18", *classes],
                "file": "teacher.safetensors",
            }
        },
        "teacher": recipe.teacher or "",
        "classifier": "{teacher}",
        "banks": {"distinctive": recipe.concepts.bank} if recipe.concepts.bank else {},
        "students": {
            "convnet": {"set": ["student=convnet-5"]},
            "resnet18": {"set": ["student=resnet-18"]},
            "resnet101": {"set": ["student=resnet-101"]},
        },
        "cost": ["batch_size=1", "workers=1"],
    }


def _not_guided(recipe: Recipe) -> list[str]:
    return ["guides=[]"] if recipe.guides else []


def settings_of(row: Row, here: Place, base: Recipe) -> list[str]:
    """The settings of a recipe, as ``key=value`` texts, by which a method's row is made at a place.

    base: the recipe as the method has it there. Raises ConcordError: the place has nothing for what the row varies.
    """
    generated = base.is_generated
    if not generated:
        if row.informed or row.vary != Varied():
            raise ConcordError(f"{base.method} is no diffusion model, which could be informed")
        return []
    texts = [] if row.vary.steps is None else [f"pipeline.steps={here.steps.get(row.vary.steps, row.vary.steps)}"]
    if not row.informed:
        return [*texts, *PLAIN]
    vary, fast = row.vary, base.informing.mode == "fast"
    texts.append(f"uninformed={str(row.paired).lower()}")
    weight = vary.weight or 1.0
    if vary.objective is not None:
        texts += [f"informing.objective.{name}={value}" for name, value in OBJECTIVES[vary.objective].items()]
        if "classifier" in OBJECTIVES[vary.objective]:
            if not here.classifier:
                raise ConcordError("no classifier of these classes is named: give classifier=FILE")
            texts.append(f"informing.classifier={here.classifier}")
        # The fast mode normalises the gradient: the size of the only objective says nothing there.
        weight *= CLASSIFIER_WEIGHT if vary.objective == "classifier" and not fast else 1.0
    if weight != 1.0:
        texts.append(_weight(weight, base))
    if vary.negatives is not None:
        texts.append(f"concepts.negatives.kind={vary.negatives}")
    if vary.count is not None:
        texts.append(f"concepts.negatives.count={vary.count}")
    if vary.bank is not None:
        if vary.bank not in here.banks:
            how = "concord concepts retrieve DATA --model MODEL"
            how += " --prompt descriptive" if vary.bank == "descriptive" else ""
            what = f"no such bank of these classes comes with concord: give banks.{vary.bank}=FILE"
            raise ConcordError(f"{what} ({how} --out FILE makes one)")
        texts.append(f"concepts.bank={here.banks[vary.bank]}")
    if here.images is not None and (vary.objective or "contrastive") in ("contrastive", "cosine", "both"):
        texts.append(f"concepts.images={here.images}")
    return texts


def _weight(factor: float, base: Recipe) -> str:
    """What scales informing in the recipe's mode: the shift of the fast mode, or the paper's lambda."""
    informing = base.informing
    if informing.mode != "fast":
        return f"informing.weight={informing.weight * factor:g}"
    if informing.push is not None:
        return f"informing.push={informing.push * factor:g}"
    return f"informing.strength={informing.strength * factor:g}"
