"""The paper's tables as data, with what cannot be read in our copy said so and never guessed.

Source: "CONCORD: Concept-Informed Diffusion for Dataset Distillation", the anonymous submission under double-blind
review, in a scan whose merged table cells lost their columns. `docs/paper.md` tells how each was read.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import TypeAdapter

Status = Literal["read", "deduced", "unreadable"]
Unit = Literal["percent", "seconds"]


@dataclass(frozen=True)
class Cell:
    """One number of one table.

    table: 1 to 9. dataset: name of a class list, empty in Table 8. method: ``mtt``, ``sre2l``, ``rded``, ``dit``,
    ``minimax``, ``unclip``, ``random``, ``k_center``, ``herding``, ``idm`` or ``full``. informed: the superscript C.
    student: ``convnet``, ``resnet18`` or ``resnet101``, empty where a lost table leaves it open and in Table 8.
    ipc: images per class, None for ``full``, in Table 8 and where lost. variant: the setting that an ablation varies
    (Tables 4 to 7), else empty. mean, std: top-1 in percent over three runs, or seconds an image without std (Table 8).
    status: ``read`` is unambiguous in our copy; ``deduced`` stands in a garbled row and is pinned by what `note` names;
    ``unreadable`` has neither mean nor std, and `note` gives the numbers that stand unassigned in its row.
    """

    table: int
    dataset: str
    method: str
    informed: bool
    student: str
    ipc: int | None
    variant: str
    mean: float | None
    std: float | None
    unit: Unit
    status: Status
    note: str


_CELL = TypeAdapter(Cell)
_NUMBERS = ("ipc", "mean", "std")


@cache
def cells(table: int | None = None) -> tuple[Cell, ...]:
    """Return the cells of one table (1 to 9), or of all, in the paper's order; a dash of the paper is no cell."""
    if table is not None:
        return tuple(cell for cell in cells() if cell.table == table)
    text = (resources.files("concord.paper") / "tables.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return tuple(
        _CELL.validate_python({key: row[key] or None if key in _NUMBERS else row[key] for key in row}) for row in rows
    )


def accuracy(dataset: str, method: str, informed: bool, student: str, ipc: int | None) -> Cell | None:
    """Return the paper's top-1 accuracy of a method in its main setting, or None where the paper reports none.

    The cell may be unreadable: look at its status. A cell that two tables repeat comes from the first. The whole
    training set is ``accuracy("imagewoof", "full", False, "resnet18", None)``.
    """
    wanted = (dataset, method, informed, student, ipc)
    for cell in cells():
        here = (cell.dataset, cell.method, cell.informed, cell.student, cell.ipc)
        if here == wanted and not cell.variant and cell.unit == "percent":
            return cell
    return None
