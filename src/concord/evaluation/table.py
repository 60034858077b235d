"""What an evaluation came to, as text: a row a student and protocol, a column an IPC, a block a measure."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from concord.evaluation.metrics import shown
from concord.evaluation.record import way
from concord.evaluation.regimes import Block, Entry, blocks
from concord.metrics.measures import Unit, written
from concord.text import counted, plain

Cells = Sequence[Mapping[str, Any]]


def table(record: Mapping[str, Any], beside: Sequence[str] = ()) -> list[tuple[str, bool]]:
    """The lines, and whether each is a head or a note: what tables report of top-1, then each metric that is there.

    Where the set was evaluated with others, all come first, side by side; beside: which of them are awaited.
    """
    cells = record["cells"]
    lines = _side_by_side(blocks(record, beside)) if record.get("sides") else []
    lines += _block(cells, _accuracy)
    for name in metric_names(cells):
        row = shown(name)
        lines += [("", True), (row.label, True)]
        lines += _block(cells, partial(_metric, name=name, unit=row.unit))
    draws = {cell.get("draws", 1) for cell in cells}
    over = _several({len(cell["seeds"]) // cell.get("draws", 1) for cell in cells}, "seed")
    if draws != {1}:
        over = f"{_several(draws, 'draw')} of the set, each with {over}"
    note = (
        f"top-1 in percent, mean ± standard deviation over {over}; the last accuracy in"
        " brackets where the protocol's tables report the best"
    )
    return [*lines, ("", True), (note, True), *_ranking(record.get("ranking") or [])]


SIDES = (
    "mean ± standard deviation over draws x seeds, of the accuracy that the protocol's tables report; of one draw the"
    " deviation is over students alone"
)


def _side_by_side(found: Sequence[Block]) -> list[tuple[str, bool]]:
    """A set and what was evaluated beside it, a block a student and IPC; nothing where no regime was."""
    lines: list[tuple[str, bool]] = []
    for block in found:
        of = "all images" if block.ipc is None else f"IPC {block.ipc}"
        heads = [f"{regime} ({plain(told)})" for regime, told in block.columns]
        rows = [[f"{plain(block.student)}, {of}", *heads, ""]]
        for row in block.rows:
            rows.append([plain(row.name), *(_entry(entry) for entry in row.entries), plain(row.about)])
        lines += aligned(rows, left=1, about=True)
        lines.append(("", True))
    return [*lines, (SIDES, True), ("", True)] if lines else []


def _entry(entry: Entry | None) -> str:
    if entry is None:
        return "not yet"
    of = entry.cell["top1"][entry.reports]
    spread = f" ± {of['std']:.1f}" if entry.n > 1 else ""
    return f"{of['mean']:.1f}{spread} ({entry.draws}x{entry.seeds})"


RANKING = {
    None: "own rates: of these protocols, each with its own learning rate: not those of DD-Ranking's leaderboard, which"
    " takes the best of five rates for each accuracy",
    "ddranking": "best of five: DD-Ranking's search, the best of five learning rates for each accuracy on the test"
    " images, a draw of random images a seed; other students and teachers than its leaderboard's are other figures",
}
"""What is said of DD-Ranking's scores, by the way in which they were found."""


def _ranking(scores: Cells) -> list[tuple[str, bool]]:
    """DD-Ranking's scores: a row a student, IPC and way."""
    rows = [
        [plain(one["student"]), "all" if one["ipc"] is None else str(one["ipc"])]
        + [RANKING[one.get("way")].partition(":")[0]]
        + ["" if one[key] is None else f"{one[key]['score']:.1f}" for key in ("lrs", "ars")]
        for one in scores
    ]
    if not rows:
        return []
    heads = ["DD-Ranking", "IPC", "rates", "label-robust", "augmentation-robust"]
    notes = [RANKING[way] for way in dict.fromkeys(one.get("way") for one in scores)]
    return [("", True), *aligned([heads, *rows], left=1), *((note, True) for note in notes)]


def _several(counts: set[int], noun: str) -> str:
    return f"{min(counts)} to " * (len(counts) > 1) + counted(max(counts), noun)


def metric_names(cells: Cells) -> list[str]:
    found = [cell.get("metrics") for cell in cells]
    return list(dict.fromkeys(name for of in found if isinstance(of, Mapping) for name in of))


def protocol(cell: Mapping[str, Any], among: Cells = ()) -> str:
    """A cell's protocol; with the teacher where there are several."""
    teachers = {other.get("teacher") for other in among} - {None}
    told = f", {cell['teacher']}" if len(teachers) > 1 and cell.get("teacher") else ""
    return plain(way(cell) + told)


def _student(cell: Mapping[str, Any], among: Cells) -> str:
    """The student; with its size where others of its name have another."""
    sizes = {other.get("size") for other in among if other["student"] == cell["student"]}
    return plain(cell["student"] + (f" at {cell['size']} px" if len(sizes) > 1 else ""))


def _block(cells: Cells, say: Callable[[Mapping[str, Any]], str]) -> list[tuple[str, bool]]:
    ipcs = list(dict.fromkeys(cell["ipc"] for cell in cells))
    rows: dict[tuple[str, str], dict[Any, str]] = {}
    for cell in cells:
        rows.setdefault((_student(cell, cells), protocol(cell, cells)), {})[cell["ipc"]] = say(cell)
    heads = ["student", "protocol", *("all images" if ipc is None else f"IPC {ipc}" for ipc in ipcs)]
    lines = [heads, *([*key, *(of.get(ipc, "") for ipc in ipcs)] for key, of in rows.items())]
    return aligned(lines, left=2)


def aligned(rows: Sequence[Sequence[str]], left: int, about: bool = False) -> list[tuple[str, bool]]:
    """Rows in columns, the first few to the left, and the last where it is `about` the row; the first row is a head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [
            f"{word:{'<' if i < left or (about and i == len(row) - 1) else '>'}{w}}"
            for i, (word, w) in enumerate(zip(row, widths, strict=True))
        ]
        for row in rows
    )
    return [("  ".join(words).rstrip(" " * about), number == 0) for number, words in enumerate(lines)]


def _accuracy(cell: Mapping[str, Any]) -> str:
    def say(which: str) -> str:
        mean, spread = (cell["top1"][which][key] for key in ("mean", "std"))
        return f"{mean:.1f} ± {spread:.1f}" if len(cell["seeds"]) > 1 else f"{mean:.1f}"

    return say("last") if cell["reports"] == "last" else f"{say('best')} ({cell['top1']['last']['mean']:.1f})"


def _metric(cell: Mapping[str, Any], name: str, unit: Unit) -> str:
    if (found := (cell.get("metrics") or {}).get(name)) is None:
        return ""
    if (of := found[cell["reports"]])["mean"] is None:
        return "\N{EN DASH}"
    return written(of["mean"], unit) + (f" ± {written(of['std'], unit)}" if len(of["values"]) > 1 else "")
