"""Methods: one file a way to make a small set; each is imported only when a recipe names it."""

from typing import TYPE_CHECKING

from concord.recipe import models
from concord.registry import METHODS

if TYPE_CHECKING:
    from concord.data import ImageSet
    from concord.methods.base import Method
    from concord.recipe import Recipe


def build(recipe: "Recipe", data: "ImageSet") -> "Method":
    """Return the method that the recipe names, ready to plan; models are loaded when the first image is made."""
    if recipe.is_generated and recipe.select.pooled:
        from concord.methods.pooled import FromPool

        return FromPool(recipe, data)
    method: Method = METHODS.build(recipe.method, recipe.spec.build)(recipe, data)
    return method


def needs_torch(recipe: "Recipe") -> bool:
    """Say whether the recipe's method computes with torch, so that threads and device matter."""
    return not recipe.is_real or bool(models(recipe))
