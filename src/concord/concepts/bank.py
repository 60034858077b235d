"""The bank: for every class its phrases, and where they come from. JSON, so that a person can read and edit it."""

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concord.concepts.words import words
from concord.errors import ConcordError
from concord.storage.atomic import disk_errors, write_json
from concord.text import listed, meant, nearest


class ClassConcepts(BaseModel):
    """The phrases of one class, over-abundant before selection, and the look-alikes they were written against."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    phrases: tuple[str, ...] = Field(min_length=1)
    look_alikes: tuple[str, ...] = ()


class Bank(BaseModel):
    """Phrases by class name. `shared` are those that may stand in several classes (see `concord.concepts.lint`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_: Literal[1] = Field(alias="schema")
    name: str
    provenance: dict[str, str] = Field(default_factory=dict)
    shared: tuple[str, ...] = ()
    classes: dict[str, ClassConcepts]

    def phrases(self, class_name: str) -> tuple[str, ...]:
        """Phrases of a class; a `ConcordError` names the ways out where the bank lacks it."""
        self.require([class_name])
        return self.classes[meant(class_name, self.classes)[0]].phrases

    def require(self, class_names: Sequence[str]) -> None:
        """Check that every class is in the bank, and say all that are missing at once."""
        if missing := [name for name in class_names if len(meant(name, self.classes)) != 1]:
            lacking = listed(f'"{name}"' for name in missing)
            raise ConcordError(
                f'the concept bank "{self.name}" has no phrases for {lacking}{nearest(missing[0], self.classes)}:'
                " retrieve phrases from a language model (concord concepts retrieve), import a descriptor file (concord"
                " concepts import), or inform by the class name alone"
                " (informing.objective.contrastive=0 informing.objective.class_name=1)"
            )


_BANKS = files("concord.concepts") / "banks"


def bundled_banks() -> list[str]:
    return sorted(entry.name.removesuffix(".json") for entry in _BANKS.iterdir() if entry.name.endswith(".json"))


def load_bank(name_or_path: str) -> Bank:
    """Read a bundled bank by name, or any by the path of its JSON file; a ConcordError where there is none."""
    bundled = bundled_banks()
    path = Path(name_or_path)
    if name_or_path in bundled:
        text = (_BANKS / f"{name_or_path}.json").read_text(encoding="utf-8")
    elif path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConcordError(f"cannot read the concept bank {path}: {error}") from None
    else:
        raise ConcordError(
            f'no concept bank "{name_or_path}"{nearest(name_or_path, bundled)}; bundled are'
            f" {', '.join(bundled)}, or give the path of a JSON file (concepts.bank)"
        )
    try:
        return Bank.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConcordError(f"the concept bank {name_or_path} is not JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConcordError(f"the concept bank {name_or_path} is not valid at {where}: {first['msg']}") from None


def concept_text(class_name: str, phrase: str) -> str:
    """The text that is embedded for a concept, of positives and negatives alike (paper, App. B)."""
    return f"{class_name} with {phrase}"


def write_bank(bank: Bank, path: Path) -> None:
    """Write a bank as JSON that a person can edit, atomically; directories on the way are made."""
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    values = bank.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_json(path, {key: values[key] for key in ("name", "provenance", "shared", "classes") if key in values})


def find_class(banks: Sequence[Bank], class_name: str) -> list[tuple[Bank, str]]:
    """Find a class in banks, whatever its case and hyphens: (bank, its name there); a ConcordError if none has it."""
    found = [(bank, name) for bank in banks for name in bank.classes if words(name) == words(class_name)]
    if not found:
        known = [name for bank in banks for name in bank.classes]
        names = [f'"{bank.name}"' for bank in banks]
        where = f"the bank {names[0]}" if len(banks) == 1 else f"any of {listed(names, 10)}"
        raise ConcordError(f'no class "{class_name}" in {where}{nearest(class_name, known)}')
    return found


def read_descriptors(path: Path, name: str | None = None) -> tuple[Bank, list[str]]:
    """Read a descriptor file of zero-shot classification into a bank, with a note for everything that was left out.

    The file is a JSON object, class name to list of phrases. Empty phrases and classes without any are left out;
    nothing else is judged here (`concord.concepts.lint` does). name: the bank's; the file's if not given.
    Raises ConcordError: the file cannot be read, or is not an object of lists of texts.
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
            if empty := len(given) - len(phrases):
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
