"""A model's configuration without its weights: from its directory, or as published, which is part of the package."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from concord.models.hub import find_model
from concord.storage.atomic import read_json

Configuration = Mapping[str, Mapping[str, Any]]
"""The JSON files of a model's directory by their names in it: ``model_index.json``, ``unet/config.json``, ..."""


def published_models() -> list[str]:
    """The ids of the models whose configuration the package has."""
    return sorted(_read(file)["model"] for file in _folder().iterdir() if file.name.endswith(".json"))


def published(model: str) -> dict[str, Any] | None:
    """The record of a published model, with ``source`` (where its numbers are from) and ``files``; None where the
    package has none."""
    file = _folder() / f"{model.replace('/', '--')}.json"
    return _read(file) if file.is_file() else None


def configuration(model: str) -> Configuration | None:
    """The configuration of a model that is on this machine, else the published one; None where neither is there."""
    path = find_model(model)
    if path is None or not path.is_dir():
        record = published(model)
        return None if record is None else record["files"]
    files = (*path.glob("*.json"), *path.glob("*/*.json"))
    return {file.relative_to(path).as_posix(): read_json(file) for file in sorted(files)}


def _folder() -> Any:
    return resources.files("concord.models") / "published"


def _read(file: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record
