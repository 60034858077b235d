"""Loading diffusers pipelines: the family follows from the class, which is known before the weights are read.

That is known without torch, too, which is imported with a pipeline: a plan asks for the class alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from concord.errors import ConcordError
from concord.models.hub import find_model, model_path
from concord.models.pretrained import loading
from concord.recipe import IpAdapter, Recipe
from concord.registry import FAMILIES, METHODS, FamilySpec, imported
from concord.storage.atomic import read_json

if TYPE_CHECKING:
    import torch

_log = logging.getLogger("concord")
MODEL, TINY, CHECKPOINTS = "pipeline.model", "pipeline.tiny_decoder", "pipeline.checkpoints"


def pipeline_class(model: str) -> str | None:
    """The class of a pipeline by its model_index.json; None where it is not on this machine, or is no pipeline."""
    name = _index(model).get("_class_name")
    return name if isinstance(name, str) else None


def pipeline_labels(model: str) -> dict[str, int] | None:
    """A pipeline's class ids by name, as `DiTPipeline.labels`; None if it is not on this machine or names none."""
    if not isinstance(names := _index(model).get("id2label"), dict):
        return None
    return {name.strip(): int(number) for number, text in names.items() for name in str(text).split(",")}


def stock_scheduler(model: str) -> Any | None:
    """A pipeline's own scheduler, without its weights; None where it is not on this machine, or diffusers has none."""
    path = find_model(model)
    config = read_json(path / "scheduler" / "scheduler_config.json") if path is not None else {}
    if not config:
        return None
    import diffusers

    kind = getattr(diffusers, str(config.get("_class_name")), None)
    return None if kind is None else kind.from_config(config)


def _index(model: str) -> dict[str, Any]:
    path = find_model(model)
    return read_json(path / "model_index.json") if path is not None else {}


def family_of(pipeline: Any, among: Sequence[str] = ()) -> FamilySpec | None:
    """The family, `among` these or all, that takes a pipeline or the name of a class: that of its nearest ancestor."""
    specs = [FAMILIES.get(name) for name in among] if among else _importable()
    owners = {kind.rpartition(":")[2]: spec for spec in specs for kind in spec.pipelines}
    if isinstance(pipeline, str) and pipeline in owners:
        return owners[pipeline]  # without diffusers, which takes seconds to import
    kind = _class_named(pipeline) if isinstance(pipeline, str) else type(pipeline)
    return next((owners[parent.__name__] for parent in kind.__mro__ if parent.__name__ in owners), None)


def recipe_family(recipe: Recipe) -> FamilySpec:
    """The family of a recipe's pipeline class; where that is not known here, the first that its method takes."""
    among, model = METHODS.get(recipe.method).families, recipe.pipeline.model or ""
    name = pipeline_class(model)
    return FAMILIES.get(among[0] if among else "dit") if name is None else _known(model, name, among)


def load_family(
    model: Any,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    tiny_decoder: str | None = None,
    checkpoint: str | None = None,
    ip_adapter: IpAdapter | None = None,
    among: Sequence[str] = (),
    **options: Any,
) -> Any:
    """Load a diffusion model as the family that its pipeline's class says: a `concord.pipelines.base.FrozenPipeline`.

    model: a directory, a model id or a name of the package (``reef:pipeline``); or a pipeline, which is taken as it is
    and where it is. dtype: float32 if not given. tiny_decoder: the directory or model id of an `AutoencoderTiny`, for
    cheap gradients. checkpoint: a directory whose transformer takes the place of the pipeline's, as `concord convert`
    writes it. ip_adapter: weights that let real images be prompts, added to the pipeline. among: names of families, one
    of which it must be. options: what the family takes beside, as `size`. A ConcordError names the
    recipe's key.
    """
    import torch

    dtype, pipeline = dtype or torch.float32, model
    if isinstance(model, str):
        path = model_path(model)
        if (name := pipeline_class(path)) is not None:
            _known(model, name, among)  # before its weights are read
        pipeline = load_pipeline(path, dtype=dtype, device=device, transformer=checkpoint)
    if ip_adapter is not None:
        from concord.pipelines.ip_adapter import load_ip_adapter

        load_ip_adapter(pipeline, ip_adapter)
    name = model if isinstance(model, str) else "the pipeline"
    _known(name, pipeline, among)  # before the tiny decoder is read
    tiny = load_tiny_decoder(tiny_decoder and model_path(tiny_decoder), dtype=dtype, device=device)
    return family_from(pipeline, tiny, among=among, name=name, **options)


