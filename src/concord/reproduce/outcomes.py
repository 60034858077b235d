"""What the cells of a plan came to, read from what sets and trainings left; nothing is trained or measured here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from concord.errors import ConcordError
from concord.evaluation.record import FILE, read_record
from concord.evaluation.settings import read_settings
from concord.metrics.statistics import Difference, paired
from concord.models.students import canonical
from concord.paper import Cell
from concord.paper import cells as paper_cells
from concord.reproduce.items import Claim, Item, Row
from concord.reproduce.plan import CellPlan, Plan, Training
from concord.runs.directory import Run
from concord.storage.atomic import read_json

Json = Mapping[str, Any]
FAILED = "failed.json"
"""What could not be made, by the name of a set and its seed, and why."""
VERDICTS = ("confirmed", "not told apart", "contradicted", "not judged")
"""What the rule of `Judged` says of a claim; the last where fewer than two draws are there."""


@dataclass(frozen=True)
class Wanted:
    """What a training's cell goes by in evaluation.json."""

    student: str
    protocol: str
    changed: Json
    size: int | None
    seeds: Sequence[int]


@cache
def of_training(training: Training) -> Wanted:
    """By its settings, as `concord evaluate` reads them."""
    settings, ways = read_settings(training.settings)
    chosen = {key: value for key in ("norm", "pool", "width") if (value := getattr(settings, key)) is not None}
    changed = {**ways[0].changed, **chosen}
    return Wanted(canonical(settings.student[0]), ways[0].protocol.name, changed, settings.size, settings.seeds)


def cells_of(place: Path) -> Sequence[Json]:
    """The cells of a set's evaluation, as far as it was evaluated."""
    found: Sequence[Json] = read_record(place / FILE).get("cells", [])
    return found


def found_cell(cells: Sequence[Json], wanted: Wanted, ipc: int | None) -> Json | None:
    """The cell of a training at an IPC; None where it is not there. ipc: None is the whole set."""
    for cell in cells:
        same = (cell["student"], cell["protocol"], cell.get("changed") or {}) == (
            wanted.student,
            wanted.protocol,
            wanted.changed,
        )
        sized = wanted.size in (None, cell.get("size"))
        if same and sized and (ipc is None or cell["ipc"] == ipc):
            return cell
    return None


def lacking(place: Path, training: Training) -> dict[int | None, set[int]]:
    """By IPC, the seeds of the students that are not trained yet on the set in this directory; None is all images."""
    cells, wanted = cells_of(place), of_training(training)
    ipcs: Sequence[int | None] = training.ipc or (None,)
    found = {ipc: found_cell(cells, wanted, ipc) or {} for ipc in ipcs}
    return {ipc: set(wanted.seeds) - set(cell.get("seeds", ())) for ipc, cell in found.items()}


