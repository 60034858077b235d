"""The three regimes of labels side by side: a set, random real images and a coreset, as far as they were evaluated.

Whether a set beats random images depends on the labels that it is taught with (Dey et al. 2026, arXiv 2604.18811), and
on the draw of the random ones.
"""

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concord.choices import PROTOCOL_GROUPS
from concord.errors import ConcordError
from concord.evaluation.record import name, way
from concord.runs.directory import Run
from concord.runs.draws import home
from concord.text import counted

Json = Mapping[str, Any]

OWN = "this set"
"""What the set itself goes by among its `sides`."""
REGIMES = dict(zip(PROTOCOL_GROUPS["regimes"], ("soft online", "soft fixed", "hard"), strict=True))
"""What each protocol of the group `regimes` teaches with."""
BESIDE = ("random", "herding")
"""What stands beside a set where nothing else is asked for: chance, and a coreset."""


@dataclass(frozen=True)
class Entry:
    """One accuracy. at: its dotted place in evaluation.json. draws: sets that it is over. seeds: trainings of each."""

    cell: Json
    at: str
    draws: int
    seeds: int

    @property
    def n(self) -> int:
        return self.draws * self.seeds

    @property
    def reports(self) -> str:
        return str(self.cell.get("reports", "best"))

    @property
    def told(self) -> str:
        """What it is over, for people."""
        return f"{counted(self.draws, 'draw')} \N{MULTIPLICATION SIGN} {counted(self.seeds, 'seed')}"


@dataclass(frozen=True)
class Row:
    """A method. about: what else must be known of it. entries: by column, None where it was not evaluated."""

    name: str
    about: str
    entries: Sequence[Entry | None]


@dataclass(frozen=True)
class Block:
    """A student at an IPC. columns: the regime, and the protocol with what was changed of it."""

    student: str
    ipc: int | None
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Row]

    @property
    def chance(self) -> list[Entry | None]:
        """What random images reach, by column."""
        return next((list(row.entries) for row in self.rows if row.name == BESIDE[0]), [None] * len(self.columns))

    @property
    def lacks(self) -> bool:
        return any(entry is None for row in self.rows for entry in row.entries)


def blocks(record: Json, default: Sequence[str] = BESIDE) -> list[Block]:
    """What an evaluation has of the regimes, a block a student and IPC; default: rows that are there even if empty."""
    sides = {one["name"]: (one, f"sides.{n}.cells") for n, one in enumerate(record.get("sides") or ())}
    sides = {OWN: sides.pop(OWN, ({"cells": record.get("cells") or ()}, "cells")), **sides}
    found: dict[tuple[str, int | None], dict[Any, dict[str, Entry]]] = {}
    for row, (one, place) in sides.items():
        for n, cell in enumerate(one["cells"]):
            if cell.get("protocol") in REGIMES and {"student", "ipc", "seeds", "top1"} <= cell.keys():
                draws = cell.get("draws") or 1
                entry = Entry(cell, f"{place}.{n}", draws, len(cell["seeds"]) // draws)
                _, protocol, _, more = name(cell)
                column = (list(REGIMES).index(protocol), way(cell), more)
                found.setdefault((cell["student"], cell["ipc"]), {}).setdefault(column, {})[row] = entry
    names = dict.fromkeys([*sides, *default])
    return [_block(key, columns, {row: sides.get(row, ({}, ""))[0] for row in names}) for key, columns in found.items()]


def _block(
    key: tuple[str, int | None], found: Mapping[tuple[int, str, str], Mapping[str, Entry]], sides: Mapping[str, Json]
) -> Block:
    kinds = list(REGIMES)
    for n in set(range(len(kinds))) - {column[0] for column in found}:
        found = {**found, (n, kinds[n], ""): {}}
    order = sorted(found)
    rows = []
    for row, one in sides.items():
        entries = [found[column].get(row) for column in order]
        rows.append(Row(row, _about(row, one, [entry for entry in entries if entry]), entries))
    return Block(*key, [(REGIMES[kinds[n]], told) for n, told, _ in order], rows)


def _about(row: str, one: Json, entries: Sequence[Entry]) -> str:
    if row == OWN or not entries:
        return ""
    if features := one.get("features"):
        return f"by {features}; nothing is drawn"
    return "one draw alone" if {entry.draws for entry in entries} == {1} else ""


def awaited(run: Run) -> list[str]:
    """What shall stand beside the set of a run."""
    return [method for method in BESIDE if method != run.recipe.get("method")]


def command(directory: Path, test: str, found: Sequence[Block] = (), run: Run | None = None) -> str:
    """The command that gives all regimes of a set with what stands beside it, as `found` has it so far."""
    run = run or Run(directory)
    entries = [entry for block in found for row in block.rows for entry in row.entries if entry]
    cells = [entry.cell for entry in entries]
    texts = [] if cells or not _is_small(run) else ["student=convnet-3"]
    for key in ("student", "ipc"):
        values = dict.fromkeys(cell[key] for cell in cells)
        if values and None not in values:
            texts.append(f"{key}={','.join(map(str, values))}")
    names = dict.fromkeys([row.name for block in found for row in block.rows] or awaited(run))
    beside = [one for one in names if one != OWN]
    texts += ["protocol=regimes", f"beside={','.join(beside)}"] if beside else ["protocol=regimes"]
    if not run.recipe.get("teacher"):
        texts.append("teacher=FILE")
    counts = {tuple(entry.cell["seeds"][: entry.seeds]) for entry in entries}
    if len(counts) == 1 and (seeds := counts.pop()) != (0, 1, 2):
        texts.append(f"seeds={len(seeds) if seeds == tuple(range(len(seeds))) else ','.join(map(str, seeds))}")
    changed = [dict(cell.get("changed") or {}) for cell in cells]
    for key in dict.fromkeys(key for one in changed for key in one):
        given = {str(one[key]) for one in changed if key in one}
        if len(given) == 1:
            texts.append(f"{key}={given.pop()}")
    return " ".join(map(shlex.quote, ["concord", "evaluate", str(home(directory)), "--test", test, *texts]))


def _is_small(run: Run) -> bool:
    """Whether the set's images are so small that the field takes a ConvNet of three layers for them."""
    with contextlib.suppress(ConcordError):
        if samples := run.samples():
            return max(samples[0].image.size) <= 64
    return False
