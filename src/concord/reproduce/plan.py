"""From tables and figures to shared work: each set is made once and each student trained once, whoever asks for them.

A piece of work is a command of concord with its directory, so that anyone can give it by hand, and what is there
already is left as it is. Nothing here looks at images.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from concord.errors import ConcordError
from concord.evaluation.protocols import protocol
from concord.recipe import Recipe, identity, load
from concord.reproduce.items import Item, Row, Student
from concord.reproduce.places import Choices, MethodHere, Place, Prepared, settings_of
from concord.runs.draws import draw_path
from concord.text import file_name

SETS, PREPARED = "sets", "prepared"
"""Where sets lie in the directory of a reproduction, and what is made before them."""
SHOWN_IPC, STRIP_IPC, COST_IPC = 10, 1, 2
"""Images a class behind pictures of pairs, behind strips, and of sets whose images are timed; the first as the paper
counts them."""


@dataclass(frozen=True)
class Training:
    """Students of one set: settings of `concord evaluate` but for ``ipc``, and the IPC of the set; empty is all."""

    settings: tuple[str, ...]
    ipc: tuple[int, ...] = ()


@dataclass(frozen=True)
class SetPlan:
    """A set in its draws, below `name`. texts: settings of its recipe. ipc: None for all real images.

    seeds: of its draws. needs: prepared things. measured: whether its first draw is measured, too.
    """

    name: str
    recipe: str
    texts: tuple[str, ...]
    seeds: tuple[int, ...]
    ipc: int | None
    needs: tuple[str, ...]
    measured: bool
    base: Recipe = field(repr=False)
    trainings: tuple[Training, ...] = ()

    def settings(self, seed: int, least: int = 0) -> list[str]:
        """All ``key=value`` of a draw. least: images a class that are there already, and stay."""
        return [*self.texts, f"seed={seed}", *([f"ipc={max(self.ipc, least)}"] if self.ipc else [])]


@dataclass(frozen=True)
class CellPlan:
    """One number of an item, or the pictures of a row.

    student, ipc: in the paper's words. set: what it is read from; empty where it is `missing`, which says why.
    training: its settings, with its IPC there.
    """

    item: str
    row: str
    student: Student | None
    ipc: int | None
    set: str
    training: Training | None = None
    missing: str = ""


@dataclass(frozen=True)
class Plan:
    """All that items need at a place. prepared: with their settings filled in. test: what students are tested on."""

    place: Place
    work: Path
    items: Sequence[Item]
    prepared: Mapping[str, Prepared]
    sets: Mapping[str, SetPlan]
    cells: Sequence[CellPlan]
    test: str

    def draw(self, name: str, seed: int) -> Path:
        """Where a draw of a set lies."""
        return draw_path(self.work / SETS / name, seed)

    @property
    def draws(self) -> list[tuple[SetPlan, int]]:
        """Every set with every seed, in the order in which the items need them."""
        return [(one, seed) for one in self.sets.values() for seed in one.seeds]

    def of(self, item: Item) -> list[CellPlan]:
        return [cell for cell in self.cells if cell.item == item.name]

    @property
    def trainings(self) -> int:
        """Students that are trained in all."""
        return sum(
            len(one.seeds) * max(1, len(training.ipc)) * len(seeds_of(training))
            for one in self.sets.values()
            for training in one.trainings
        )


def seeds_of(training: Training) -> list[int]:
    """The students' seeds of a training."""
    text = next(text for text in training.settings if text.startswith("seeds="))
    return list(range(int(text.removeprefix("seeds="))))


def plan(items: Sequence[Item], place: Place, work: Path, choices: Choices) -> Plan:
    """Plan items at a place, in a directory; what cannot be made says why, and nothing is looked up but recipes."""
    paths = _paths(place, work)
    prepared = {
        name: one.model_copy(update={"set": _filled(one.set, paths), "data": _filled([one.data], paths)[0]})
        for name, one in place.prepared.items()
        if one is not None
    }
    here = place.model_copy(update={"classifier": _filled([place.classifier], paths)[0]})
    test = str(work / PREPARED / prepared["test"].file / "images") if "test" in prepared else place.test
    rows = [(item, row) for item in items for row in [*item.rows, *_beside(item, choices)]]
    sets: dict[str, SetPlan] = {}
    cells: list[CellPlan] = []
    for item, row in rows:
        for student, ipc in _columns(item, row, choices):
            try:
                one, training = _set_of(item, row, student, ipc, here, work, paths)
            except ConcordError as error:
                cells.append(CellPlan(item.name, row.name, student, ipc, "", missing=str(error)))
                continue
            sets[one.name] = _joined(sets.get(one.name), one)
            cells.append(CellPlan(item.name, row.name, student, ipc, one.name, training))
    used = {need for one in sets.values() for need in one.needs}
    used |= {"test"} & prepared.keys() if any(one.trainings for one in sets.values()) else set()
    if not place.teacher and any(_asks_teacher(t) for one in sets.values() for t in one.trainings):
        used |= {"teacher"}
    return Plan(here, work, items, {n: one for n, one in prepared.items() if n in used}, sets, cells, test)


def _beside(item: Item, choices: Choices) -> list[Row]:
    """Rows of real images that were asked for beside those of a table."""
    there = {row.method for row in item.rows}
    names = [name for name in choices.beside if name not in there] if item.kind == "accuracies" else []
    return [Row(name=f"{name} real images", method=name) for name in names]


def _paths(place: Place, work: Path) -> dict[str, str]:
    """What stands for ``{NAME}`` in settings."""
    prepared = {name: str(work / PREPARED / one.file) for name, one in place.prepared.items() if one is not None}
    return {**prepared, "data": place.data, **({"teacher": place.teacher} if place.teacher else {})}


