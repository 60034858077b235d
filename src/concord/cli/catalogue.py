"""The bundled recipes at a glance: what each is, what it needs, and what the paper reports for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources as package_files
from itertools import takewhile

from concord.errors import ConcordError
from concord.paper import Cell, accuracy
from concord.recipe import Recipe, bundled, load
from concord.workflows.requirements import Needed, needed_models

STUDENT, IPC = "resnet18", 10
"""The cell of the paper's tables that is shown."""


@dataclass(frozen=True)
class Entry:
    """A bundled recipe. `needs_data`: it names no data set of its own, so that one must be given.

    informed, uninformed: the paper's accuracy with `STUDENT` at `IPC`, None where it reports none or none can be read.
    """

    name: str
    method: str
    about: str
    needs_data: bool
    models: tuple[Needed, ...]
    informed: Cell | None
    uninformed: Cell | None

    @property
    def missing(self) -> tuple[Needed, ...]:
        return tuple(one for one in self.models if one.path is None)


def catalogue() -> list[Entry]:
    """Return every bundled recipe, by name. Nothing is downloaded and no model is loaded."""
    return [_entry(name) for name in bundled()]


def load_bundled(name: str, overrides: Sequence[str] = ()) -> tuple[Recipe, bool]:
    """Load a bundled recipe, and say whether it wants a data set to be named (a stand-in is named then)."""
    try:
        return load(name, overrides), False
    except ConcordError:
        return load(name, [*overrides, "data=."]), True


def _entry(name: str) -> Entry:
    recipe, needs_data = load_bundled(name)
    data_set = name.removesuffix(f"-{recipe.method}")
    cells = (accuracy(data_set, recipe.method, informed, STUDENT, IPC) for informed in (True, False))
    informed, plain = (cell if cell is not None and cell.mean is not None else None for cell in cells)
    return Entry(name, recipe.method, _about(name), needs_data, tuple(needed_models(recipe)), informed, plain)


def _about(name: str) -> str:
    text = (package_files.files("concord") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    head = takewhile(lambda line: line.startswith("#") and line.strip("# "), text.splitlines())
    return " ".join(line.strip("# ") for line in head).partition(". ")[0].removesuffix(".")
