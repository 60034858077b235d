"""The rule of arrows: a file imports only from rooms below its own (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
FLOORS = [
    ["cli"],
    ["reproduce"],
    ["workflows"],
    ["report"],
    ["methods", "evaluation", "export"],
    ["metrics", "reef"],
    ["guidance", "concepts"],
    ["pipelines"],
    ["models", "runs"],
    ["data", "diffusion"],
    ["recipe"],
    ["storage"],
    ["settings", "system", "plan"],
    ["registry", "events", "choices", "paper"],
    ["errors", "text", "moved"],
]
"""The rooms, from the top of the house to its ground; two rooms of one floor do not see each other."""


def room(module: str) -> str:
    return module.split(".")[1]


def floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room(module) in rooms)


def modules() -> dict[str, Path]:
    """The files by their names; the front door, which names every room, stands outside the floors."""
    found = {}
    for path in sorted((SOURCE / "concord").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if name != "concord"}


def imports(path: Path, known: set[str]) -> set[str]:
    """The project's files that a file imports, anywhere in it: at its head, in functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & known or {node.module}
            if not inner <= known:
                found.add(node.module)
    return found & known


GRAPH = {name: imports(path, set(modules())) - {name} for name, path in modules().items()}


def test_every_room_has_its_floor() -> None:
    assert {room(name) for name in GRAPH} <= {room for rooms in FLOORS for room in rooms}


def test_the_page_has_these_floors() -> None:
    page = (SOURCE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = page.split("## The rule of arrows")[1].split("```")[1]
    assert [line.split() for line in block.strip().splitlines()] == FLOORS


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_a_file_imports_only_from_rooms_below_its_own(name: str) -> None:
    up = {other for other in GRAPH[name] if room(other) != room(name) and floor(other) <= floor(name)}
    assert up == set()


def test_no_file_imports_itself_by_way_of_others() -> None:
    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = GRAPH[waiting.pop()] - seen
            seen |= new
            waiting.extend(new)
        return seen

    assert [name for name in GRAPH if name in reached(name)] == []
