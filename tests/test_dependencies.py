"""The plain install does distill, evaluate and report; what an extra brings is imported where it is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "json_repair": "json-repair",
    "pillow_heif": "pillow-heif",
}
BROUGHT = {
    "markupsafe": "jinja2",
    "pyarrow": "datasets",
    "threadpoolctl": "scikit-learn",
    "pydantic_core": "pydantic",
    "tokenizers": "transformers",
}
"""Imported, and brought by another that is named."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=<; ]", text)[0].lower() for text in requirements}


def imported() -> tuple[set[str], set[str]]:
    """The packages that src/ imports at the head of a file, and inside functions."""
    head, inside = set(), set()
    for path in (ROOT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {full.partition(".")[0] for full in found} - sys.stdlib_module_names - {"concord"}:
                package = BROUGHT.get(name, PACKAGES.get(name, name))
                (head if node in tree.body else inside).add(package)
    return head, inside


def test_what_is_imported_is_named_and_what_is_named_is_imported() -> None:
    core = names(PROJECT["dependencies"])
    extras = set().union(
        *(names(PROJECT["optional-dependencies"][extra]) for extra in ("timm", "llm", "hub", "heif", "cluster"))
    )
    head, inside = imported()
    assert head <= core
    assert inside <= core | extras
    assert core | extras == head | inside | {"accelerate"}


def test_every_dependency_is_pinned_for_the_tests() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = PROJECT["optional-dependencies"].values()
    wanted = names(PROJECT["dependencies"]).union(*map(names, extras)) - {"concord-distill", "types-pyyaml"}
    assert wanted <= pinned
