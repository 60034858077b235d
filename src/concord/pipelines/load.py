"""Loading diffusers pipelines: the class is checked before the weights are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from concord.errors import ConcordError
from concord.models.hub import find_model
from concord.models.pretrained import loading
from concord.storage.atomic import read_json

EXPECTED = {
    "dit": ("DiTPipeline",),
    "generate": ("DiTPipeline",),
    "minimax": ("DiTPipeline",),
    "unclip": ("StableUnCLIPImg2ImgPipeline",),
}
"""Which pipelines a method samples."""


WIRED_TEXT = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline")
"""The text-to-image pipelines that the own sampler knows; any other is called as it is."""


MODEL, TINY, CHECKPOINTS = "pipeline.model", "pipeline.tiny_decoder", "pipeline.checkpoints"


def pipeline_class(model: str) -> str | None:
    """The class of a pipeline by its model_index.json; None where it is not on this machine, or is no pipeline."""
    name = _index(model).get("_class_name")
    return name if isinstance(name, str) else None


def pipeline_labels(model: str) -> dict[str, int] | None:
    """The class ids by name of a class-conditional pipeline, as `DiTPipeline.labels` has them.

    None where its model_index.json is not on this machine, or names no classes.
    """
    names = _index(model).get("id2label")
    if not isinstance(names, dict):
        return None
    return {name.strip(): int(number) for number, text in names.items() for name in str(text).split(",")}


def _index(model: str) -> dict[str, Any]:
    path = find_model(model)
    return read_json(path / "model_index.json") if path is not None else {}


def check_pipeline_class(model: str, expected: Sequence[str]) -> None:
    """Refuse a pipeline of another class, where its class can be known without loading it.

    Raises:
        ConcordError: it is another one.
    """
    found = pipeline_class(model)
    if found is not None and found not in expected:
        raise ConcordError(_another(model, found, expected))


def load_pipeline(
    model: str,
    expected: Sequence[str] = (),
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    transformer: str | None = None,
) -> Any:
    """Load a pipeline by directory or model id.

    Weights come from safetensors where the model has them; else diffusers reads its `.bin` files, with
    `weights_only=True`, so that no code of theirs runs. A safety checker is not loaded: it would put black squares
    into the set without a word.

    dtype: None for float32. expected: class names, one of which it must be; none for any text-to-image pipeline.
    transformer: a directory (or model id) with another transformer for it, in ``transformer/`` or at its top.

    Raises:
        ConcordError: it cannot be loaded, or is of another class; names the recipe key.
    """
    import diffusers

    if expected:
        check_pipeline_class(model, expected)
    options: dict[str, Any] = {}
    if (pipeline_class(model) or "").startswith(("StableDiffusionPipeline", "StableDiffusionImg2Img")):
        options = {"safety_checker": None, "requires_safety_checker": False}
    if transformer is not None:
        with loading(transformer, CHECKPOINTS):
            inside = {"subfolder": "transformer"} if (Path(transformer) / "transformer").is_dir() else {}
            options["transformer"] = diffusers.DiTTransformer2DModel.from_pretrained(transformer, dtype=dtype, **inside)
    with loading(model, MODEL):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(model, dtype=dtype, **options)
    name = type(pipeline).__name__
    if expected and name not in expected:
        raise ConcordError(_another(model, name, expected))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_tiny_decoder(
    model: str | None, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Any | None:
    """Load an `AutoencoderTiny` by directory or model id; None for None.

    Raises:
        ConcordError: it cannot be loaded; names the key.
    """
    if model is None:
        return None
    from diffusers import AutoencoderTiny

    with loading(model, TINY):
        tiny = AutoencoderTiny.from_pretrained(model, dtype=dtype)
    return tiny.to(device).eval().requires_grad_(False)


def _another(model: str, found: str, expected: Sequence[str]) -> str:
    return (
        f'"{model}" is a {found}, but the recipe\'s method needs a {" or ".join(expected)}; set `{MODEL}` or `method`'
    )
