"""What `concord concepts` shows. Class names and phrases come from outside: they are never read as markup."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table
from rich.text import Text

from concord.cli.console import Console, print_json
from concord.concepts.bank import Bank, concept_text
from concord.concepts.lint import Fault, lint
from concord.concepts.negatives import draw_negatives
from concord.text import counted, plain

if TYPE_CHECKING:
    from concord.concepts.compare import ClassScore, Line, Pair
    from concord.concepts.negatives import Chances
    from concord.concepts.selection import Concept
    from concord.data import ImageSet


def working(what: str) -> AbstractContextManager[object]:
    """Say on a terminal what takes a while; nothing where output goes to a file."""
    return Console(stderr=True).status(Text(f"{what} ..."))


def some_images(images: int) -> str:
    return f"up to {images} real images a class" if images else "all real images"


def show_banks(banks: Sequence[Bank]) -> None:
    out = Console()
    for i, bank in enumerate(banks):
        if i:
            out.print()
        out.print(Text.assemble((plain(bank.name), "bold"), f"  {size(bank)}"))
        provenance(out, bank)


def show_class(found: Sequence[tuple[Bank, str]]) -> None:
    out = Console()
    for i, (bank, name) in enumerate(found):
        entry = bank.classes[name]
        if i:
            out.print()
        out.print(Text.assemble((plain(name), "bold"), f"  in the bank {plain(bank.name)}"))
        others = ", ".join(map(plain, entry.look_alikes)) or "none named"
        out.print(grid([Text("  look-alikes", "dim"), Text(others)]))
        for phrase in entry.phrases:
            out.print(grid([Text("  -", "dim"), Text(plain(phrase))]))


def show_faults(bank: Bank, faults: Sequence[Fault], as_json: bool) -> None:
    """A line a fault on stdout, so that other programs can count and search them; the sum on stderr."""
    if as_json:
        print_json({"bank": bank.name, "classes": len(bank.classes), "faults": [vars(fault) for fault in faults]})
        return
    for fault in faults:
        phrase = f' "{plain(fault.phrase)}":' if fault.phrase else ""
        print(f"{plain(fault.class_name or bank.name)}:{phrase} {plain(fault.message)} [{fault.kind}]")
    if faults:
        print(f"{plain(bank.name)}: {counted(len(faults), 'fault')} ({kinds(faults)})", file=sys.stderr)
    else:
        print(f"{plain(bank.name)}: {size(bank)}, no faults")


def show_import(bank: Bank, path: Path, notes: Sequence[str], faults: Sequence[Fault]) -> None:
    out = Console()
    out.say(("imported  ", "bold green"), f"{size(bank)} into {path}")
    for note in notes:
        out.say(f"  note: {plain(note)}")
    if faults:
        out.say((f"  lint finds {counted(len(faults), 'fault')}: {kinds(faults)}", "yellow"))
        out.say((f"  concord concepts lint {path} names each", "dim"))
    else:
        out.print(Text("  lint finds no faults"))


def show_written(*paths: Path | None) -> None:
    for path in filter(None, paths):
        Console().say(f"written: {path}")


def provenance(out: Console, bank: Bank) -> None:
    for key, value in bank.provenance.items():
        out.print(grid([Text(f"  {plain(key)}", "dim"), Text(plain(value))]))


def grid(cells: Sequence[Text], gap: int = 2) -> Table:
    """Cells side by side, of which the last wraps under itself."""
    table = Table.grid(padding=(0, gap, 0, 0))
    for _ in cells[1:]:
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(*cells)
    return table


def size(bank: Bank) -> str:
    phrases = sum(len(entry.phrases) for entry in bank.classes.values())
    return f"{counted(len(bank.classes), 'class')}, {counted(phrases, 'phrase')}"


def kinds(faults: Sequence[Fault]) -> str:
    """How many faults of which kind."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(fault.kind for fault in faults).most_common())


Phrases = list[tuple[str, ...]]
BAR = 14
KEPT, DROPPED, PINNED = ("●", "green"), ("○", "dim"), ("◆", "yellow")
NEAREST = 5


