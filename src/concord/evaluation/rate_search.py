"""DD-Ranking's own way to its scores: each accuracy is the best of five learning rates, on the test images.

As in the package `ddranking` 0.2.0 (`metrics/soft_label.py`, `hard_label.py`, `aug_robust.py`): a run trains a student
at each rate and keeps the best accuracy that any of them had at its evaluations; each run has random images of its own
draw; the full data are trained at one rate. Scores are of each run, and then averaged. All but the rate and when it is
judged is the protocol's, as there it is the user's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from concord.errors import ConcordError
from concord.evaluation.evaluate import alone, trained
from concord.evaluation.record import Json, find, record_path
from concord.evaluation.settings import ProtocolConfig, Settings
from concord.events import Progress
from concord.metrics.ddranking import augmentation_robust_score, label_robust_score
from concord.storage.cluster import Cluster

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)
FILE = "ddranking.json"
"""Where the trainings of the search lie, a cell a rate, beside evaluation.json and in its form."""
WAY = "ddranking"
PLAIN = "plain"
RANDOM = ("own", "plain")
"""What random images are trained with; hard labels are theirs where the method has none of its own."""


def chosen(ways: Sequence[ProtocolConfig]) -> dict[str, ProtocolConfig]:
    """Which protocols give what a score needs: a method's `own` labels, `hard` ones, and `plain` images."""
    soft = [way for way in ways if way.protocol.labels == "soft" and way.protocol.name != PLAIN]
    hard = [way for way in ways if way.protocol.labels == "hard"]
    plain = [way for way in ways if way.protocol.name == PLAIN]
    found = {"own": soft or hard, "hard": hard, "plain": plain if soft and soft[0].protocol.name == "rded" else []}
    return {name: some[0] for name, some in found.items() if some}


def require(ways: Sequence[ProtocolConfig], full: Path | None) -> None:
    """Refuse what no score can come of, before anything is trained.

    Raises:
        ConcordError: protocols or the full data lack, or a rate was given.
    """
    roles = chosen(ways)
    if any("lr" in way.changed or "judge" in way.changed for way in ways):
        raise ConcordError(
            f"ranking={WAY} tries the rates {', '.join(map(str, RATES))} judged as it does; leave lr= and judge= out"
        )
    if not ({"own", "hard"} <= roles.keys() and full) and not {"own", "plain"} <= roles.keys():
        raise ConcordError(
            f"ranking={WAY} lacks accuracies: for the label-robust score give protocol=rded,hard and --full DIR, the"
            " full set evaluated with hard labels; for the augmentation-robust score protocol=rded,plain"
        )


def of_full(cells: Sequence[Json], roles: Mapping[str, ProtocolConfig], students: Sequence[str]) -> list[Json]:
    """The full set's cells with hard labels.

    Raises:
        ConcordError: it is given, and has none of a student.
    """
    name = roles["hard"].protocol.name if "hard" in roles else ""
    found = [cell for cell in cells if cell["protocol"] == name]
    for student in students if cells else ():
        if not any(cell["student"] == student for cell in found):
            raise ConcordError(
                f"--full has no accuracy of {student} with protocol={name or 'hard'}; evaluate it so first"
            )
    return found


def at_rates(way: ProtocolConfig, every: str) -> list[ProtocolConfig]:
    """A protocol at each of the rates; every: when it is judged."""
    sets = [{"lr": rate, "judge": every} for rate in RATES]
    return [replace(way, protocol=way.protocol.model_copy(update=one), changed={**way.changed, **one}) for one in sets]


def tried(roles: Mapping[str, ProtocolConfig]) -> list[ProtocolConfig]:
    """Every protocol at every rate, judged each twentieth epoch, or each tenth where labels are hard alone."""
    every = "tenth" if roles["own"].protocol.labels == "hard" else "twentieth"
    named = {way.protocol.name: way for way in roles.values()}
    return [each for way in named.values() for each in at_rates(way, every)]


def search(
    directory: Path,
    test: str,
    settings: Settings,
    roles: Mapping[str, ProtocolConfig],
    progress: Progress,
    cluster: Cluster | None = None,
) -> list[Json]:
    """Train a set at every rate, or take what is there; return the cells of these settings."""
    path = record_path(directory).with_name(FILE)
    with alone(path, path):
        ready, record = trained(directory, test, settings, tried(roles), path, progress, cluster=cluster)
    return [find(record, cell.record) or {} for cell in ready.cells]


def best(cells: Sequence[Json], student: str, ipc: int | None, protocol: str, seed: int) -> tuple[float, float]:
    """The best accuracy of a run over the rates, and the first rate that has it."""
    of = [c for c in cells if (c["student"], c["ipc"], c["protocol"]) == (student, ipc, protocol)]
    reached = [(float(cell["top1"]["best"]["values"][cell["seeds"].index(seed)]), cell["changed"]["lr"]) for cell in of]
    return max(reached, key=lambda one: one[0])


def scores(
    made: Sequence[Json],
    random: Sequence[Sequence[Json]],
    full: Sequence[Json],
    roles: Mapping[str, ProtocolConfig],
    seeds: Sequence[int],
) -> list[Json]:
    """DD-Ranking's scores for each student and IPC. random: the cells of a draw a seed. full: as of `of_full`.

    The full set's accuracy is the best mean that it has with that student.
    """
    found = []
    name = {role: way.protocol.name for role, way in roles.items()}
    wanted = [("made", each) for each in dict.fromkeys(name.values())]
    wanted += [("random", name[role]) for role in RANDOM if role in name]
    for student, ipc in dict.fromkeys((cell["student"], cell["ipc"]) for cell in made):
        whole = [_reported(cell) for cell in full if cell["student"] == student]
        labels, views, rates = [], [], dict[str, list[float]]()
        for seed, drawn in zip(seeds, random, strict=True):
            top = {}
            for of, protocol in wanted:
                top[of, protocol], rate = best(made if of == "made" else drawn, student, ipc, protocol, seed)
                rates.setdefault(f"{of} {protocol}", []).append(rate)
            own = [top[of, name["own"]] for of in ("made", "random")]
            if whole:
                kept = {"full_hard": max(whole), "made_hard": top["made", name["hard"]]}
                labels.append(label_robust_score(**kept, made_any=own[0], random_any=own[1]))
            if "plain" in name:
                plain = {f"{of}_plain": top[of, name["plain"]] for of in ("made", "random")}
                views.append(augmentation_robust_score(made_augmented=own[0], random_augmented=own[1], **plain))
        row = {"student": student, "ipc": ipc, "way": WAY, "lrs": _averaged(labels), "ars": _averaged(views)}
        found.append({**row, "rates": rates})
    return found


def _reported(cell: Json) -> float:
    return float(cell["top1"][cell["reports"]]["mean"])


def _averaged(runs: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """The means over runs, and each run's score."""
    if not runs:
        return None
    means = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    return {**means, "runs": [round(run["score"], 6) for run in runs]}
