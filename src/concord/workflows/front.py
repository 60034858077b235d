"""The verbs of the front door, as `concord.NAME`: plain values in, objects out."""

from pathlib import Path
from typing import Any

from concord import recipe as recipes
from concord.data import ImageSet
from concord.events import Progress
from concord.methods.base import Method
from concord.recipe import Recipe
from concord.report import compare as comparison
from concord.report.compare import Comparison
from concord.runs.directory import Run, open_run
from concord.settings import as_texts
from concord.storage.cluster import connected_if
from concord.text import file_name
from concord.workflows.distill import distill as run_distill


def load_recipe(name: str | Path, **values: Any) -> Recipe:
    """Load a recipe by what `concord distill` takes, with keys to set; a ConcordError says what does not fit.

    concord.load_recipe("custom", data="my-photos", ipc=10, pipeline={"steps": 25})
    """
    return recipes.load(str(name), as_texts(values))


def distill(
    recipe: Recipe | str,
    out: str | Path | None = None,
    *,
    data: ImageSet | None = None,
    method: Method | Any | None = None,
    workers: int = 1,
    cluster: str | None = None,
    progress: Progress | None = None,
) -> Run:
    """Make a recipe's set, or what is missing of it, as `concord distill` does; resumable.

    Args:
        recipe: a recipe or its name.
        out: the directory to fill or grow; ``out/NAME`` if not given.
        data: an image set of one's own, instead of the recipe's.
        method: a `concord.methods.base.Method` of one's own, or a function of (recipe, data) that returns one.
        workers: processes, where the recipe leaves them open. More than one are spawned, which asks of a script the
            usual ``if __name__ == "__main__":``. The images are the same.
        cluster: a Ray cluster whose nodes make the images, as many as it has room for: ``local``, ``auto``, HOST:PORT
            or ``ray://HOST:PORT`` (docs/cluster.md). The images are the same.

    Raises ConcordError: anything the caller can put right; what is finished stays, and the same call goes on from
    there.
    """
    settings = load_recipe(recipe) if isinstance(recipe, str) else recipe
    where = Path("out") / file_name(settings.name) if out is None else Path(out)
    if settings.workers == "auto" and cluster is None:
        settings = settings.model_copy(update={"workers": workers})
    is_made = method is not None and not isinstance(method, type) and hasattr(method, "make")
    build: Any = (lambda recipe, data: method) if is_made else method
    with connected_if(cluster) as nodes:
        run_distill(settings, where, progress, data=data, method=build, cluster=nodes)
    return open_run(where)


def compare(a: Run | str | Path, b: Run | str | Path) -> Comparison:
    """Compare two finished runs on the same data, sample by sample, as `concord compare` does, or a ConcordError."""
    return comparison.compare(
        *(comparison.finished_run(run.out if isinstance(run, Run) else Path(run)) for run in (a, b))
    )
