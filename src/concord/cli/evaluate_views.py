"""What `concord evaluate` shows: what a training goes by, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from concord.cli.console import Console
from concord.evaluation.record import way
from concord.text import plain


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


def title(cell: Mapping[str, Any]) -> str:
    """What a training goes by."""
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
