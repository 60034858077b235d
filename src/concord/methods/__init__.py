"""Methods: one file a way to make a small set; each is imported only when a recipe names it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from concord.recipe import CHOSEN, models

if TYPE_CHECKING:
    from concord.data import ImageSet
    from concord.methods.base import Method
    from concord.recipe import Recipe


def build(recipe: Recipe, data: ImageSet) -> Method:
    """Return the method that the recipe names, ready to plan; models are loaded when the first image is made."""
    match recipe.method:
        case "random":
            from concord.methods.real import random_choice

            return random_choice(recipe, data)
        case "full":
            from concord.methods.real import full_set

            return full_set(recipe, data)
        case "k_center" | "herding":
            from concord.methods.coreset import coreset

            return coreset(recipe, data)
        case "rded":
            from concord.methods.rded import Rded

            return Rded(recipe, data)
        case "dit" | "minimax" | "unclip" | "text" | "generate":
            from concord.methods.diffusion import Generate

            return Generate(recipe, data)


def needs_torch(recipe: Recipe) -> bool:
    """Say whether the recipe's method computes with torch, so that threads and device matter."""
    return recipe.method not in CHOSEN or bool(models(recipe))
