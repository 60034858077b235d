"""Recipes: one YAML file decides everything that a run does.

The keys fall into three kinds. Most decide *what an image is*: they are the set's identity, and a directory that was
begun with others is refused. `RUNTIME_KEYS` only decide how images are made (workers, device, ...), and `ipc` only
how many: with the same identity a finished directory grows in place.
"""

from concord.recipe.idle import impossible
from concord.recipe.load import HEADER, bundled, load, to_yaml, validate
from concord.recipe.model import (
    RUNTIME_KEYS,
    Recipe,
    differing,
    guide_settings,
    identity,
    is_real,
    models,
    recipe_class,
)
from concord.recipe.sections import Device, Format, Fraction, Informing, Pipeline, Weight, Workers

__all__ = ["HEADER", "RUNTIME_KEYS", "Device", "Format", "Fraction", "Informing", "Pipeline", "Recipe", "Weight"]
__all__ += ["Workers", "bundled", "differing", "guide_settings", "identity", "impossible", "is_real", "load", "models"]
__all__ += ["recipe_class", "to_yaml", "validate"]
