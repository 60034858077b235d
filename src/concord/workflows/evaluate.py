"""An evaluation from a set's directory to evaluation.json and, of a run, its page; `evaluate` is for Python."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.evaluation import evaluate as evaluation
from concord.evaluation import rate_search
from concord.evaluation.cells import open_sets
from concord.evaluation.draws import joined, set_sides, side
from concord.evaluation.estimate import Estimate, estimate
from concord.evaluation.evaluate import Ready, add
from concord.evaluation.record import Json, record_path
from concord.evaluation.regimes import OWN
from concord.evaluation.settings import ProtocolConfig, Settings, read_settings
from concord.evaluation.table import table
from concord.events import Progress, Silent
from concord.models.students import canonical
from concord.report.page import write_report
from concord.runs.directory import Run
from concord.runs.draws import draws_in
from concord.settings import as_texts
from concord.storage.cluster import Cluster, connected_if
from concord.text import counted
from concord.workflows.beside import choose_beside, places_beside


@dataclass(frozen=True)
class Scores:
    """What an evaluation came to. record: what evaluation.json holds. path: where that lies."""

    record: dict[str, Any]
    path: Path

    def table(self) -> str:
        """What `concord evaluate` prints: a row a student and protocol, a column an IPC."""
        return "\n".join(line for line, _ in table(self.record))


def evaluate(
    run: Run | str | Path,
    test: str | Path,
    *,
    out: str | Path | None = None,
    random: str | Path | None = None,
    full: str | Path | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Scores:
    """Train students from nothing on a small set and test them on real images, as `concord evaluate` does.

        concord.evaluate("out/reef", test="reef-test", student=["convnet-3"], protocol="rded", ipc=[1, 10])

    What the record holds already is not trained again.

    Args:
        run: a run, or the directory of any small set.
        test: real images: a folder, Parquet, or the name of a data set.
        out: the file of the record, instead of evaluation.json with the set.
        random, full: random real images and the full real set, evaluated before: for DD-Ranking's scores.
        cluster: a Ray cluster whose nodes train the students: ``local``, ``auto``, HOST:PORT or ``ray://HOST:PORT``.
        progress: hears how it gets on.
        settings: keys of `concord.evaluation.settings.Settings` (student, protocol, ipc, seeds, teacher, beside, ...),
            or of the protocols (epochs, batch, ``mixing={"kind": "mixup"}``, ...).

    Raises ConcordError: anything the caller can put right; what is finished stays, the same call goes on from there.
    """
    directory = run.out if isinstance(run, Run) else Path(run)
    file, *others = (None if place is None else Path(place) for place in (out, random, full))
    chosen = read_settings(as_texts(settings))
    with connected_if(cluster) as nodes:
        record = evaluate_sets([directory], str(test), chosen, file, progress or Silent(), *others, cluster=nodes)
    return Scores(record, record_path(directory, file))


def evaluate_sets(
    sets: Sequence[Path],
    test: str,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    out: Path | None,
    progress: Progress,
    *others: Path | None,
    cluster: Cluster | None = None,
) -> Json:
    """Evaluate the draws of a set, and what `beside` names with them; return one record of all.

    Each record lies with its set, and the set's hold what stands side by side (`sides`).
    """
    settings, _ = chosen
    if (settings.beside or settings.ranking) and out is not None:
        key = "beside" if settings.beside else "ranking"
        raise ConcordError(f"--out is for one set, and {key}= evaluates others with it; leave one of them out")
    if settings.ranking:
        return _evaluate_ranked(sets, test, chosen, progress, *others, cluster=cluster)
    beside = {method: choose_beside(sets, method, settings.draws, progress) for method in settings.beside}
    records = [evaluate_and_report(place, test, chosen, out, progress, *others, cluster=cluster) for place in sets]
    sides = []
    for method, places in beside.items():
        found = []
        for number, place in enumerate(places, 1):
            progress.note(f"{method}, {f'draw {number} of {len(places)}' if len(places) > 1 else 'beside the set'}")
            found.append(evaluation.evaluate(place, test, *chosen, None, progress, cluster=cluster))
        sides.append(side(method, found, **_facts(places[0])))
    if len(sets) > 1:
        sides.insert(0, side(OWN, records))
    if sides:
        records = [add(place, partial(set_sides, sides=sides)) for place in sets]
        for place in sets:
            _report(place, progress)
    return joined(records) if len(records) > 1 else records[0]


def _evaluate_ranked(
    sets: Sequence[Path],
    test: str,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    progress: Progress,
    random: Path | None = None,
    full: Path | None = None,
    *,
    cluster: Cluster | None = None,
) -> Json:
    """Evaluate one set, and search DD-Ranking's rates for it and for a draw of random images a seed."""
    settings, ways = chosen
    own, *drawn = _searches(sets, settings, ways, random, full)
    roles, students = own[2], [canonical(student) for student in settings.student]
    of = evaluation.identity(*open_sets(sets[0], test, settings))
    whole = rate_search.of_full(evaluation.cells_of(full, of), roles, students)
    if random is None:
        choose_beside(sets, "random", len(drawn), progress)
    evaluate_sets(sets, test, (settings.model_copy(update={"ranking": None}), ways), None, progress, cluster=cluster)
    progress.note(f"{settings.ranking}: {len(rate_search.RATES)} rates each, for the set and {len(drawn)} random ones")
    made, *found = (
        rate_search.search(place, test, settings.model_copy(update={"seeds": seeds}), some, progress, cluster)
        for place, seeds, some in (own, *drawn)
    )
    rows = rate_search.scores(made, found, whole, roles, settings.seeds)
    record = add(sets[0], partial(evaluation.rank, rows=rows))
    _report(sets[0], progress)
    return record


