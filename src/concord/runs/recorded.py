"""What a run left in its directory, read for the report; nothing is computed anew and nothing else is opened."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from concord.errors import ConcordError
from concord.recipe import is_real
from concord.runs.store import read_manifest

Json = dict[str, Any]


EMBEDDINGS = "embeddings.npz"


@dataclass(frozen=True)
class Shot:
    """One image: its file relative to the run's directory, and its rows of `details.json` (none where not judged)."""

    file: str
    details: Sequence[Json] = ()


@dataclass(frozen=True)
class Pair:
    """One sample: its row of the manifest, its image, and the uninformed one of the same seed where there is one."""

    row: Json
    after: Shot
    before: Shot | None = None

    @property
    def label(self) -> int:
        return int(self.row["label"])


@dataclass(frozen=True)
class Record:
    """A run. `classes`: label to its samples in the order of their index; JSON files that are not there are empty."""

    out: Path
    classes: Mapping[int, Sequence[Pair]]
    paired: bool
    recipe: Json = field(default_factory=dict)
    recipe_text: str = ""
    results: Json = field(default_factory=dict)
    environment: Json = field(default_factory=dict)
    concepts: Json = field(default_factory=dict)
    details: Json = field(default_factory=dict)
    evaluation: Json = field(default_factory=dict)
    near_copies: Json = field(default_factory=dict)

    @property
    def pairs(self) -> list[Pair]:
        return [pair for pairs in self.classes.values() for pair in pairs]

    @property
    def made_as(self) -> str:
        """What the images are: "informed", "uninformed", or "chosen" among the real ones."""
        if is_real(self.recipe.get("method")):
            return "chosen"
        informing = self.recipe.get("informing")
        informed = not isinstance(informing, dict) or informing.get("enabled", True)
        return "informed" if informed else "uninformed"


def read_run(out: Path) -> Record:
    """Read a run's directory; a run that is not finished is read as far as it got.

    Raises:
        ConcordError: it holds no run, or one of its files is damaged; the message names the file.
    """
    if not (out / "images" / "metadata.jsonl").is_file():
        raise ConcordError(f"{out} holds no run: expected images/metadata.jsonl there, as `concord distill` leaves it")
    details = _json(out / "details.json")
    judged = details.get("images", {})
    after, before = _rows(out / "images"), _rows(out / "uninformed")
    partners = {(row["label"], row["index"]): row for row in before}
    classes: dict[int, list[Pair]] = {}
    for row in after:
        partner = partners.get((row["label"], row["index"]))
        pair = Pair(row, _shot("images", row, judged), _shot("uninformed", partner, judged) if partner else None)
        classes.setdefault(pair.label, []).append(pair)
    text = _text(out / "recipe.yaml")
    return Record(
        out,
        classes,
        any(pair.before for pairs in classes.values() for pair in pairs),
        _recipe(text, out / "recipe.yaml"),
        text,
        _json(out / "results.json"),
        _json(out / "environment.json"),
        _json(out / "concepts.json"),
        details,
        _json(out / "evaluation.json"),
        _json(out / "near_copies.json"),
    )


def _rows(root: Path) -> list[Json]:
    """The rows of a variant that point below it: a manifest from elsewhere shall not put other files on the page."""
    if not (root / "metadata.jsonl").is_file():
        return []
    rows = read_manifest(root)
    for row in rows:
        place = PurePosixPath(row["file_name"])
        if place.is_absolute() or ".." in place.parts:
            raise ConcordError(f"{root / 'metadata.jsonl'} names {row['file_name']!r}, which is not below {root}")
    return rows


def _shot(variant: str, row: Json, judged: Json) -> Shot:
    file = f"{variant}/{row['file_name']}"
    return Shot(file, judged.get(file, ()))


def _json(path: Path) -> Json:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConcordError(f"{path} is damaged ({error}): give `concord distill` again, or take it away") from None
    if not isinstance(values, dict):
        raise ConcordError(f"{path} is damaged: expected a JSON object")
    return values


def _recipe(text: str, path: Path) -> Json:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConcordError(f"{path} is damaged: expected the YAML that `concord distill` left") from None
    return values if isinstance(values, dict) else {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