def show_selection(
    about: str, data: ImageSet, selection: Sequence[Sequence[Concept]], encoder: str, images: int
) -> None:
    """A table of activations for each class; a bar spans the lowest to the highest of all."""
    out = Console()
    values = [concept.activation for concepts in selection for concept in concepts]
    low, high = min(values, default=0.0), max(values, default=1.0)
    _head(out, about, data, f"{some_images(images)}, rated by {plain(encoder)}")
    legend: list[str | tuple[str, str]] = [KEPT, " kept  ", DROPPED, " dropped  "]
    if any(concept.pinned for concepts in selection for concept in concepts):
        legend += [PINNED, " pinned  "]
    out.print(Text.assemble(*legend, (f"activation, bars from {low:.3f} to {high:.3f}", "dim")))
    for entry, concepts in zip(data.classes, selection, strict=True):
        kept = sum(concept.kept for concept in concepts)
        out.print()
        out.print(Text.assemble((plain(entry.class_name), "bold"), (f"  {kept} of {len(concepts)} kept", "dim")))
        table = _table(out)
        for concept in concepts:
            mark = PINNED if concept.pinned else KEPT if concept.kept else DROPPED
            style = "" if concept.kept else "dim"
            figure = Text(f"{concept.activation:.3f}", style, justify="right")
            bar = Text(_bar(concept.activation, low, high), mark[1])
            table.add_row(Text.assemble("  ", mark), Text(plain(concept.phrase), style), figure, bar)
        out.print(table)
    out.print()
    out.print(Text(_selected(data, selection)))


def _head(out: Console, about: str, data: ImageSet, how: str) -> None:
    out.say((plain(about), "bold"), f"  {how}")


def _selected(data: ImageSet, selection: Sequence[Sequence[Concept]]) -> str:
    kept = sum(concept.kept for concepts in selection for concept in concepts)
    text = f"kept {kept} of {sum(map(len, selection))} phrases of {counted(len(selection), 'class')}"
    if (known := data.known_details) is None:
        return text
    true = [set(known[entry.key]) for entry in data.classes]
    right = sum(c.kept and c.phrase in some for some, concepts in zip(true, selection, strict=True) for c in concepts)
    return f"{text}; {right} of the {sum(map(len, true))} details that are known to be true of them are kept"


def show_negatives(
    names: list[str], phrases: Phrases, drawing: list[Chances], how: dict[str, Any], whole: bool, as_json: bool
) -> None:
    """The nearest classes of each with their chances; with `whole`, all of them and an example of what is drawn.

    how: `kind`, `k` and `count` of the drawing.
    """
    if as_json:
        rows = [{"class_name": names[d.own], "others": [_other(names[c], d, c) for c in _nearest(d)]} for d in drawing]
        print_json({**how, "classes": rows})
        return
    out = Console()
    kind, of = how["kind"] + (f", k {how['k']}" if how["kind"] == "similar" else ""), counted(len(names), "class")
    out.print(Text.assemble(("negatives", "bold"), f"  {kind}, {how['count']} a sample, of {of}"))
    out.print(Text("cosine of names · chance to give the first · chance to give one of all", "dim"))
    for d in drawing:
        out.print()
        out.print(Text(plain(names[d.own]), "bold"))
        table = _table(out)
        table.add_row(Text(""), Text(""), *(Text(word, "dim") for word in ("cosine", "first", f"in {how['count']}")))
        for c in _nearest(d)[: None if whole else NEAREST]:
            style = "dim" if d.any[c] <= 0 else ""
            any_of_all = "-" if np.isnan(d.any[c]) else _percent(d.any[c])
            figures = f"{d.similarity[c]:.3f}", _percent(d.first[c]), any_of_all
            table.add_row(Text("  "), Text(plain(names[c]), style), *(Text(f, style, justify="right") for f in figures))
        out.print(table)
        if whole:
            out.print(Text("  a draw from all the bank's phrases (a run draws from the kept ones)", "dim"))
            rng = np.random.default_rng(0)
            for c, phrase in draw_negatives(phrases, d.own, d.weights, how["count"], rng, how["kind"]):
                out.print(grid([Text("  -", "dim"), Text(plain(concept_text(names[c], phrase)))]))


def _other(name: str, d: Chances, c: int) -> dict[str, Any]:
    any_of_all = None if np.isnan(d.any[c]) else float(d.any[c])
    return {"class_name": name, "cosine": float(d.similarity[c]), "first": float(d.first[c]), "any": any_of_all}


def _nearest(d: Chances) -> list[int]:
    return [int(c) for c in np.argsort(-d.similarity, kind="stable") if c != d.own]


