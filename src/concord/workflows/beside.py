"""Real images beside a set: as many of each class, chosen by other methods from what the set was made of."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.events import Progress
from concord.recipe import Recipe, validate
from concord.registry import METHODS
from concord.runs.directory import earlier, open_run
from concord.runs.draws import beside_path, draw_path
from concord.workflows.distill import distill

DRAWS = 3
"""Draws at least, where nothing else is said: one alone says little of the method."""


def choose_beside(sets: Sequence[Path], method: str, draws: int | None, progress: Progress) -> list[Path]:
    """Choose real images by a method for each draw of a set, or take those that are there; return where they lie.

    They are of the set's classes, as many, and of its images' side. Where nothing is drawn, it is one set.
    Raises ConcordError: the set was not made by `concord distill`, or there are not as many real images.
    """
    recipe, side = _recipe(sets[0], method), _side(sets[0])
    places = places_beside(sets, method, draws)
    for seed, place in places.items():
        progress.stage(f"choosing real images by {method}")
        distill(recipe_beside(recipe, method, seed, side), place)
    return list(places.values())


def places_beside(sets: Sequence[Path], method: str, draws: int | None) -> dict[int, Path]:
    """Where the real images lie, or will, by their seeds; raises ConcordError as `choose_beside`."""
    own = list(dict.fromkeys(_recipe(place, method).seed for place in sets))
    count = (draws or max(DRAWS, len(own))) if METHODS.get(method).drawn else 1
    seeds = [*own, *range(max(own) + 1, max(own) + 1 + count)][:count]
    return {seed: draw_path(beside_path(sets[0], method), seed) for seed in seeds}


def recipe_beside(recipe: Recipe, method: str, seed: int, side: int | None) -> Recipe:
    """The recipe of real images beside those that a recipe made; side: pixels of an image, None as they are."""
    values: dict[str, Any] = recipe.model_dump(mode="json", by_alias=True)
    if recipe.spec.settings is not None:
        values.pop(recipe.spec.name)
    if "features" in recipe.spec.unread:
        values["features"] = None
    values |= {"method": method, "seed": seed, "size": side, "guides": [], "metrics": [], "uninformed": False}
    return validate(values, f"{method} beside {recipe.name}")


def _recipe(place: Path, method: str) -> Recipe:
    recipe = earlier(place) if place.is_dir() else None
    if recipe is None:
        way = f"`concord distill photos data=DATA method={method} ipc=IPC seed=0,1,2 --out DIR` chooses them"
        raise ConcordError(f"beside={method}: {place} does not say which images it was made of; {way}, to be evaluated")
    if recipe.spec.ipc == "all":
        raise ConcordError(f"beside={method}: {place} holds all real images; nothing can be chosen beside them")
    return recipe


def _side(place: Path) -> int | None:
    """The side of a set's images, by its first; None where that is no square."""
    samples = open_run(place).samples()
    width, height = samples[0].image.size if samples else (0, 1)
    return width if width == height else None
