"""Published descriptor files of zero-shot classification: a JSON object, class name to list of phrases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from concord.concepts.bank import Bank
from concord.errors import ConcordError


def read_descriptors(path: Path, name: str | None = None) -> tuple[Bank, list[str]]:
    """Read a descriptor file into a bank, with a note for everything that was left out.

    Empty phrases and classes without any are left out; nothing else is judged here (`concord.concepts.lint` does).

    Args:
        path: the file.
        name: the bank's name; the file's if not given.

    Raises:
        ConcordError: the file cannot be read, or is not an object of lists of texts.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_Pairs)
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ConcordError(f"cannot read the descriptor file {path}: {error}") from None
    except json.JSONDecodeError as error:
        raise ConcordError(f"the descriptor file {path} is not JSON: {error}") from None
    if not isinstance(values, _Pairs):
        raise ConcordError(f"the descriptor file {path}: expected an object of class names, got {_kind(values)}")
    if {"schema", "classes"} <= {key for key, _ in values}:
        raise ConcordError(f"{path} is a concept bank already; give it as BANK to the other commands as it is")
    classes: dict[str, list[str]] = {}
    notes: list[str] = []
    for key, given in values:
        class_name = " ".join(key.split())
        phrases = _phrases(given, f'the descriptor file {path}, class "{class_name}"')
        if class_name in classes:
            notes.append(f'"{class_name}" stands there twice: its phrases are joined')
        if not class_name:
            notes.append("a class without a name is left out")
        elif not phrases:
            notes.append(f'"{class_name}" has no phrases and is left out')
        else:
            classes.setdefault(class_name, []).extend(phrases)
            empty = len(given) - len(phrases)
            if empty:
                notes.append(f'"{class_name}": {empty} empty phrase{"s" if empty > 1 else ""} left out')
    if not classes:
        raise ConcordError(f"the descriptor file {path} has no class with a phrase")
    bank = {
        "schema": 1,
        "name": name or path.stem,
        "provenance": {"source": path.name, "note": "imported from a file of class names and their descriptors"},
        "classes": {class_name: {"phrases": phrases} for class_name, phrases in classes.items()},
    }
    return Bank.model_validate(bank), notes


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands in the file, repeated keys and all."""


def _phrases(given: Any, where: str) -> list[str]:
    if given is None:
        return []
    if not isinstance(given, list) or isinstance(given, _Pairs):
        raise ConcordError(f"{where}: expected a list of phrases, got {_kind(given)}")
    for phrase in given:
        if phrase is not None and not isinstance(phrase, str):
            raise ConcordError(f"{where}: expected texts in the list, got {_kind(phrase)}")
    return [" ".join(phrase.split()) for phrase in given if phrase and phrase.strip()]


def _kind(value: Any) -> str:
    if isinstance(value, _Pairs):
        return "an object"
    return {list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