@dataclass(frozen=True)
class Outcome:
    """A cell as far as it is there.

    values: one a draw, its students averaged; of a set of which nothing is drawn, one a student. of: how many there
    shall be. paper: the paper's cells by data set.
    """

    plan: CellPlan
    values: Sequence[float] = ()
    of: int = 0
    drawn: bool = True
    paper: Mapping[str, Cell] = field(default_factory=dict)
    reports: str = "best"

    @property
    def mean(self) -> float | None:
        return float(np.mean(self.values)) if self.values else None

    @property
    def std(self) -> float | None:
        """Over draws, or students of one set (ddof=1); None of fewer than two."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Judged:
    """What became of a claim, by a rule.

    how far `better` is ahead of `than`: per draw the mean over all columns that both have, and Student's interval over
    draws. The claim is confirmed where the whole interval lies between its bounds, contradicted where none of it does,
    and else the two are not told apart. Of seconds it is a ratio, whose logarithm has the interval.
    """

    item: Item
    claim: Claim
    verdict: str
    difference: Difference | None = None
    columns: int = 0

    @property
    def unit(self) -> str:
        return "times" if self.item.kind == "cost" else "points"


@dataclass(frozen=True)
class Found:
    """All that a plan came to: outcomes by item, and its claims.

    seconds: that ``sets`` and ``trainings`` took, each as if alone; without what is prepared first.
    """

    plan: Plan
    outcomes: Mapping[str, Sequence[Outcome]]
    judged: Sequence[Judged]
    seconds: Mapping[str, float]

    @property
    def counts(self) -> dict[str, int]:
        return {verdict: sum(one.verdict == verdict for one in self.judged) for verdict in VERDICTS}

    @property
    def there(self) -> tuple[int, int]:
        """Values that are there, and that there shall be."""
        every = [one for of in self.outcomes.values() for one in of]
        return sum(len(one.values) for one in every), sum(one.of for one in every)


def read(plan: Plan) -> Found:
    """Read what is there of a plan. Raises ConcordError: a file is damaged."""
    places = [plan.draw(one.name, seed) for one, seed in plan.draws]
    records = {place: cells_of(place) for place in places}
    outcomes = {item.name: [_outcome(plan, item, cell, records) for cell in plan.of(item)] for item in plan.items}
    judged = [judge(item, claim, outcomes[item.name]) for item in plan.items for claim in item.claims]
    sets = sum(float(Run(place).results.get("seconds") or 0) for place in places)
    trainings = sum(float(one.get("seconds") or 0) for cells in records.values() for one in cells)
    return Found(plan, outcomes, judged, {"sets": round(sets, 1), "trainings": round(trainings, 1)})


def _outcome(plan: Plan, item: Item, cell: CellPlan, records: Mapping[Path, Sequence[Json]]) -> Outcome:
    row = next((row for row in item.rows if row.name == cell.row), None)
    of_paper = papers(item, row, cell, plan.place.dataset) if row is not None else {}
    if not cell.set or item.kind not in ("accuracies", "cost"):
        return Outcome(cell, paper=of_paper)
    one = plan.sets[cell.set]
    drawn = one.base.spec.drawn
    if item.kind == "cost":
        seconds = [Run(plan.draw(cell.set, seed)).results.get("seconds_per_image") for seed in one.seeds]
        return Outcome(cell, [float(s) for s in seconds if s], len(one.seeds), paper=of_paper)
    assert cell.training is not None
    wanted, values, reports = of_training(cell.training), list[float](), "best"
    ipc = cell.training.ipc[0] if cell.training.ipc else None
    for seed in one.seeds:
        if (found := found_cell(records[plan.draw(cell.set, seed)], wanted, ipc)) is None:
            continue
        reports = str(found.get("reports", "best"))
        by_seed = dict(zip(found["seeds"], found["top1"][reports]["values"], strict=True))
        some = [by_seed[one] for one in wanted.seeds if by_seed.get(one) is not None]
        values += ([float(np.mean(some))] if some else []) if drawn else some
    return Outcome(cell, values, len(one.seeds) if drawn else len(wanted.seeds), drawn, of_paper, reports)


def papers(item: Item, row: Row, cell: CellPlan, dataset: str) -> dict[str, Cell]:
    """The paper's cells of one of ours, by data set: of the place's own alone, where the table has it."""
    if item.paper is None:
        return {}
    found = {}
    for name in [dataset] if dataset in item.paper.datasets else item.paper.datasets:
        of_row = (name, row.method, row.of_paper.get("informed", row.informed))
        keys = [(*of_row, cell.student or "", cell.ipc, row.paper), (*of_row, "", None, row.paper)]
        # Of its own table first: a baseline may stand in another one alone.
        known = (_by_key(table) for table in (item.paper.table, None))
        if one := next((of[key] for of in known for key in keys if key in of), None):
            found[name] = one
    return found


@cache
def _by_key(table: int | None) -> Mapping[tuple[Any, ...], Cell]:
    """The paper's cells of a table, or of all: the first of each."""
    found: dict[tuple[Any, ...], Cell] = {}
    for one in paper_cells(table):
        found.setdefault((one.dataset, one.method, one.informed, one.student, one.ipc, one.variant), one)
    return found


def judge(item: Item, claim: Claim, outcomes: Sequence[Outcome]) -> Judged:
    """Say by the rule of `Judged` what became of a claim."""
    pairs = columns(claim, outcomes)
    if not pairs:
        return Judged(item, claim, VERDICTS[3])
    n = min(min(len(a.values), len(b.values)) for a, b in pairs)
    if n < 2:
        return Judged(item, claim, VERDICTS[3], columns=len(pairs))
    ratio = item.kind == "cost"

    def of(values: Sequence[float]) -> np.ndarray:
        return np.log(np.asarray(values[:n])) if ratio else np.asarray(values[:n])

    ahead = np.mean([of(a.values) for a, _ in pairs], axis=0)
    behind = np.mean([of(b.values) for _, b in pairs], axis=0)
    found = paired(behind.tolist(), ahead.tolist())
    assert found is not None
    if ratio:
        low, high = found.ci95
        found = Difference(float(np.exp(found.mean)), (float(np.exp(low)), float(np.exp(high))), found.n, found.p)
    return Judged(item, claim, verdict(found.ci95, claim.start, claim.end), found, len(pairs))


def columns(claim: Claim, outcomes: Sequence[Outcome]) -> list[tuple[Outcome, Outcome]]:
    """The cells of both rows of a claim in the columns that it is about and that both have; the whole set's are of all
    IPC."""
    rows: dict[str, list[Outcome]] = {
        name: [one for one in outcomes if one.plan.row == name and one.values] for name in (claim.better, claim.than)
    }
    found = []
    for one in rows[claim.better]:
        for other in rows[claim.than]:
            same = one.plan.student == other.plan.student
            ipcs = [ipc for ipc in (one.plan.ipc, other.plan.ipc) if ipc is not None]
            alike = len(set(ipcs)) < 2
            in_ipc = claim.ipc is None or all(ipc in claim.ipc for ipc in ipcs)
            in_students = claim.students is None or one.plan.student in claim.students
            if same and alike and in_ipc and in_students:
                found.append((one, other))
    return found


def verdict(interval: tuple[float, float], start: float | None, end: float | None) -> str:
    """Confirmed where an interval lies between two bounds, contradicted where it lies outside, else not told apart."""
    low, high = interval
    least, most = (-np.inf if start is None else start), (np.inf if end is None else end)
    if least < low and high < most:
        return VERDICTS[0]
    return VERDICTS[2] if high < least or most < low else VERDICTS[1]


def failures(plan: Plan) -> dict[str, str]:
    """What could not be made, by set and draw, and why; empty where all could."""
    try:
        found = read_json(plan.work / FAILED).get("failed", {})
    except ConcordError:
        return {}
    return {str(name): str(why) for name, why in found.items()}