def show_scores(
    about: str, data: ImageSet, scores: Sequence[ClassScore], encoder: str, images: int, as_json: bool
) -> None:
    from concord.metrics.statistics import paired_interval

    by_bank, by_name = (np.concatenate([getattr(s, side) for s in scores]) for side in ("by_bank", "by_name"))
    groups = np.concatenate([np.full(len(s.by_bank), i) for i, s in enumerate(scores)])
    gain: dict[str, Any] = paired_interval(by_bank, by_name, groups)
    means = float(by_bank.mean()), float(by_name.mean())
    rows = [(s.entry.class_name, len(s.by_bank), float(s.by_bank.mean()), float(s.by_name.mean())) for s in scores]
    if as_json:
        keys = ("class_name", "images", "bank", "names")
        total = {"bank": means[0], "names": means[1], "gain": gain}
        classes = [dict(zip(keys, row, strict=True)) for row in rows]
        print_json({"measured": True, "encoder": encoder, "images": len(groups), "top1": total, "classes": classes})
        return
    out = Console()
    _head(out, about, data, f"{some_images(images)}, classified by {plain(encoder)}")
    out.print()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("zero-shot top-1", overflow="fold")
    for heading in ("images", "bank", "names", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for i, (name, count, bank, bare) in enumerate([*rows, ("all", len(groups), *means)]):
        cells = plain(name), str(count), _percent(bank), _percent(bare), f"{100 * (bank - bare):+.1f}"
        table.add_row(*(Text(cell, "bold" if i == len(rows) else "") for cell in cells))
    out.print(table)
    out.print()
    interval = "no interval: one image a class"
    if gain["ci95"] is not None:
        interval = "95 % interval {:+.1f} to {:+.1f}".format(*(100 * value for value in gain["ci95"]))
    out.print(Text(f"the bank's phrases change top-1 by {100 * gain['mean']:+.1f} points ({interval})"))
    out.print(Text(f"chance is {_percent(1 / len(rows))}", "dim"))


def show_comparison(
    given: tuple[str, str], banks: tuple[Bank, Bank], pairs: Sequence[Pair], data: str | None, as_json: bool
) -> None:
    from concord.concepts.compare import only_in

    a, b = banks
    faults = [lint(bank) for bank in banks]
    missing = only_in(a, b), only_in(b, a)
    if as_json:
        about = []
        for word, bank, found, only in zip(given, banks, faults, missing, strict=True):
            entry = {"bank": word, "name": bank.name, "classes": len(bank.classes)}
            about.append({**entry, "faults": dict(Counter(f.kind for f in found)), "only": only})
        classes = [
            {"class_name": p.class_name, "phrases": [[*map(vars, side)] for side in p.lines], "faults": p.faults}
            for p in pairs
        ]
        print_json({"data": data, "banks": about, "classes": classes})
        return
    out = Console()
    titles = [plain(bank.name if a.name != b.name else word) for word, bank in zip(given, banks, strict=True)]
    for title, bank, found, only in zip(titles, banks, faults, missing, strict=True):
        wrong = f"{counted(len(found), 'fault')}: {kinds(found)}" if found else "no faults"
        out.say((title, "bold"), f"  {size(bank)}, {wrong}")
        provenance(out, bank)
        if only:
            some = ", ".join(map(plain, only[:5])) + (" ..." if len(only) > 5 else "")
            out.print(Text(f"  {counted(len(only), 'class')} in this bank alone: {some}"))
    legend: list[str | tuple[str, str]] = [("=", "cyan"), " said by both"]
    if data is not None:
        legend = [KEPT, " kept  ", DROPPED, " dropped  ", *legend, "  with activations on real images"]
    out.print(Text.assemble(*legend))
    half = (out.width - 2) // 2
    for pair in pairs:
        out.print()
        out.print(Text(plain(pair.class_name), "bold"))
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
        for title, count in zip(titles, pair.faults, strict=True):
            head = Text(f"{title}  {counted(count, 'fault')}" if count else title)
            table.add_column(head, width=half - 1, overflow="fold")
        for i in range(max(map(len, pair.lines))):
            table.add_row(*(_line(side[i]) if i < len(side) else Text("") for side in pair.lines))
        if data is not None:
            table.add_row(*(Text(_mean_kept(side), "dim") for side in pair.lines))
        out.print(table)
    if not pairs:
        out.print(Text("no class is in both banks" + (" and in the data" if data is not None else "")))


def _line(line: Line) -> Table:
    marks: list[str | tuple[str, str]] = [("=" if line.common else " ", "cyan")]
    if line.activation is not None:
        marks = [KEPT if line.kept else DROPPED, " ", *marks, (f" {line.activation:6.3f}", "dim")]
    return grid([Text.assemble(*marks), Text(plain(line.phrase), "dim" if line.kept is False else "")], gap=1)


def _mean_kept(lines: Sequence[Line]) -> str:
    kept = [line.activation for line in lines if line.kept and line.activation is not None]
    return f"mean of the kept {np.mean(kept):.3f}" if kept else ""


def _table(out: Console) -> Table:
    """A table of a mark, a text that wraps, and figures, as wide as the terminal, so that tables line up."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    table.width = min(out.width, 96)
    return table


def _bar(value: float, low: float, high: float) -> str:
    """A bar of up to `BAR` cells, in eighths of a cell."""
    eighths = round(8 * BAR * (value - low) / (high - low)) if high > low else 8 * BAR
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8] or "▏"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
