"""All real images: the upper bound that a small set is measured against. `ipc` says nothing here."""

from __future__ import annotations

from concord.data import ImageSet
from concord.methods.random import RealImages
from concord.methods.supply import Supply
from concord.recipe import Recipe


def full_set(recipe: Recipe, data: ImageSet) -> RealImages:
    """Return every image of every class, in the order of their names."""
    supply = Supply(data, lambda entry, items: list(items), recipe.unreadable == "skip")
    return RealImages(recipe, data, supply, everything=True)
