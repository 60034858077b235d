"""The record of a run beside a set that is shared: what `report`, `compare` and `evaluate` read, without the machine.

Of paths the last part is left. Embeddings, which are of the real images too, and pages and pictures, which are drawn
from the rest, stay at home.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from concord.export.made import MadeSet
from concord.export.write import public_row, redacted, redacted_recipe, shortened
from concord.recipe import HEADER
from concord.runs.directory import Run
from concord.runs.store import MANIFEST
from concord.storage.atomic import json_line, write_json

ROWS = "rows.jsonl"
"""The manifest of a set whose images are no files."""
RECORDS = ("environment", "concepts", "details", "near_copies", "results", "evaluation")
"""Files of a run that go with a set, as ``NAME.json``, where they are."""
_PATH = re.compile(r"(?<![\w/.:])(?:~|[A-Za-z]:)?[\\/](?:[^\s'\"\\/]+[\\/])+[^\s'\"\\/]+")
"""A path in the middle of a sentence."""


def write_record(directory: Path, made: MadeSet, root: Path) -> None:
    """Write what a run recorded of its set beside an export of it."""
    run = Run(directory)
    recipe = yaml.safe_dump(redacted_recipe(made.recipe), sort_keys=False, allow_unicode=True, width=120)
    (root / "recipe.yaml").write_bytes((HEADER + recipe).encode())
    for name in RECORDS:
        if values := getattr(run, name):
            told = _without_paths(shortened(values))
            write_json(root / f"{name}.json", {key: value for key, value in told.items() if key != "schema"})
    if not (root / MANIFEST).exists():
        with (root / ROWS).open("wb") as file:
            file.writelines(json_line(public_row(picture)) for picture in made.pictures)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_paths(one) for one in value]
    return _PATH.sub(lambda found: redacted(found[0]), value) if isinstance(value, str) else value
