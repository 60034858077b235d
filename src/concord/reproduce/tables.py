"""A table of accuracies or seconds, ours beside the paper's, as cells for a page; and as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from concord.paper import Cell
from concord.reproduce.items import Item, Student
from concord.reproduce.outcomes import Found, Judged, Outcome
from concord.text import counted

STUDENTS = {"convnet": "ConvNet", "resnet18": "ResNet-18", "resnet101": "ResNet-101"}
MINUS, PLUS_MINUS = "\N{MINUS SIGN}", "\N{PLUS-MINUS SIGN}"


@dataclass(frozen=True)
class Block:
    """A table of one student. columns: images a class, or nothing. rows: name, and a cell a column."""

    student: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Outcome | None]]]


def blocks(item: Item, outcomes: Sequence[Outcome]) -> list[Block]:
    """An item's outcomes, a table a student; the whole set stands in every column."""
    found = []
    students: list[Student | None] = [*item.students] or [None]
    for student in students:
        of = [one for one in outcomes if one.plan.student == student]
        ipcs: list[int | None] = [ipc for ipc in item.ipc if any(one.plan.ipc == ipc for one in of)] or [None]
        rows = []
        for name in dict.fromkeys(one.plan.row for one in of):
            by_ipc = {one.plan.ipc: one for one in of if one.plan.row == name}
            rows.append((name, [by_ipc.get(ipc, by_ipc.get(None)) for ipc in ipcs]))
        columns = [f"IPC {ipc}" if ipc else "seconds an image" for ipc in ipcs]
        if rows:
            found.append(Block(STUDENTS.get(student or "", ""), columns, rows))
    return found


def written(mean: float | None, std: float | None, digits: int = 1) -> str:
    """``30.8 ± 2.2``; a dash where nothing is known."""
    if mean is None:
        return "\N{EN DASH}"
    text = f"{mean:.{digits}f}" + ("" if std is None else f" {PLUS_MINUS} {std:.{digits}f}")
    return text.replace("-", MINUS)


def ours(one: Outcome | None, item: Item) -> str:
    return "\N{EN DASH}" if one is None else written(one.mean, one.std, 2 if item.kind == "cost" else 1)


def in_paper(cell: Cell) -> str:
    """The paper's number, or that our copy does not tell it."""
    return "unreadable" if cell.mean is None else written(cell.mean, cell.std)


def difference(one: Judged) -> str:
    """How far a claim's first row is ahead, with its interval: ``+1.2 points (+0.3 to +2.1)``."""
    if one.difference is None:
        return ""
    mean, (low, high) = one.difference.mean, one.difference.ci95
    form, digits = ("{:.2f}", 2) if one.unit == "times" else ("{:+.1f}", 1)
    # What rounds to nought has no sign of its own: adding 0 takes that of -0.0.
    values = [form.format(round(value, digits) + 0.0).replace("-", MINUS) for value in (mean, low, high)]
    return f"{values[0]} {one.unit} ({values[1]} to {values[2]})"


def rests_on(one: Judged) -> str:
    """What a claim's difference is over."""
    if one.difference is None:
        return "fewer than two draws are there"
    columns = f", mean of {counted(one.columns, 'column')}" if one.columns > 1 else ""
    return f"{counted(one.difference.n, 'draw')}{columns}"


def sentence(one: Judged) -> str:
    """What became of a claim, in one line."""
    beside = difference(one)
    return f"{one.claim.says}: {one.verdict}" + (f", {beside}, {rests_on(one)}." if beside else f"; {rests_on(one)}.")


def headline(found: Found) -> str:
    """What all claims came to, in one sentence."""
    counts = found.counts
    judged = sum(counts.values()) - counts["not judged"]
    if not judged:
        return f"None of {counted(sum(counts.values()), 'claim')} of the paper can be judged yet."
    return (
        f"Of {counted(judged, 'claim')} of the paper, {counts['confirmed']} {_are(counts['confirmed'])} confirmed,"
        f" {counts['not told apart']} not told apart and {counts['contradicted']} contradicted."
    )


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


def missing(item: Item, outcomes: Sequence[Outcome]) -> list[str]:
    """Why rows of an item cannot be made here, each reason once."""
    rows = by_reason((one.plan.row, one.plan.missing) for one in outcomes if one.plan.missing)
    return [f"{', '.join(names)}: {why}" for why, names in rows.items()]


