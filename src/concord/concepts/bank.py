"""The bank: for every class its phrases, and where they come from. JSON, so that a person can read and edit it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from concord.concepts.wording import words
from concord.errors import ConcordError, nearest


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
        """Phrases of a class.

        Raises:
            ConcordError: the bank does not have the class; the message names the ways out.
        """
        self.require([class_name])
        return self.classes[class_name].phrases

    def require(self, class_names: Sequence[str]) -> None:
        """Check that every class is in the bank, and say all that are missing at once."""
        missing = [name for name in class_names if name not in self.classes]
        if not missing:
            return
        raise ConcordError(
            f'the concept bank "{self.name}" has no phrases for {_listed(missing)}{nearest(missing[0], self.classes)}:'
            " retrieve phrases from a language model (concord concepts retrieve), import a descriptor file (concord"
            " concepts import), or inform by the class name alone"
            " (informing.objective.contrastive=0 informing.objective.class_name=1)"
        )


def _listed(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(f'"{name}"' for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def bundled_banks() -> list[str]:
    """Return the names of the banks that come with the package."""
    return sorted(entry.name.removesuffix(".json") for entry in _folder().iterdir() if entry.name.endswith(".json"))


def _folder() -> Traversable:
    return files("concord.concepts") / "banks"


def load_bank(name_or_path: str) -> Bank:
    """Read a bundled bank by name, or any bank by the path of its JSON file.

    Raises:
        ConcordError: there is no such bank, or the file is not one.
    """
    bundled = bundled_banks()
    path = Path(name_or_path)
    if name_or_path in bundled:
        text = (_folder() / f"{name_or_path}.json").read_text(encoding="utf-8")
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
    """Write a bank as JSON that a person can edit, atomically; directories on the way are made.

    Raises:
        ConcordError: the place cannot be written.
    """
    from concord.runs.store import saying, write_json

    with saying(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    values = bank.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_json(path, {key: values[key] for key in ("name", "provenance", "shared", "classes") if key in values})


def find_class(banks: Sequence[Bank], class_name: str) -> list[tuple[Bank, str]]:
    """Find a class in banks, whatever its case and hyphens: (bank, its name there) for every bank that has it.

    Raises:
        ConcordError: none has; the nearest name is given.
    """
    found = [(bank, name) for bank in banks for name in bank.classes if words(name) == words(class_name)]
    if not found:
        known = [name for bank in banks for name in bank.classes]
        where = f'the bank "{banks[0].name}"' if len(banks) == 1 else f"any of {_listed([b.name for b in banks], 10)}"
        raise ConcordError(f'no class "{class_name}" in {where}{nearest(class_name, known)}')
    return found
