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
    models,
    recipe_class,
    spec_of,
)
from concord.recipe.sections import (
    IMAGE_STRENGTH,
    Device,
    Format,
    Fraction,
    Informing,
    IpAdapter,
    Pipeline,
    Weight,
    Workers,
    skipped_steps,
)

__all__ = ["HEADER", "IMAGE_STRENGTH", "RUNTIME_KEYS", "Device", "Format", "Fraction", "Informing", "IpAdapter"]
__all__ += ["Pipeline", "Recipe", "Weight", "Workers", "bundled", "differing", "guide_settings", "identity"]
__all__ += ["impossible", "load", "models", "recipe_class", "skipped_steps", "spec_of", "to_yaml", "validate"]
