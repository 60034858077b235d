"""evaluation.json: accuracies by cell (student, protocol, IPC), written after every seed so that a kill loses one."""

import json
import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from concord.errors import ConcordError
from concord.metrics.statistics import summary
from concord.runs.shapes import misfit
from concord.storage.atomic import read_json, write_json

FILE = "evaluation.json"
CONFUSION = 300
"""Up to so many classes the confusions are recorded; of a thousand they would take megabytes a cell."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training. last, best: top-1 in percent. confusion: int (K, K), test images by true and given class."""

    seed: int
    last: float
    best: float
    seconds: float
    confusion: np.ndarray
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def record_path(directory: Path, out: Path | None = None) -> Path:
    """Where a set's record lies: in its directory, beside its Parquet file, or at `out`, which is no directory."""
    path = out or (directory if directory.is_dir() else directory.parent) / FILE
    if path.is_dir():
        expected = f"the name of a file for the results, as in --out {path}/{FILE}"
        raise ConcordError(f"{path} is a directory: expected {expected}")
    return path


def read_record(path: Path) -> Json:
    """Read evaluation.json; empty where there is none. Raises ConcordError: it is damaged."""
    damaged = f"{path} is damaged: expected what `concord evaluate` left; take it away to begin anew"
    values = read_json(path, lambda _: damaged)
    said, named = misfit("evaluation", values), {"student", "protocol", "ipc"}
    if said or not all(named <= cell.keys() for cell in values.get("cells", ())):
        raise ConcordError(damaged)
    return values


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    write_json(path, {key: value for key, value in record.items() if key != "schema"})


def find(record: Mapping[str, Any], cell: Mapping[str, Any]) -> Json | None:
    """Return the earlier cell of the same name and settings, with the seeds that it has."""
    known = (dict(other) for other in record.get("cells", ()) if other.get("settings") == cell["settings"])
    return next((other for other in known if name(other) == name(cell)), None)


def name(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a cell goes by: student, protocol, IPC, what was changed of the protocol, size, dtype, and whose labels."""
    more = [cell.get("changed") or {}, *(cell.get(key) for key in ("size", "dtype", "teacher", "soft_labels"))]
    return cell["student"], cell["protocol"], cell["ipc"], json.dumps(more, sort_keys=True)


def same_test(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records are of the same test images, as far as they say; see `evaluating.identity`."""
    digests = {str(record["of"]).rpartition("-")[2] for record in (one, other) if record.get("of")}
    return len(digests) < 2


def way(cell: Mapping[str, Any]) -> str:
    """A cell's protocol for people, with what was changed of it."""
    changed = [f"{key}={value}" for key, value in (cell.get("changed") or {}).items()]
    if stored := cell.get("soft_labels"):
        most = f"top {stored['top_k']} of " if stored["top_k"] else ""
        changed.append(f"{most}labels stored in {stored['bits']}")
    return str(cell["protocol"]) + (f" ({', '.join(changed)})" if changed else "")


def with_trial(cell: Mapping[str, Any], trial: Trial) -> Json:
    """Return the cell with another seed in it, its values in the order of `seeds`, which ascend.

    A metric has seeds of its own: it may be asked for later, and a seed that is there is trained once more for it, to
    the same accuracy. Spreads are sample standard deviations (n - 1), 0 for a single seed.
    """
    out = dict(cell) if trial.seed in cell.get("seeds", ()) else _with_accuracy(cell, trial)
    for name, values in trial.metrics.items():
        known = (out.get("metrics") or {}).get(name, {})
        if trial.seed not in known.get("seeds", ()):
            out["metrics"] = {**(out.get("metrics") or {}), name: _with_values(known, trial.seed, values, 6)}
    return out


def has_seed(cell: Mapping[str, Any], seed: int, metrics: Sequence[str]) -> bool:
    """Whether a cell has a seed's accuracy, and its metrics."""
    known = cell.get("metrics") or {}
    return all(seed in of.get("seeds", ()) for of in (cell, *(known.get(name, {}) for name in metrics)))


def _with_values(known: Mapping[str, Any], seed: int, values: Mapping[str, float], digits: int) -> Json:
    """Seeds and the summaries of their values with another one; null where one is no number, as of a loss that grew."""
    place = bisect(before := [*known.get("seeds", ())], seed)
    out: Json = {"seeds": [*before[:place], seed, *before[place:]]}
    for which, value in values.items():
        of = [*(known.get(which) or {}).get("values", ())]
        of.insert(place, round(value, digits) if math.isfinite(value) else None)
        out[which] = {"mean": None, "std": None, "values": of} if None in of else summary(of)
    return out


def _with_accuracy(cell: Mapping[str, Any], trial: Trial) -> Json:
    top1 = {"seeds": cell.get("seeds", ()), **(cell.get("top1") or {})}
    top1 = _with_values(top1, trial.seed, {"last": trial.last, "best": trial.best}, 4)
    seeds = top1.pop("seeds")
    confusion = np.array(cell.get("confusion") or 0) + trial.confusion
    recalled = (len(seeds) - 1) * np.array(cell.get("per_class") or 0) + 100 * recalls(trial.confusion)
    return {
        **cell,
        "seeds": seeds,
        "top1": top1,
        "seconds": round(float(cell.get("seconds") or 0) + trial.seconds, 2),
        "per_class": [round(float(percent), 3) for percent in recalled / len(seeds)],
        "confusion": confusion.tolist() if len(confusion) <= CONFUSION else None,
    }


def recalls(confusion: np.ndarray) -> np.ndarray:
    """The share of each class's test images that are recognised, (K,)."""
    return np.diag(confusion) / np.maximum(confusion.sum(axis=1), 1)


def placed(cells: Sequence[Json], cell: Json) -> list[Json]:
    """Return cells with one put in the place of its earlier state, or of an outdated one of its name, or at the end."""
    out = [cell if name(other) == name(cell) else other for other in cells]
    return out if any(name(other) == name(cell) for other in cells) else [*out, cell]
