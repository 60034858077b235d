"""Two runs compared sample by sample (docs/compare.md): second less first, in all that differs.

Values of samples have a paired bootstrap interval, resampled within classes; accuracies over the same seeds Student's
interval of their pairs, and the exact permutation p value; over seeds of their own, Welch's interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from concord.errors import ConcordError
from concord.evaluation.draws import between, read_draws
from concord.evaluation.metrics import shown
from concord.evaluation.record import name as name_of
from concord.evaluation.record import same_test, way
from concord.metrics.measures import phrase_measures, shown_metrics
from concord.metrics.statistics import Difference, paired, paired_interval, unpaired
from concord.recipe import differing
from concord.registry import DATASETS, Measure
from concord.runs.directory import Json, Place, Run, StoredSample, Words, open_run
from concord.runs.store import MANIFEST
from concord.system import cores

SIDE = 64
"""Pixels of the squares on which pictures are compared."""


@dataclass(frozen=True)
class Compared:
    """One figure of both runs; change: second less first; ci95, p: over n samples or seeds, where `by` these known."""

    measure: Measure
    a: float | None
    b: float | None
    change: float | None
    ci95: tuple[float, float] | None = None
    n: int | None = None
    by: str = ""
    p: float | None = None

    @property
    def name(self) -> str:
        return self.measure.name or self.measure.key


@dataclass(frozen=True)
class Pair:
    """The two images of one class and index.

    change: mean absolute difference of their pixels at `SIDE`, in [0, 1]; identical: every pixel is equal.
    details: means over the phrases on which both were rated, by the key of `details.json`; empty where there is none.
    """

    place: Place
    class_name: str
    change: float
    identical: bool
    same_seed: bool
    details: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """All that differs. keys: (dotted recipe key, first's value, second's). pairs: the most changed first."""

    a: Run
    b: Run
    keys: tuple[tuple[str, Any, Any], ...]
    pairs: tuple[Pair, ...]
    measures: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def only(self) -> tuple[int, int]:
        """Samples that the first or the second alone has."""
        return len(self.a.by_place) - len(self.pairs), len(self.b.by_place) - len(self.pairs)

    @property
    def lead(self) -> Measure | None:
        """The measure that stands beside a pair's images; None where no pair was rated by it."""
        return next((one.measure for one in self.measures if one.measure.of == "phrase" and one.measure.lead), None)


_DAMAGED = "{path} is damaged: expected a JSON object; give `concord distill` again, or remove it"
WORDS = Words(_DAMAGED, _DAMAGED, "{path} names {name!r}, which does not lie beside it")


def finished_run(out: Path) -> Run:
    """Open a run that can be compared. Raises ConcordError: it is no run, or not finished."""
    if not (out / "recipe.yaml").is_file() or not (out / "images" / MANIFEST).is_file():
        lacking = "there is no such directory" if not out.is_dir() else "no recipe.yaml with images/metadata.jsonl"
        raise ConcordError(f"{out} holds no run ({lacking}): name the --out of a finished `concord distill`")
    run = open_run(out, WORDS)
    if not run.finished:
        raise ConcordError(f"{out} is not finished (no results.json): give its `concord distill` command again")
    return run


def compare(a: Run, b: Run) -> Comparison:
    """Compare two finished runs on the same data; a ConcordError if it differs or an image cannot be read."""
    check_same_data(a, b)
    notes = []
    places = sorted(a.by_place.keys() & b.by_place.keys())
    rated = [measure.key for measure in phrase_measures(a.results)] if a.details and b.details else []
    if bool(a.details) != bool(b.details):
        notes.append(f"details are not compared: {(b if a.details else a).out} has none")
    if rated and a.details.get("encoder") != b.details.get("encoder"):
        rated = []
        notes.append("details were rated by different encoders and are not compared")
    with ThreadPoolExecutor(cores()) as pool:
        both = [(a.by_place[place], b.by_place[place]) for place in places]
        changes = list(pool.map(lambda samples: _change(*samples), both))
    pairs = [
        Pair((x.folder, x.index), x.class_name, *change, x.seed == y.seed, _details(x.details, y.details, rated))
        for (x, y), change in zip(both, changes, strict=True)
    ]
    if not same_test(a.evaluation, b.evaluation):
        notes.append("accuracies were read on different test images and are not compared")
    if not all(pair.same_seed for pair in pairs):
        notes.append("seeds differ: a pair shares class and index, not its noise")
    lacking = sum(not pair.details for pair in pairs)
    if rated and 0 < lacking < len(pairs):
        notes.append(f"{lacking} pairs have no phrase on which both were rated")
    keys = tuple((key, _at(a.recipe, key), _at(b.recipe, key)) for key in differing(a.recipe, b.recipe))
    ordered = tuple(sorted(pairs, key=lambda pair: (-pair.change, pair.place)))
    return Comparison(a, b, keys, ordered, tuple(_measures(a, b, pairs)), tuple(notes))