def family_from(
    pipeline: Any,
    tiny_decoder: Any | None = None,
    *,
    among: Sequence[str] = (),
    name: str = "the pipeline",
    **options: Any,
) -> Any:
    """The family of a pipeline that is there, with its tiny decoder; name: of the pipeline in errors. See
    `load_family`."""
    spec = _known(name, pipeline, among)
    return FAMILIES.build(spec.name, spec.build)(pipeline, tiny_decoder, **options)


def _known(model: str, pipeline: Any, among: Sequence[str]) -> FamilySpec:
    spec = family_of(pipeline, among)
    if spec is None:
        found = pipeline if isinstance(pipeline, str) else type(pipeline).__name__
        known = [kind for name in among for kind in FAMILIES.get(name).pipelines]
        wanted = f"the recipe's method needs a {' or '.join(known)}" if among else "no installed package knows it"
        raise ConcordError(f'"{model}" is a {found}, but {wanted}; set `{MODEL}` or `method`')
    return spec


def _importable() -> list[FamilySpec]:
    """Every registered family but those whose package is broken: they are not what was asked for."""
    found = [spec for _, _, spec in FAMILIES.items()]
    for error in (spec for spec in found if isinstance(spec, ConcordError)):
        _log.warning("%s", error)
    return [spec for spec in found if isinstance(spec, FamilySpec)]


def _class_named(name: str, default: Any = None) -> Any:
    """A pipeline class by its name: a specification's own; else the default, or what diffusers has of that name."""
    import diffusers

    path = next((kind for spec in _importable() for kind in spec.pipelines if kind.endswith(f":{name}")), None)
    return imported(path) if path else default or getattr(diffusers, name, object)


def load_pipeline(
    model: str, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu", transformer: str | None = None
) -> Any:
    """Load a pipeline by directory or model id; a ConcordError names the recipe's key. dtype: None for float32.

    Weights come from safetensors where the model has them; else diffusers reads its `.bin` files, with
    `weights_only=True`, so that no code of theirs runs. A safety checker is not loaded: it would put black squares into
    the set without a word. transformer: a directory (or model id) with another one, in ``transformer/`` or at its top.
    """
    import diffusers

    name = pipeline_class(model) or ""
    checked = name.startswith(("StableDiffusionPipeline", "StableDiffusionImg2Img"))
    options: dict[str, Any] = {"safety_checker": None, "requires_safety_checker": False} if checked else {}
    if transformer is not None:
        with loading(transformer, CHECKPOINTS):
            inside = {"subfolder": "transformer"} if (Path(transformer) / "transformer").is_dir() else {}
            options["transformer"] = diffusers.DiTTransformer2DModel.from_pretrained(transformer, dtype=dtype, **inside)
    with loading(model, MODEL):
        pipeline = _class_named(name, diffusers.DiffusionPipeline).from_pretrained(model, dtype=dtype, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_tiny_decoder(
    model: str | None, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Any | None:
    """Load an `AutoencoderTiny` by directory or model id; None for None."""
    if model is None:
        return None
    from diffusers import AutoencoderTiny

    with loading(model, TINY):
        tiny = AutoencoderTiny.from_pretrained(model, dtype=dtype)
    return tiny.to(device).eval().requires_grad_(False)
