"""docs/architecture.md shows the house as it stands; what the docs name of the package is there."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from concord.registry import REGISTRIES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "concord"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")]


def tree() -> list[str]:
    """The files and rooms of the page's tree, as paths below src/concord."""
    [block] = re.findall(r"```text\nsrc/concord/\n(.*?)```", PAGE, re.S)
    found: list[str] = []
    above: list[str] = []
    for line in block.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        above = [*above[:depth], name]
        found.append("".join(above))
    return found


def test_the_tree_has_every_file_and_room_once() -> None:
    there = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")]
    files = {path.as_posix() for path in there if path.name != "__init__.py"} | {"__init__.py"}
    rooms = {f"{path.parent.as_posix()}/" for path in there if path.name == "__init__.py"} - {"./"}
    assert set(tree()) == files | rooms
    assert len(tree()) == len(files | rooms)


def test_every_room_has_a_paragraph() -> None:
    heads = re.findall(r"^\*\*(.+?)\.\*\*", PAGE, re.M)
    assert {name for head in heads for name in head.split(", ")} >= {
        entry.rstrip("/").removesuffix(".py") for entry in tree() if entry.count("/") == entry.endswith("/")
    } - {"__init__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    """Modules and names (`concord.x.y`), files of the project, pages that are linked."""
    text = page.read_text(encoding="utf-8")
    for name in sorted(set(re.findall(r"\bconcord(?:\.[A-Za-z_]\w*)+", text))):
        if not name.endswith((".md", ".yaml", ".lock")):
            assert resolves(name), name
    for name in set(re.findall(r"\b(?:src|tests|benchmarks|docs)/[\w./-]+\.\w+", text)):
        assert (ROOT / name).exists(), name
    for name in set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text)):
        assert (page.parent / name).exists(), name


def resolves(name: str) -> bool:
    """Whether a dotted name is a module of today, something in one, or a group of entry points."""
    if name in {registry.group for registry in REGISTRIES}:
        return True
    module, rest = name, []
    while True:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            spec = None
        if spec is not None:
            break
        module, _, last = module.rpartition(".")
        rest.insert(0, last)
    if spec.origin is None:
        return False  # an old import path
    found = importlib.import_module(module)
    for part in rest:
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