def by_reason(reasons: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names by the reason why they could not be made, each name once."""
    found: dict[str, dict[str, None]] = {}
    for name, why in reasons:
        found.setdefault(why, {})[name] = None
    return {why: [*names] for why, names in found.items()}


def markdown(found: Found) -> str:
    """All tables and claims, as a page of Markdown."""
    place = found.plan.place
    lines = [f"# The paper on {place.name}", "", headline(found), "", f"On {place.about}. {rule()}", ""]
    lines += [f"- `{name}`: {note}" for name, note in place.notes.items()]
    for item in found.plan.items:
        outcomes = found.outcomes[item.name]
        if item.kind in ("accuracies", "cost"):
            lines += ["", f"## {item.label}: {item.title}"]
            for block in blocks(item, outcomes):
                lines += ["", *([f"{block.student}:", ""] if block.student else [])]
                lines += [_line(["", *block.columns]), _line(["---"] * (len(block.columns) + 1))]
                lines += [_line([name, *(_markdown_cell(one, item) for one in cells)]) for name, cells in block.rows]
            lines += ["", *(f"- {sentence(one)}" for one in found.judged if one.item is item)]
            lines += [f"- Not made: {text}" for text in missing(item, outcomes)]
    return "\n".join(lines) + "\n"


def rule() -> str:
    """The rule by which claims are judged, in words."""
    return (
        "Each claim is a difference of two rows: for each draw the mean over all columns that both have, then Student's"
        " 95 % interval over draws. It is confirmed where the whole interval lies on the side that the paper says,"
        " contradicted where none of it does, and else the two are not told apart. Of twenty such intervals one misses"
        " by chance."
    )


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(one: Outcome | None, item: Item) -> str:
    if one is None:
        return ""
    text = ours(one, item)
    if one.values and len(one.values) < one.of:
        text += f" ({len(one.values)} of {one.of})"
    beside = "; ".join(in_paper(cell) for cell in one.paper.values())
    return f"{text} (paper {beside})" if beside else text


COLUMNS = ("item", "row", "student", "ipc", "mean", "std", "values", "of")
PAPER_COLUMNS = ("paper_dataset", "paper_mean", "paper_std", "paper_status")


def as_csv(item: Item, outcomes: Sequence[Outcome]) -> str:
    """A line a cell, and one for each of the paper's where there are several."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *PAPER_COLUMNS])
    for one in outcomes:
        values = " ".join(f"{value:.4f}" for value in one.values)
        row = [
            item.name,
            one.plan.row,
            one.plan.student or "",
            one.plan.ipc or "",
            _number(one.mean),
            _number(one.std),
            values,
            one.of,
        ]
        for cell in one.paper.values() or [None]:
            beside = (
                ["", "", "", ""] if cell is None else [cell.dataset, _number(cell.mean), _number(cell.std), cell.status]
            )
            writer.writerow([*row, *beside])
    return buffer.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "&%#_${}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}


def latex(item: Item, outcomes: Sequence[Outcome]) -> str:
    """A table for a paper, with booktabs; ours alone, and the paper's in comments."""
    lines = [f"% {item.label}: {item.title}"]
    for block in blocks(item, outcomes):
        lines += [rf"\begin{{tabular}}{{l{'c' * len(block.columns)}}}", r"\toprule"]
        lines += [" & ".join([_tex(block.student), *map(_tex, block.columns)]) + r" \\", r"\midrule"]
        for name, cells in block.rows:
            texts = [_tex_cell(one, item) for one in cells]
            papers = "; ".join(in_paper(cell) for one in cells if one for cell in one.paper.values())
            lines.append(" & ".join([_tex(name), *texts]) + r" \\" + (f" % paper: {papers}" if papers else ""))
        lines += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def _tex(text: str) -> str:
    return "".join(_SPECIAL.get(c, c) for c in text)


def _tex_cell(one: Outcome | None, item: Item) -> str:
    if one is None or one.mean is None:
        return "--"
    digits = 2 if item.kind == "cost" else 1
    spread = "" if one.std is None else rf"_{{\pm {one.std:.{digits}f}}}"
    return f"${one.mean:.{digits}f}{spread}$"