def _filled(texts: Sequence[str], paths: Mapping[str, str]) -> list[str]:
    found = list(texts)
    for name, path in paths.items():
        found = [text.replace(f"{{{name}}}", path).replace(f"{{{name}:", f"{{{path}:") for text in found]
    return found


def _columns(item: Item, row: Row, choices: Choices) -> Iterable[tuple[Student | None, int | None]]:
    """A row's columns, in the paper's words: none but one where the item is no table of accuracies."""
    if item.kind != "accuracies":
        return [(None, None)]
    students = [s for s in row.students or item.students if choices.student is None or s in choices.student]
    ipcs: list[int | None] = [n for n in row.ipc or item.ipc if choices.ipc is None or n in choices.ipc]
    return [(student, ipc) for student in students for ipc in ([None] if row.method == "full" else ipcs)]


def _set_of(
    item: Item,
    row: Row,
    student: Student | None,
    ipc: int | None,
    place: Place,
    work: Path,
    paths: Mapping[str, str],
) -> tuple[SetPlan, Training | None]:
    """The set that a cell is of, and what is trained on it. Raises ConcordError: the place has no way to make it."""
    method = place.methods.get(row.method)
    if method is None:
        raise ConcordError(f"nothing stands for {row.method} here")
    if student is not None and place.students.get(student) is None:
        raise ConcordError(f"nothing stands for {student} here")
    own = [*_filled(method.set, paths), *(place.cost if item.kind == "cost" else [])]
    own += [f"dtype={place.dtype}"] if place.dtype and _loaded(method.recipe, *own).is_generated else []
    texts = [*own, *settings_of(row, place, _loaded(method.recipe, *own))]
    count = {"pairs": SHOWN_IPC, "plane": SHOWN_IPC, "strips": STRIP_IPC, "phrases": STRIP_IPC}.get(item.kind, ipc)
    if count is not None:
        count = place.ipc.get(count, count)
    count = COST_IPC if item.kind == "cost" else count
    recipe = _loaded(method.recipe, *texts)
    if recipe.spec.ipc == "joint":  # each is a set of its own
        recipe = _loaded(method.recipe, *texts, f"ipc={count}")
    drawn = tuple(range(place.draws)) if recipe.spec.drawn else (0,)
    pictured = item.kind not in ("accuracies", "cost")
    needed = item.kind == "plane" or row.paired
    training = None
    if student is not None:
        training = _training(place, student, ipc, count, recipe.spec.drawn, paths)
    one = SetPlan(
        name=_name(row, recipe, work),
        recipe=method.recipe,
        texts=tuple(texts),
        seeds=drawn[:1] if pictured else drawn,
        ipc=None if recipe.spec.ipc == "all" else count,
        needs=_needs(method, place, texts),
        measured=recipe.is_generated and item.kind != "cost" and (needed or place.measured == "first"),
        base=recipe,
        trainings=(training,) if training else (),
    )
    return one, training


@cache
def _loaded(name: str, *texts: str) -> Recipe:
    """A recipe, read once for all cells that are of it."""
    return load(name, texts)


def _needs(method: MethodHere, place: Place, texts: Sequence[str]) -> tuple[str, ...]:
    """What must be prepared for a set: a teacher only where none was named."""
    own = place.prepared.get("teacher")
    uses = own is not None and any(text.endswith(f"/{own.file}") for text in texts)
    wanted = [*method.needs, *(["teacher"] if uses else [])]
    return tuple(name for name in dict.fromkeys(wanted) if name != "teacher" or not place.teacher)


def _training(
    place: Place, student: Student, ipc: int | None, count: int | None, drawn: bool, paths: Mapping[str, str]
) -> Training:
    here = place.students[student]
    assert here is not None
    # A set of which nothing is drawn has a student for each draw of the others instead.
    seeds = place.seeds if drawn else max(place.seeds, place.draws)
    settings = [*here.set, f"protocol={place.protocol}", *place.evaluation, f"seeds={seeds}"]
    settings += [f"dtype={place.dtype}"] if place.dtype else []
    if (epochs := place.epochs_of(ipc)) is not None:
        settings.append(f"epochs={epochs}")
    if protocol(place.protocol).labels != "hard" and paths.get("teacher"):
        settings.append(f"teacher={paths['teacher']}")
    return Training(tuple(settings), (count,) if count else ())


def _asks_teacher(training: Training) -> bool:
    return any(text.startswith("teacher=") for text in training.settings)


def _name(row: Row, recipe: Recipe, work: Path) -> str:
    """A directory's name for people, with a digest of all that decides the images but seed and IPC."""
    decides = {key: value for key, value in identity(recipe).items() if key != "seed"}
    text = json.dumps(decides, sort_keys=True).replace(str(work), "WORK")
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    # Rows that say the same in other words are one set: the name is of nothing that they say differently.
    return f"{file_name(row.method)}{'-informed' if row.informed else ''}-{digest}"


def _joined(one: SetPlan | None, other: SetPlan) -> SetPlan:
    """What two cells want of the same set."""
    if one is None:
        return other
    merged: dict[tuple[str, ...], tuple[int, ...]] = {}
    for training in (*one.trainings, *other.trainings):
        merged[training.settings] = tuple(sorted({*merged.get(training.settings, ()), *training.ipc}))
    return replace(
        one,
        seeds=tuple(sorted({*one.seeds, *other.seeds})),
        ipc=None if one.ipc is None else max(one.ipc, other.ipc or 0),
        measured=one.measured or other.measured,
        trainings=tuple(Training(settings, ipc) for settings, ipc in merged.items()),
    )
