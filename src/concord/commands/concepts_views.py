"""What `concord concepts` shows. Class names and phrases come from outside: they are never read as markup."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rich.table import Table
from rich.text import Text

from concord.concepts.bank import Bank
from concord.concepts.lint import Fault
from concord.console import Console, counted, plain, print_json


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
    out.print(Text.assemble(("imported  ", "bold green"), f"{size(bank)} into {path}"), soft_wrap=True)
    for note in notes:
        out.print(Text(f"  note: {plain(note)}"), soft_wrap=True)
    if faults:
        out.print(Text(f"  lint finds {counted(len(faults), 'fault')}: {kinds(faults)}", "yellow"), soft_wrap=True)
        out.print(Text(f"  concord concepts lint {path} names each", "dim"), soft_wrap=True)
    else:
        out.print(Text("  lint finds no faults"))


def show_written(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            Console().print(Text(f"written: {path}"), soft_wrap=True)


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
