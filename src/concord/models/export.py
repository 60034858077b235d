"""A converted checkpoint as a directory of diffusers: whole, or not there at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concord.data.lists import class_list
from concord.errors import ConcordError
from concord.models.checkpoint import Weights, read_checkpoint
from concord.models.convert import convert_dit, folded_blocks
from concord.models.pretrained import loading
from concord.resources import model_path


@dataclass(frozen=True)
class Export:
    """What was written. config: of the transformer; parameters: of the network, each embedder counted once;
    folded: blocks whose DiffFit factors went into the weights; size: of the directory in bytes."""

    config: Mapping[str, Any]
    parameters: int
    folded: list[int]
    size: int


def export_dit(
    checkpoint: Path,
    out: Path,
    *,
    weights: Weights = "ema",
    heads: int | None = None,
    vae: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Export:
    """Write `transformer` and `scheduler` of a DiT or Minimax checkpoint; with a VAE, all that `DiTPipeline` needs.

    out: must be empty or not exist. vae: directory or id of an `AutoencoderKL`; `model_index.json` then names the
    classes where they are ImageNet's 1000. See `read_checkpoint` and `convert_dit` for the rest and for the errors.
    """
    from diffusers import DDIMScheduler

    with _new_directory(out) as part:
        autoencoder = None if vae is None else _autoencoder(vae)
        state = read_checkpoint(checkpoint, weights)
        config, new = convert_dit(state, heads, dtype)
        _save_transformer(part / "transformer", config, new)
        # The noise schedule that DiT and Minimax are trained with; latents exceed [-1, 1], so nothing is clipped.
        DDIMScheduler(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", clip_sample=False).save_pretrained(
            part / "scheduler"
        )
        if autoencoder is not None:
            channels = autoencoder.config.latent_channels
            if channels != config["in_channels"]:
                raise ConcordError(
                    f"the VAE {vae} has {channels} latent channels, the checkpoint {config['in_channels']}; "
                    "give the one it was trained with as `--vae`"
                )
            autoencoder.to(dtype).save_pretrained(part / "vae")
            _write_json(part / "model_index.json", _model_index(config["num_embeds_ada_norm"]))
        size = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    folded = folded_blocks(state)
    parameters = sum(x.numel() for name, x in state.items() if "gamma" not in name and name != "pos_embed")
    return Export(config, parameters, folded, size)


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A directory to fill beside `out`, which it becomes at the end: a kill or an error leaves no half of it there."""
    out = out.resolve()
    if out.is_dir() and any(out.iterdir()):
        raise ConcordError(f"{out} is not empty; give another `--out`, or empty it first")
    if out.exists() and not out.is_dir():
        raise ConcordError(f"{out} is a file; give a directory with `--out`")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a conversion that was killed
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            out.rmdir()  # empty; not every system renames onto it
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _autoencoder(vae: str) -> Any:
    from diffusers import AutoencoderKL

    with loading(vae, "--vae"):
        return AutoencoderKL.from_pretrained(model_path(vae), use_safetensors=True)


def _save_transformer(folder: Path, config: Mapping[str, Any], weights: dict[str, Tensor]) -> None:
    from diffusers import __version__
    from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder.mkdir()
    _write_json(folder / "config.json", {**config, "_diffusers_version": __version__})
    try:
        save_file(weights, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    except SafetensorError as cause:  # a full disk comes as one
        raise ConcordError(f"cannot write {folder / SAFETENSORS_WEIGHTS_NAME}: {cause}") from cause


def _model_index(classes: int) -> dict[str, Any]:
    from diffusers import __version__

    index: dict[str, Any] = {
        "_class_name": "DiTPipeline",
        "_diffusers_version": __version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "transformer": ["diffusers", "DiTTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    listed = class_list("imagenet-1k")
    if classes == len(listed):
        index["id2label"] = {str(one.index): ", ".join(one.names) for one in listed}
    return index


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
