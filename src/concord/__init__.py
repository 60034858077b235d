"""concord: dataset distillation with concept-informed diffusion; docs/python.md shows each name at work."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from concord import moved

if TYPE_CHECKING:
    from concord.data import open_data as open_data
    from concord.errors import ConcordError as ConcordError
    from concord.guidance.attach import inform as inform
    from concord.guidance.concept_guide import ConceptGuide as ConceptGuide
    from concord.models.encoder import load_encoder as load_encoder
    from concord.pipelines.base import sample_images
    from concord.pipelines.load import load_family as load_family
    from concord.recipe import Recipe as Recipe
    from concord.runs.directory import Run as Run
    from concord.runs.directory import open_run as open_run
    from concord.workflows.evaluate import evaluate as evaluate
    from concord.workflows.front import compare as compare
    from concord.workflows.front import distill as distill
    from concord.workflows.front import load_recipe as load_recipe

    sample = sample_images

_PLACES = {
    "ConceptGuide": "guidance.concept_guide",
    "ConcordError": "errors",
    "Recipe": "recipe",
    "Run": "runs.directory",
    "compare": "workflows.front",
    "distill": "workflows.front",
    "evaluate": "workflows.evaluate",
    "inform": "guidance.attach",
    "load_encoder": "models.encoder",
    "load_family": "pipelines.load",
    "load_recipe": "workflows.front",
    "open_data": "data",
    "open_run": "runs.directory",
    "sample": "pipelines.base:sample_images",
}
"""Where each name lies; it is imported at first need, so that `import concord` brings no torch."""

__all__ = sorted([*_PLACES, "__version__"])  # pyright: ignore
moved.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from concord.system import version

        return version()
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, inner = _PLACES[name].partition(":")
    found = getattr(import_module(f"concord.{module}"), inner or name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
