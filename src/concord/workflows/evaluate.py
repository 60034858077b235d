"""An evaluation from a set's directory to evaluation.json and, of a run, its page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concord.evaluation.evaluate import evaluate
from concord.evaluation.settings import ProtocolConfig, Settings
from concord.events import Progress, Silent
from concord.report.page import write_report


def evaluate_and_report(
    directory: Path,
    test: str,
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    out: Path | None = None,
    progress: Progress | None = None,
    random: Path | None = None,
    full: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a set, as `concord.evaluation.evaluate.evaluate`; of a run whose record lies with it, draw the page."""
    progress = progress or Silent()
    record = evaluate(directory, test, settings, ways, out, progress, random, full)
    if out is None and (directory / "images" / "metadata.jsonl").is_file():
        progress.stage("writing the report")
        write_report(directory)
    return record
