"""Recipes from bundled names, YAML files and plain values, and back to YAML."""

import copy
from collections.abc import Mapping, Sequence
from importlib import resources as package_files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from concord.choices import STARTS
from concord.errors import ConcordError
from concord.recipe.idle import layers, refused
from concord.recipe.model import Recipe, recipe_class
from concord.recipe.sections import spelled_guidance
from concord.registry import DATASETS
from concord.settings import complaints, laid_over, override, read_yaml
from concord.text import nearest

HEADER = (
    "# Resolved by concord. The same recipe continues or grows what lies here; see results.json for what it gave.\n"
)
"""The head of the recipe that a run leaves."""
EXTENDS = "extends"
"""The key of a recipe's file that names what it is laid over; it is gone once the recipe is read."""
PARTS = ("parts/few-steps",)
"""What comes with the package to be extended, and is no recipe by itself."""


def bundled() -> list[str]:
    """Return the names of the recipes that come with the package."""
    folder = package_files.files("concord") / "recipes"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a bundled recipe by name, or a YAML file, or the recipe of an earlier run's directory.

    name_or_path: ``reef``, ``my/recipe.yaml``, or a directory with a ``recipe.yaml``. overrides: ``key=value`` texts
    with dotted keys, as in ``informing.strength=0.2``; a value is YAML. A relative `data` becomes absolute: a file's
    own is taken from where the file lies if it is there, any other from the working directory.
    Raises ConcordError: unknown recipe or key (with the nearest name), a value that does not fit, or a key that was
    set and cannot act.
    """
    text, name, folder = _text(name_or_path)
    return parse(text, name, f'recipe "{name_or_path}"', overrides, folder)


def parse(
    text: str,
    name: str,
    where: str = "recipe",
    overrides: Sequence[str] = (),
    folder: Path | None = None,
) -> Recipe:
    """Read a recipe's YAML. name: what it goes by if it bears no name itself. where: what an error speaks of.

    folder: where the text lies, and its relative `data` perhaps.

    Raises:
        ConcordError: as `load`.
    """
    values, stack = _values(text, name, where, folder)
    for typed in sorted(overrides, key=lambda typed: typed.partition("=")[0].strip() != "method"):
        override(recipe_class(values.get("method")), values, typed)
    recipe = validate(values, where)
    if found := refused(recipe, layers(type(recipe), stack, overrides)):
        raise ConcordError(f"{where}: {'; '.join(found)}")
    return recipe


def validate(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Turn plain values into a `Recipe`; one ConcordError names every key that is unknown or has an unfitting value."""
    shape = recipe_class(values.get("method"))
    try:
        recipe = shape.model_validate(dict(values))
    except ValidationError as error:
        raise ConcordError(f"{where}: {complaints(shape, error)}") from None
    if recipe.pipeline.start not in (None, *STARTS):
        start = str(Path(str(recipe.pipeline.start)).expanduser().absolute())
        recipe = recipe.model_copy(update={"pipeline": recipe.pipeline.model_copy(update={"start": start})})
    if recipe.data in DATASETS:
        return recipe
    return recipe.model_copy(update={"data": str(Path(recipe.data).expanduser().absolute())})


def to_yaml(recipe: Recipe) -> str:
    """Return the resolved recipe, every key spelled out, in the order of the schema."""
    values = recipe.model_dump(mode="json", by_alias=True)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _values(
    text: str, name: str, where: str, folder: Path | None, trail: tuple[str, ...] = ()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a recipe's plain values, and what of them each text sets: the recipes that it extends, itself last."""
    try:
        own = read_yaml(text)
    except ValueError as error:
        raise ConcordError(f"{where} {error}") from None
    if not isinstance(own, dict):
        raise ConcordError(f'{where}: expected keys and values, as in "method: dit"')
    named = own.pop(EXTENDS, [])
    named = [named] if isinstance(named, str) else named
    if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
        wanted = "expected the name or file of a recipe, or a list of them"
        raise ConcordError(f"{where}: {EXTENDS}: {wanted}, got {named!r}")
    data = own.get("data")
    if folder is not None and isinstance(data, str) and data and data not in DATASETS and (folder / data).exists():
        own["data"] = str(folder / data)
    if "pipeline" in own:  # before anything is set over it
        own["pipeline"] = spelled_guidance(own["pipeline"])
    values: dict[str, Any] = {}
    stack: list[dict[str, Any]] = []
    for one in named:
        path = folder / one if folder is not None and (folder / one).is_file() else Path(one)
        further, called, place = _text(str(path) if one not in bundled() else one)
        if (key := str(place / called if place else called)) in trail:
            raise ConcordError(f"{where}: {EXTENDS}: {one} extends itself, by way of {', '.join(trail)}")
        below, layers_below = _values(further, called, f'recipe "{one}"', place, (*trail, key))
        values, stack = laid_over(values, below), stack + layers_below
    values = laid_over({key: value for key, value in values.items() if key != "name"}, own)
    values.setdefault("name", name)
    # What concord resolved spells every key out: nobody set those that cannot act.
    resolved = text.startswith(HEADER.partition(".")[0])
    return values, [*stack, {} if resolved else copy.deepcopy(own)]


def _text(name_or_path: str) -> tuple[str, str, Path | None]:
    """Return the YAML text of a recipe, the name it has when it bears none itself, and the folder of its file."""
    path = Path(name_or_path).expanduser()
    if name_or_path in bundled() or name_or_path in PARTS:
        file = package_files.files("concord") / "recipes" / f"{name_or_path}.yaml"
        return file.read_text(encoding="utf-8"), name_or_path, None
    if path.is_dir() and (path / "recipe.yaml").is_file():
        path = path / "recipe.yaml"
    if not path.is_file():
        known, hint = ", ".join(bundled()), nearest(name_or_path, bundled())
        raise ConcordError(f'unknown recipe "{name_or_path}"{hint}; bundled are {known}, or give a YAML file')
    try:
        return path.read_text(encoding="utf-8"), path.stem, path.parent
    except UnicodeDecodeError:
        raise ConcordError(f"{path} is not a recipe: expected a YAML text in UTF-8") from None
