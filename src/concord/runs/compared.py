"""What a finished run left in its directory, as far as a comparison needs it; nothing is computed anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from concord.errors import ConcordError
from concord.recipe import is_real
from concord.runs.store import read_manifest

Json = dict[str, Any]


Place = tuple[str, int]
"""A sample's class, by its folder, and its index."""


@dataclass(frozen=True)
class Run:
    """A finished run. rows: its manifest by place. JSON files that it need not have are empty where they lack."""

    out: Path
    recipe: Json
    rows: Mapping[Place, Json]
    results: Json
    details: Json
    evaluation: Json
    fingerprint: str | None

    @property
    def main(self) -> str:
        """Under which name `results.json` has the images: informed or not."""
        informing = self.recipe.get("informing")
        informed = isinstance(informing, dict) and bool(informing.get("enabled", True))
        return "informed" if informed and not is_real(self.recipe.get("method")) else "uninformed"

    def image(self, place: Place) -> Path:
        return self.out / "images" / self.rows[place]["file_name"]

    def rated(self, place: Place) -> list[Json]:
        """The rows of `details.json` on a sample's image; none where it was not rated."""
        return self.details.get("images", {}).get(f"images/{self.rows[place]['file_name']}", [])


def read_run(out: Path) -> Run:
    """Read a finished run.

    Raises:
        ConcordError: it is no run, or not finished, or one of its files is damaged or points elsewhere.
    """
    manifest = out / "images" / "metadata.jsonl"
    if not (out / "recipe.yaml").is_file() or not manifest.is_file():
        lacking = "there is no such directory" if not out.is_dir() else "no recipe.yaml with images/metadata.jsonl"
        raise ConcordError(f"{out} holds no run ({lacking}): name the --out of a finished `concord distill`")
    if not (out / "results.json").is_file():
        raise ConcordError(f"{out} is not finished (no results.json): give its `concord distill` command again")
    rows = {}
    for row in read_manifest(out / "images"):
        file = PurePosixPath(row["file_name"])
        if file.is_absolute() or ".." in file.parts:
            raise ConcordError(f"{manifest} names {row['file_name']!r}, which does not lie beside it")
        rows[file.parent.as_posix(), row["index"]] = row
    return Run(
        out,
        _recipe(out / "recipe.yaml"),
        rows,
        _json(out / "results.json"),
        _json(out / "details.json"),
        _json(out / "evaluation.json"),
        (_json(out / "environment.json").get("data") or {}).get("fingerprint"),
    )


def _recipe(path: Path) -> Json:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict):
        raise ConcordError(f"{path} is damaged: expected the YAML that `concord distill` left")
    return values


def _json(path: Path) -> Json:
    """A JSON object, empty where there is no such file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ConcordError(f"{path} is damaged: expected a JSON object; give `concord distill` again, or remove it")
    return values
