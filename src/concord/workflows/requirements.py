"""The models that a run needs, looked for before anything heavy is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.models.download import hub_info
from concord.models.hub import WEIGHTS, find_model, licence, size_of
from concord.recipe import Recipe, impossible, models
from concord.recipe.window import gradient_steps, window_steps
from concord.registry import FAMILIES
from concord.runs.directory import Run
from concord.text import counted, listed


@dataclass(frozen=True)
class Needed:
    """A model that a run loads: under which recipe key, its licence, and where it lies (None: not on this machine)."""

    key: str
    model: str
    licence: str
    path: Path | None
    bytes: int

    @property
    def record(self) -> dict[str, Any]:
        return {"key": self.key, "model": self.model, "licence": self.licence, "present": self.path is not None}


def needed_models(recipe: Recipe) -> list[Needed]:
    found, here = [], [one for one in recipe.pipeline.mirrors if find_model(one) is not None]
    for key, model in models(recipe).items():
        if key == "pipeline.model" and find_model(model) is None and here:
            model = here[0]
        path = find_model(model)
        found.append(Needed(key, model, licence(model), path, size_of(path) if path is not None else 0))
    return found


def require_models(recipe: Recipe) -> None:
    """Check that every model is here or can be fetched (one ConcordError names all others) and suits the method."""
    missing = {one: why for one in needed_models(recipe) if one.path is None and (why := _out_of_reach(one.model))}
    if missing:
        raise ConcordError(unreachable(recipe, missing))
    check_sampling(recipe)


def with_model(recipe: Recipe, out: Path | None = None) -> Recipe:
    """The recipe with one of the ids of its diffusion model, where it names mirrors.

    It is that of the set in `out`, else the first that is on this machine, else the first that the hub has. Raises
    ConcordError: none is to be had.
    """
    settings = recipe.pipeline
    if not settings.mirrors or settings.model is None:
        return recipe
    ids = [settings.model, *settings.mirrors]
    begun = Run(out).recipe.get("pipeline") if out is not None else None
    before = begun.get("model") if isinstance(begun, dict) else None
    there = [one for one in ids if find_model(one) is not None]
    chosen = before if before in ids else there[0] if there else None
    if chosen is None:
        reasons = {one: _out_of_reach(one) for one in ids}
        chosen = next((one for one, why in reasons.items() if not why), None)
        if chosen is None:
            said = "; ".join(f"{one}: {why}" for one, why in reasons.items())
            raise ConcordError(f"pipeline.model: none of its ids is to be had ({said}); give a local directory")
    one_model = settings.model_copy(update={"model": chosen, "mirrors": []})
    return recipe.model_copy(update={"pipeline": one_model})


def unreachable(recipe: Recipe, missing: Mapping[Needed, str]) -> str:
    """One line on models that a recipe needs and that cannot be had here, each with its reason: the keys to set."""
    by_reason: dict[str, list[Needed]] = {}
    for one, why in missing.items():
        by_reason.setdefault(why, []).append(one)
    names = "; ".join(f"{_listed(ones)}: {why}" for why, ones in by_reason.items())
    keys = list(dict.fromkeys("pipeline.checkpoints" if "checkpoints" in one.key else one.key for one in missing))
    ways = "give a local directory or another hub id (" + ", ".join(f"{key}=..." for key in keys) + ")"
    if any(not _is_path(one.model) for one in missing):
        ways += ", or a mirror of the hub (HF_ENDPOINT=URL)"
    if "pipeline.checkpoints" in keys:
        ways += "; `concord convert CHECKPOINT --out DIR` makes a directory from a Minimax checkpoint (docs/convert.md)"
    if "mtt.experts" in keys:
        ways += "; `concord experts DATA --out DIR` trains experts (docs/methods.md)"
    count = "a model that is" if len(missing) == 1 else f"{len(missing)} models that are"
    return f'recipe "{recipe.name}" needs {count} missing here: {names}. To go on, {ways}'


def _listed(ones: list[Needed]) -> str:
    return listed((f"{one.model} (`{one.key}`, {one.licence})" for one in ones), 4)


def _is_path(model: str) -> bool:
    """A hub id is ``owner/name`` (or a bare name); whatever else is meant as a directory."""
    return (
        model.count("/") > 1 or model.endswith(WEIGHTS) or model.startswith((".", "/", "~", "models/")) or "\\" in model
    )


def of_a_library(model: str) -> bool:
    """Whether a model is one of timm's or torchvision's, or goes by the name of a student."""
    if model.startswith(("timm:", "torchvision:")) or "/" in model:
        return "/" not in model
    from concord.models.students import canonical

    try:
        return bool(canonical(model))
    except ConcordError:
        return False


def no_hub_id(model: str) -> str:
    """Why a model that is not on this machine is nothing to ask the hub for; empty where it is."""
    if model.startswith("reef:"):
        return "reinstall concord, its weights are part of it"
    if _is_path(model):
        return "there is no such file" if model.endswith(WEIGHTS) else "there is no such directory"
    return ""


def _out_of_reach(model: str) -> str:
    """Why a model that is not on this machine cannot be fetched; empty where it can."""
    if (why := no_hub_id(model)) or of_a_library(model):
        return why  # a library fetches its weights, and knows where it keeps them
    try:
        hub_info(model)
    except ConcordError as error:
        return str(error)
    return ""


def check_sampling(recipe: Recipe) -> None:
    """Refuse, before weights are read, what could not be informed as the recipe says.

    Raises:
        ConcordError: exact informing where no family is wired; mean informing without DDPM; a pipeline of the wrong
            class; a schedule of which no step would be informed.
    """
    settings, informing = recipe.pipeline, recipe.informing
    if settings.model is None or not recipe.is_generated:
        return
    from concord.pipelines.ip_adapter import unfitting
    from concord.pipelines.load import pipeline_class, recipe_family, stock_scheduler

    for key, why in impossible(recipe):
        raise ConcordError(f"{key}: {why}")
    wired, stock_call = recipe_family(recipe).exact, settings.start is None and settings.image_strength is not None
    if settings.start == "prototype" and not wired:
        found = pipeline_class(settings.model)
        raise ConcordError(f"pipeline.start: no prototypes of a {found}, which is called as it is; take start=real")
    if settings.ip_adapter is not None:
        found = pipeline_class(settings.model)
        if found is not None and (unfit := unfitting(found, settings.ip_adapter)):
            raise ConcordError(unfit)
        if stock_call:
            raise ConcordError("pipeline.ip_adapter is not for the stock image-to-image call: say pipeline.start=real")
    exact = wired and not stock_call
    if informing.enabled and informing.mode != "fast" and not exact:
        found = pipeline_class(settings.model)
        what = "the stock image-to-image call (say pipeline.start=real)" if wired else f"a {found}"
        raise ConcordError(
            f"informing.mode {informing.mode} takes gradients through the denoiser, which is wired for"
            f" {', '.join(FAMILIES.get('text').pipelines)} from noise, not for {what}; set `informing.mode` to fast"
        )
    if informing.enabled and informing.mode == "mean" and settings.scheduler == "stock":
        stock = type(stock_scheduler(settings.model)).__name__
        if stock not in ("DDPMScheduler", "NoneType"):
            raise ConcordError(f"informing.mode mean (Eq. 6) is for DDPM, not {stock}; set pipeline.scheduler to ddpm")
    if settings.guidance.window != (0.0, 1.0) and not exact:
        found = "image-to-image" if settings.image_strength is not None else f"a {pipeline_class(settings.model)}"
        raise ConcordError(
            f"pipeline.guidance.window needs concord's own sampler, and {found} is called as it is; leave it out"
        )
    if recipe.select.finish is not None and not exact:
        raise ConcordError(
            f"select.finish: a {pipeline_class(settings.model)} is called as it is here, and no sampling of it can be"
            " left at half; leave it out"
        )
    _check_scheduler(recipe, exact)
    _check_schedule(recipe)


def _check_scheduler(recipe: Recipe, own: bool) -> None:
    """Refuse a solver that cannot sample the model, or be followed. own: whether the own sampler takes its steps."""
    settings = recipe.pipeline
    if settings.scheduler == "stock" and not settings.scheduler_options and not own and not recipe.is_guided:
        return  # whatever its own call does with it
    if (scheduler := _scheduler(recipe)) is not None:
        from concord.pipelines.schedulers import check_scheduler

        check_scheduler(scheduler, settings.steps, settings.scheduler_options)


def _scheduler(recipe: Recipe) -> Any | None:
    """A recipe's scheduler, without the model's weights; None where its own is not on this machine."""
    from concord.pipelines.load import pipeline_class, stock_scheduler

    settings = recipe.pipeline
    if (stock := stock_scheduler(settings.model or "")) is None:
        return None
    from concord.pipelines.schedulers import named_scheduler

    container = type(pipeline_class(settings.model or "") or "the model", (), {"scheduler": stock})
    return named_scheduler(container(), settings.scheduler, options=settings.scheduler_options)


def _check_schedule(recipe: Recipe) -> None:
    """Refuse windows that leave nothing to inform: of few steps, or of none that has more than noise."""
    informing, settings = recipe.informing, recipe.pipeline
    windows: dict[str, tuple[Any, int]] = (
        {"informing.window": (informing.window, informing.every)} if informing.enabled else {}
    )
    for number, entry in enumerate(recipe.guides):
        if isinstance(window := entry.get("window"), list | tuple):
            windows[f"guides.{number}.window"] = window, 1
    if not window_steps(settings.guidance.window, settings.steps):
        some = f"{list(settings.guidance.window)} of {counted(settings.steps, 'step')}"
        raise ConcordError(f"pipeline.guidance.window {some} leaves none to guide: widen it, or raise pipeline.steps")
    begun = settings.skipped(settings.steps)
    for key, (window, every) in windows.items():
        if gradient_steps(window, every, settings.steps, begun + 1):
            continue  # whatever the scheduler: only its first step may be pure noise
        count, first = _informable(recipe, begun)
        if not gradient_steps(window, every, count, first):
            some = f"of {counted(count, 'step')}"
            some += f", of which the first {first} cannot be informed," if first else ""
            raise ConcordError(
                f"{key} {list(window)} {some} leaves none to inform, and the set would be the uninformed one: widen it,"
                " or raise pipeline.steps"
            )


def _informable(recipe: Recipe, begun: int) -> tuple[int, int]:
    """How many steps a recipe's schedule has, and the first that can be informed; as near as is known here.

    begun: the first step that is taken at all, of the recipe's.
    """
    from concord.diffusion.level import Level

    settings = recipe.pipeline
    if (scheduler := _scheduler(recipe)) is None:
        # DDIM and DDPM have a step for each; another may have more, and the first batch will tell.
        return settings.steps, begun if settings.scheduler in ("ddim", "ddpm", "minimax") else 0
    shifted = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting", False) else {}  # the size's; none moves 1
    scheduler.set_timesteps(settings.steps, **shifted)
    count = len(scheduler.timesteps)
    taken = range(begun * int(scheduler.order), count)
    informable = (i for i in taken if not Level.from_scheduler(scheduler, scheduler.timesteps[i], i).pure_noise)
    return count, next(informable, count)