def _change(a: StoredSample, b: StoredSample) -> tuple[float, bool]:
    """How far two pictures are apart, and whether they are one and the same."""
    paths = a.path, b.path
    try:
        if paths[0].read_bytes() == paths[1].read_bytes():
            return 0.0, True
        pictures = [a.image, b.image]
    except (OSError, ConcordError) as error:
        raise ConcordError(f"cannot read both images of {a.folder}, index {a.index}: {error}") from None
    if pictures[0].size == pictures[1].size and pictures[0].tobytes() == pictures[1].tobytes():
        return 0.0, True
    small = [np.asarray(p.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float) for p in pictures]
    return float(np.abs(small[0] - small[1]).mean() / 255), False


def _details(first: Sequence[Json], second: Sequence[Json], keys: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The mean of each key on both images, over the phrases on which both were rated."""
    other = {row["phrase"]: row for row in second}
    both = [(row, other[row["phrase"]]) for row in first if row["phrase"] in other]
    means = {}
    for key in keys:
        if both and all(key in row for pair in both for row in pair):
            one, two = (sum(float(pair[i][key]) for pair in both) / len(both) for i in (0, 1))
            means[key] = one, two
    return means


def _measures(a: Run, b: Run, pairs: Sequence[Pair]) -> Iterator[Compared]:
    for measure in phrase_measures(a.results):
        if rated := [pair for pair in pairs if measure.key in pair.details]:
            yield _paired(measure, rated, [pair.details[measure.key] for pair in rated])
    for name in _common_scores(a, b, pairs):
        values = [(float(a.by_place[p.place].scores[name]), float(b.by_place[p.place].scores[name])) for p in pairs]
        yield _paired(Measure(f"scores.{name}", name.replace("_", " "), "number", 0), pairs, values)
    yield from _of_results(a, b)
    yield from _of_evaluation(a.evaluation, b.evaluation)
    seconds = [_number(run.results, "seconds_per_image") for run in (a, b)]
    if any(seconds):  # null where a call only measured anew
        yield _plain(Measure("seconds_per_image", "seconds an image", "seconds", -1), *seconds)


def _common_scores(a: Run, b: Run, pairs: Sequence[Pair]) -> list[str]:
    """Scores that every image of both runs bears in its row, in the first's order."""
    rows = [run.by_place[pair.place].scores for run in (a, b) for pair in pairs]
    names = [name for name in (rows[0] if rows else {}) if name != "uninformed_steps"]
    return [name for name in names if all(isinstance(row.get(name), int | float) for row in rows)]


def _paired(measure: Measure, pairs: Sequence[Pair], values: Sequence[tuple[float, float]]) -> Compared:
    """A measure of which every pair has both values, with its paired interval."""
    first, second = np.array(values).T
    interval: Any = paired_interval(second, first, np.array([pair.place[0] for pair in pairs]))
    means = float(first.mean()), float(second.mean())
    ends = interval["ci95"] and tuple(interval["ci95"])
    return Compared(measure, *means, interval["mean"], ends, len(pairs), "pairs")


def _of_results(a: Run, b: Run) -> Iterator[Compared]:
    """What `results.json` of both has of their sets as wholes: no interval, its samples are not kept."""
    for measure in (row for metric in shown_metrics(a.results) for row in metric.rows):
        if measure.of == "set" and "comparison" in measure.places:
            first, second = (_number(run.results, measure.key.format(run.main)) for run in (a, b))
            if first is not None and second is not None:
                yield _plain(measure, first, second)


_NAMED = {"student", "protocol", "ipc"}


def _of_evaluation(a: Json, b: Json) -> Iterator[Compared]:
    """What students reached in the cells (student, protocol, IPC, what was changed) that both evaluations have."""
    if not same_test(a, b):
        return
    first, second = ({name_of(c): c for c in e.get("cells", ()) if c.keys() >= _NAMED} for e in (a, b))
    for cell in (cell for cell in first if cell in second):
        of_a, of_b = (_of_predictions(cells[cell]) for cells in (first, second))
        for metric, which in product([metric for metric in of_a if metric in of_b], ("last", "best")):
            one, two = (_number(of[metric], f"{which}.mean") for of in (of_a, of_b))
            if one is not None and two is not None:
                named = _named(replace(shown(metric), key=metric), which, first[cell])
                yield Compared(named, one, two, two - one, **_over_seeds(of_a[metric], of_b[metric], which))


def compare_draws(one: Path, other: Path) -> tuple[Compared, ...]:
    """Top-1 of two directories of draws, by cell: paired by draw, in the order of their seeds.

    Raises:
        ConcordError: a draw was not evaluated, there are not as many of both, or the test images differ.
    """
    found = []
    for first, second, which, difference in between(read_draws(one), read_draws(other)):
        a, b = (float(cell["top1"][which]["mean"]) for cell in (first, second))
        measure = _named(replace(shown("top1"), key="top1"), which, first)
        found.append(Compared(measure, a, b, b - a, **_told(difference, "paired draws")))
    return tuple(found)


def _named(measure: Measure, which: str, cell: Json) -> Measure:
    """A metric of a cell's predictions, as a row of its own."""
    student, protocol, ipc = cell["student"], way(cell), cell["ipc"]
    label = f"{measure.label.removesuffix(' in %')} {which}, {student}, {protocol}, IPC {ipc}"
    return replace(measure, key=f"{measure.key}.{which}.{student}.{protocol}.{ipc}", label=label)


def _of_predictions(cell: Json) -> dict[str, Json]:
    """The metrics of a cell by name, with the seeds of each."""
    return {"top1": {"seeds": cell.get("seeds"), **(cell.get("top1") or {})}, **(cell.get("metrics") or {})}


def _over_seeds(a: Json, b: Json, which: str) -> dict[str, Any]:
    """What the seeds say of a metric's difference: in pairs where both have the same seeds, else by Welch."""
    one, two = _by_seed(a, which), _by_seed(b, which)
    if one and one.keys() == two.keys():
        found, by = paired(list(one.values()), [two[seed] for seed in one]), "paired seeds"
    else:
        found, by = _welch(a, b, which), "seeds"
    return _told(found, by)


def _told(found: Difference | None, by: str) -> dict[str, Any]:
    return {"ci95": found.ci95, "n": found.n, "by": by, "p": found.p} if found else {}


def _by_seed(of: Json, which: str) -> dict[int, float]:
    """The value of each seed; empty where there is not one for each."""
    seeds, values = of.get("seeds"), _at(of, f"{which}.values")
    if not isinstance(seeds, list) or not isinstance(values, list) or not len(set(seeds)) == len(seeds) == len(values):
        return {}
    return dict(zip(seeds, map(float, values), strict=True))


def _welch(a: Json, b: Json, which: str) -> Difference | None:
    means, spreads = ([_number(of, f"{which}.{key}") for of in (a, b)] for key in ("mean", "std"))
    counts = [len(of["seeds"]) if isinstance(of.get("seeds"), list) else int(of.get("seeds") or 0) for of in (a, b)]
    known = [float(value) for value in (*means, *spreads) if value is not None]
    return unpaired((known[0], known[1]), (known[2], known[3]), (counts[0], counts[1])) if len(known) == 4 else None


def _plain(measure: Measure, a: float | None, b: float | None) -> Compared:
    return Compared(measure, a, b, None if a is None or b is None else b - a)


def _number(values: Json, key: str) -> float | None:
    """The number at a dotted key, or None."""
    found = _at(values, key)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _at(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values


def check_same_data(a: Run, b: Run) -> None:
    """Refuse two runs that were begun with different data or have no sample in common: these are no pairs."""
    fingerprints = {(run.environment.get("data") or {}).get("fingerprint") for run in (a, b)} - {None, ""}
    if len(fingerprints) > 1:
        raise ConcordError(
            f"{a.out} and {b.out} are of different data sets: {_data(a)} and {_data(b)} do not hold the same images;"
            " only runs on the same data can be compared"
        )
    if not a.by_place.keys() & b.by_place.keys():
        classes = ", ".join(f'"{folder}"' for folder in sorted({folder for folder, _ in b.by_place})[:3]) or "none"
        raise ConcordError(f"{a.out} and {b.out} have no class and index in common (the second has {classes}, ...)")


def _data(run: Run) -> str:
    data = str(run.recipe.get("data"))
    return data if data in DATASETS else f'"{data}"'