def _searches(
    sets: Sequence[Path],
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    random: Path | None = None,
    full: Path | None = None,
) -> list[tuple[Path, list[int], dict[str, ProtocolConfig]]]:
    """What DD-Ranking's rates are tried for, with which seeds and protocols: the set, and random images for each seed.

    Raises:
        ConcordError: no score could come of it.
    """
    if len(sets) > 1:
        raise ConcordError(f"ranking= is for one set, and {len(sets)} are given; evaluate them one by one")
    rate_search.require(ways, full)
    roles, seeds = rate_search.chosen(ways), settings.seeds
    if random is None:
        draws = list(places_beside(sets, "random", len(seeds)).values())
    elif len(draws := draws_in(random) or [random]) < len(seeds):
        there = f"{random} holds {counted(len(draws), 'draw')} of random images"
        raise ConcordError(f"{there}, and each of {len(seeds)} seeds takes its own; give as many, or fewer seeds=")
    of_random = {role: roles[role] for role in rate_search.RANDOM if role in roles}
    return [(sets[0], seeds, roles), *((place, [seed], of_random) for place, seed in zip(draws, seeds, strict=False))]


def estimate_sets(
    sets: Sequence[Path],
    test: str,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    out: Path | None,
    progress: Progress,
    *others: Path | None,
) -> dict[Path, Estimate]:
    """What `evaluate_sets` would train, by set; what is not chosen yet takes as long as the set itself."""
    settings, ways = chosen
    found: dict[Path, Estimate] = {}
    first: Ready | None = None

    def estimated(place: Path, some: Settings, ways: Sequence[ProtocolConfig], *of: Any) -> Estimate:
        nonlocal first
        if first is not None and not place.exists():
            ready = replace(first, record={**first.record, "cells": []})
        else:
            ready = evaluation.prepared(place, test, some, ways, *of or (None, progress))
        first = first or ready
        progress.stage("timing some steps")
        return estimate(ready, some)

    for place in sets:
        found[place] = estimated(place, settings, ways, out, progress, *(() if settings.ranking else others))
    for method in settings.beside:
        for place in places_beside(sets, method, settings.draws).values():
            found[place] = estimated(place, settings, ways)
    if settings.ranking:
        first = None
        for place, seeds, roles in _searches(sets, settings, ways, *others):
            some = settings.model_copy(update={"seeds": seeds})
            file = record_path(place).with_name(rate_search.FILE)
            found[file] = estimated(place, some, rate_search.tried(roles), file, progress)
    return found


def _facts(place: Path) -> Json:
    """In which space a coreset was chosen, where it was in one."""
    features = Run(place).results.get("features")
    return {"features": features} if features else {}


def evaluate_and_report(
    directory: Path,
    test: str,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    out: Path | None,
    progress: Progress,
    *others: Path | None,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Evaluate a set, as `concord.evaluation.evaluate.evaluate`; of a run whose record lies with it, draw the page."""
    record = evaluation.evaluate(directory, test, *chosen, out, progress, *others, cluster=cluster)
    if out is None:
        _report(directory, progress)
    return record


def _report(directory: Path, progress: Progress) -> None:
    if (directory / "images" / "metadata.jsonl").is_file():
        progress.stage("writing the report")
        write_report(directory)
