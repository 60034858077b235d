"""All models of a recipe, fetched ahead of its run."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from concord.errors import ConcordError
from concord.models.download import Remote, fetch, look
from concord.models.hub import hub_cache
from concord.recipe import Recipe
from concord.text import size
from concord.workflows.requirements import Needed, needed_models, no_hub_id, of_a_library, unreachable


@dataclass(frozen=True)
class Wanted:
    """A model of a recipe: here (`needed.path`), to be fetched (`remote`), or not to be had so (`why`)."""

    needed: Needed
    remote: Remote | None = None
    why: str = ""


def wanted(recipe: Recipe) -> list[Wanted]:
    """Ask the hub for every model of a recipe that is not here; no weights are fetched."""
    adapter = recipe.pipeline.ip_adapter
    files = {"pipeline.ip_adapter": adapter.weight_name} if adapter else {}
    return [_look(one, files.get(one.key)) for one in needed_models(recipe)]


def _look(needed: Needed, adapter: str | None = None) -> Wanted:
    if needed.path is not None:
        return Wanted(needed)
    if of_a_library(needed.model):
        return Wanted(needed, why=f"{needed.model.partition(':')[0]} fetches it at first use")
    if why := no_hub_id(needed.model):
        return Wanted(needed, why=why)
    try:
        return Wanted(needed, look(needed.model, adapter))
    except ConcordError as error:
        return Wanted(needed, why=str(error))


def download(recipe: Recipe, models: Sequence[Wanted], starting: Callable[[Remote], None], quiet: bool = False) -> None:
    """Fetch what the hub has of `models`, each told to `starting` first; what is here already is not fetched again.

    Raises ConcordError: too little room, which is found before anything is fetched; a download that broke off; models
    that are not to be had so, after all others are fetched.
    """
    remotes = {one.remote.model: one.remote for one in models if one.remote is not None}
    cache = hub_cache()
    room = shutil.disk_usage(next(p for p in (cache.absolute(), *cache.absolute().parents) if p.exists())).free
    if (missing := sum(remote.missing for remote in remotes.values())) > room:
        raise ConcordError(
            f"{size(missing)} are to be fetched into {cache}, which has {size(room)} left; free some, or set HF_HOME"
        )
    for remote in remotes.values():
        starting(remote)
        fetch(remote, quiet)
    rest = {one.needed: one.why for one in models if one.why and not of_a_library(one.needed.model)}
    if rest:
        raise ConcordError(unreachable(recipe, rest))
