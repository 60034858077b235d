"""What `concord evaluate` shows: trainings as they end, then the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from concord.cli.console import Console
from concord.evaluation.evaluate import Silent
from concord.evaluation.record import way
from concord.text import duration, plain


class Live(Silent):
    """Hears an evaluation: a line a training that ended, and a bar below on a terminal."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._quiet = quiet
        self._since = time.monotonic()
        self._trainings = 0, 0
        self._seen: Callable[[], int] = lambda: 0
        self._bar = Progress(
            TextColumn("  {task.description}"),
            BarColumn(24),
            _Left(self),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def stage(self, text: str) -> None:
        self._bar.update(self._task, description=plain(text), total=None)

    def note(self, text: str) -> None:
        self._say(Text(f"  {plain(text)}", "dim"))

    def begin(self, total: int, done: int) -> None:
        if done:
            self.note(f"{done} of {total} trainings are there already")
        self._trainings = done, total

    def training(self, total: int, seen: Callable[[], int]) -> None:
        self._seen, self._since = seen, time.monotonic()
        self._bar.update(self._task, description="training", total=max(1, total), completed=0)

    def left(self, task: Task) -> str:
        """How far the trainings are, and when they will be done; it moves the bar to there."""
        if task.total is None:
            return ""
        task.completed = self._seen()
        done, total = self._trainings
        share, passed = task.completed / task.total, time.monotonic() - self._since
        when = f" · {duration(passed * (1 - share) / share)} left" if 0.01 < share < 1 else ""
        return f"{done} of {total} · {share:.0%}{when}"

    def trained(self, cell: dict[str, Any], seed: int) -> None:
        place = cell["seeds"].index(seed)
        values = {which: cell["top1"][which]["values"][place] for which in ("last", "best")}
        took = duration(time.monotonic() - self._since)
        self._say(
            Text.assemble(
                f"  {_title(cell)}, seed {seed}: ",
                (f"{values['last']:.1f} %", "bold"),
                f" last, {values['best']:.1f} % best",
                (f"  ({took} since the start)", "dim"),
            )
        )
        self._trainings = self._trainings[0] + 1, self._trainings[1]

    def _say(self, text: Text) -> None:
        if not self._quiet:
            self._bar.console.print(text, soft_wrap=True)


class _Left(ProgressColumn):
    """Asks how far the trainings are whenever the bar is drawn."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def render(self, task: Task) -> Text:
        return Text(self._live.left(task))


def show(record: Mapping[str, Any], path: Path) -> None:
    """Print the table of all cells: a row a student and protocol, a column an IPC, the accuracy that tables report.

    path: where the record lies.
    """
    console = Console()
    cells = record["cells"]
    ipcs = list(dict.fromkeys(cell["ipc"] for cell in cells))
    rows: dict[tuple[str, str], dict[Any, str]] = {}
    for cell in cells:
        rows.setdefault((_student(cell, cells), _protocol(cell, cells)), {})[cell["ipc"]] = _accuracy(cell)
    heads = ["student", "protocol", *("all images" if ipc is None else f"IPC {ipc}" for ipc in ipcs)]
    lines = [[*key, *(of.get(ipc, "") for ipc in ipcs)] for key, of in rows.items()]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
    console.print()
    for number, line in enumerate([heads, *lines]):
        cells_of = [
            f"{word:<{w}}" if i < 2 else f"{word:>{w}}" for i, (word, w) in enumerate(zip(line, widths, strict=True))
        ]
        console.print(Text("  " + "  ".join(cells_of), "dim" if not number else ""), soft_wrap=True)
    counts = {len(cell["seeds"]) for cell in cells}
    seeds = (
        f"{min(counts)} to {max(counts)} seeds" if len(counts) > 1 else f"{max(counts)} seed{'s' * (max(counts) > 1)}"
    )
    console.print(
        Text(
            f"\n  top-1 in percent, mean ± standard deviation over {seeds}; the last accuracy in brackets where the"
            " protocol's tables report the best",
            "dim",
        ),
        soft_wrap=True,
    )
    console.print(
        Text.assemble(("  figures  ", "dim"), plain(str(path)), ("  all seeds, per class", "dim")), soft_wrap=True
    )


def _title(cell: Mapping[str, Any]) -> str:
    ipc = "all images" if cell["ipc"] is None else f"IPC {cell['ipc']}"
    return f"{cell['student']}, {_protocol(cell)}, {ipc}"


def _student(cell: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> str:
    """The student; with its size where others of its name have another."""
    sizes = {other.get("size") for other in among if other["student"] == cell["student"]}
    return plain(cell["student"] + (f" at {cell['size']} px" if len(sizes) > 1 else ""))


def _protocol(cell: Mapping[str, Any], among: Sequence[Mapping[str, Any]] = ()) -> str:
    """The protocol; with the teacher where there are several."""
    teachers = {other.get("teacher") for other in among} - {None}
    told = f", {cell['teacher']}" if len(teachers) > 1 and cell.get("teacher") else ""
    return plain(way(cell) + told)


def _accuracy(cell: Mapping[str, Any]) -> str:
    def say(which: str) -> str:
        mean, spread = (cell["top1"][which][key] for key in ("mean", "std"))
        return f"{mean:.1f} ± {spread:.1f}" if len(cell["seeds"]) > 1 else f"{mean:.1f}"

    return say("last") if cell["reports"] == "last" else f"{say('best')} ({cell['top1']['last']['mean']:.1f})"
