"""An evaluation from a set's directory to evaluation.json and, of a run, its page; `evaluate` is for Python."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concord.evaluation import evaluate as evaluation
from concord.evaluation.record import record_path
from concord.evaluation.settings import ProtocolConfig, Settings, read_settings
from concord.evaluation.table import table
from concord.events import Progress, Silent
from concord.report.page import write_report
from concord.runs.directory import Run
from concord.settings import as_texts


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
        progress: hears how it gets on.
        settings: keys of `concord.evaluation.settings.Settings` (student, protocol, ipc, seeds, teacher, metrics, ...),
            or of the protocols (epochs, batch, ``mixing={"kind": "mixup"}``, ...).

    Raises ConcordError: anything the caller can put right; what is finished stays, the same call goes on from there.
    """
    directory = run.out if isinstance(run, Run) else Path(run)
    file, *others = (None if place is None else Path(place) for place in (out, random, full))
    chosen = read_settings(as_texts(settings))
    record = evaluate_and_report(directory, str(test), chosen, file, progress or Silent(), *others)
    return Scores(record, record_path(directory, file))


def evaluate_and_report(
    directory: Path,
    test: str,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    out: Path | None,
    progress: Progress,
    *others: Path | None,
) -> dict[str, Any]:
    """Evaluate a set, as `concord.evaluation.evaluate.evaluate`; of a run whose record lies with it, draw the page."""
    record = evaluation.evaluate(directory, test, *chosen, out, progress, *others)
    if out is None and (directory / "images" / "metadata.jsonl").is_file():
        progress.stage("writing the report")
        write_report(directory)
    return record
