"""Original DiT weights, and Minimax's, as a directory of diffusers: every tensor is used, or named in the error."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from concord.choices import Weights
from concord.data.class_lists import class_list
from concord.errors import ConcordError
from concord.models.checkpoint import read_checkpoint
from concord.models.hub import model_path
from concord.models.pretrained import loading
from concord.storage.atomic import new_directory

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Attention heads by width: DiT-S, B, L and XL (Peebles and Xie 2023, Table 1)."""
FACTORS = ("attn.gamma1", "attn.gamma2", "gamma1", "gamma2")
"""DiffFit's scale factors in a block: of qkv (3 D), of the projection (D), of the attention and the MLP branch (D)."""
FREQUENCIES = 256  # width of the sinusoidal timestep embedding
_BLOCK = re.compile(r"blocks\.(\d{1,4})\.(.+)")
_TELLING = ("x_embedder.proj.weight", "pos_embed", "y_embedder.embedding_table.weight", "final_layer.linear.weight")
Shapes = dict[str, tuple[int, ...]]


def convert_dit(
    state: Mapping[str, Tensor], heads: int | None = None, dtype: torch.dtype = torch.float32
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config and state dict of a `DiTTransformer2DModel` for weights with the original names.

    state: of facebookresearch/DiT or vimar-gu/MinimaxDiffusion; sizes are read from the shapes. DiffFit's factors
    multiply outputs: they are folded into the rows of the layers before them, in float32 or better. Tensors that
    already have `dtype` are not copied. heads: None for the published widths. The config holds one key beyond
    diffusers' own, for `restore_frequencies`. A ConcordError names every tensor that does not fit, or says what else
    cannot be converted.
    """
    config = _sizes(state)
    _check_layout(state, _layout(config, folded_blocks(state)))
    width = config.pop("width")
    config["num_attention_heads"] = _heads(width, heads)
    config["attention_head_dim"] = width // config["num_attention_heads"]
    _check_positions(state["pos_embed"])

    new: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        new[f"pos_embed.proj.{kind}"] = state[f"x_embedder.proj.{kind}"]
        new[f"proj_out_1.{kind}"] = state[f"final_layer.adaLN_modulation.1.{kind}"]  # shift, scale: the same order
        new[f"proj_out_2.{kind}"] = state[f"final_layer.linear.{kind}"]
        for i in range(config["num_layers"]):
            new |= {f"transformer_blocks.{i}.{name}.{kind}": x for name, x in _block(state, i, kind).items()}
    new = {name: x.to(dtype).contiguous() for name, x in new.items()}
    for name, x in _embedders(state).items():
        for i in range(config["num_layers"]):
            # diffusers has the embedders once a block (the final layer uses block 0's); a file takes no shared tensors.
            new[f"transformer_blocks.{i}.norm1.emb.{name}"] = x.to(dtype, copy=i > 0).contiguous()
    return config, new


def folded_blocks(state: Mapping[str, Tensor]) -> list[int]:
    """Return the numbers of the blocks that have DiffFit factors, one at least."""
    matches = (_BLOCK.fullmatch(name) for name in state)
    return sorted({int(match[1]) for match in matches if match and match[2] in FACTORS})


def _sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the config from the shapes: all but the heads, and `width` beside."""
    if lacking := ", ".join(name for name in _TELLING if name not in state):
        found = f"{len(state)} tensors such as {', '.join(list(state)[:3])}"
        raise ConcordError(f"no original DiT checkpoint: missing {lacking} among {found}")

    def shape(name: str, meaning: str) -> tuple[int, ...]:
        found = tuple(state[name].shape)
        if len(found) != meaning.count(",") + 1 or 0 in found:
            raise ConcordError(f"{name} is {found}, expected ({meaning})")
        return found

    width, channels, patch, _ = shape("x_embedder.proj.weight", "width, channels, patch, patch")
    _, places, _ = shape("pos_embed", "1, patches, width")
    rows, _ = shape("y_embedder.embedding_table.weight", "classes + 1, width")
    outputs, _ = shape("final_layer.linear.weight", "patch * patch * channels, width")
    if isqrt(places) ** 2 != places or width % 4:
        raise ConcordError(f"pos_embed is of {places} patches and width {width}, expected a square and a multiple of 4")
    if outputs not in (patch**2 * channels, 2 * patch**2 * channels):
        raise ConcordError(
            f"final_layer.linear.weight has {outputs} rows, expected {patch**2 * channels} (patch {patch}, {channels} "
            "channels), or twice that with a learned variance"
        )
    if rows < 2:
        raise ConcordError("y_embedder.embedding_table.weight has one row, expected one a class and one for no class")
    return {
        "_class_name": "DiTTransformer2DModel",
        "activation_fn": "gelu-approximate",
        "attention_bias": True,
        "in_channels": channels,
        "norm_elementwise_affine": False,
        "norm_eps": 1e-6,  # diffusers' default is 1e-5
        "norm_type": "ada_norm_zero",
        "num_embeds_ada_norm": rows - 1,  # diffusers adds the null class itself
        "num_layers": 1 + max((int(match[1]) for match in map(_BLOCK.fullmatch, state) if match), default=0),
        "out_channels": outputs // patch**2,
        "patch_size": patch,
        "sample_size": isqrt(places) * patch,
        KEY: 0,
        "width": width,
    }


def _layout(config: Mapping[str, Any], folded: Iterable[int]) -> Shapes:
    """Every tensor that a DiT of this config has under its original name, with its shape."""
    d, patch = config["width"], config["patch_size"]
    layers: Shapes = {
        "x_embedder.proj": (d, config["in_channels"], patch, patch),
        "t_embedder.mlp.0": (d, FREQUENCIES),
        "t_embedder.mlp.2": (d, d),
        "final_layer.adaLN_modulation.1": (2 * d, d),
        "final_layer.linear": (patch**2 * config["out_channels"], d),
    }
    block = {"attn.qkv": (3 * d, d), "attn.proj": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
    for i in range(config["num_layers"]):
        layers |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
        layers |= {f"blocks.{i}.adaLN_modulation.1": (6 * d, d)}
    shapes: Shapes = {
        "pos_embed": (1, (config["sample_size"] // patch) ** 2, d),
        "y_embedder.embedding_table.weight": (config["num_embeds_ada_norm"] + 1, d),
    }
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for i in folded:
        shapes |= {f"blocks.{i}.{name}": (3 * d if name == "attn.gamma1" else d,) for name in FACTORS}
    return shapes


def _check_layout(state: Mapping[str, Tensor], expected: Shapes) -> None:
    misshapen: dict[str, list[str]] = {}
    for name in expected.keys() & state.keys():
        if (found := tuple(state[name].shape)) != expected[name]:
            misshapen.setdefault(f"{found}, expected {expected[name]}", []).append(name)
    faults = [f"{_in_short(names)}: of shape {why}" for why, names in misshapen.items()]
    if integers := [name for name, value in state.items() if not value.is_floating_point()]:
        faults.append(f"not of floating point: {_in_short(integers)}")
    if missing := expected.keys() - state.keys():
        faults.append(f"missing: {_in_short(missing)}")
    if unknown := state.keys() - expected.keys():
        faults.append(f"unknown: {_in_short(unknown)}")
    if faults:
        raise ConcordError(f"the checkpoint does not fit DiT; {'; '.join(sorted(faults))}")


def _in_short(names: Collection[str]) -> str:
    """Name them all in few words: the same tensor of many blocks is ``blocks.{0-3,7}.attn.proj.bias``."""
    blocks: dict[str, list[int]] = {}
    for match in filter(None, map(_BLOCK.fullmatch, names)):
        blocks.setdefault(match[2], []).append(int(match[1]))
    others = sorted(name for name in names if not _BLOCK.fullmatch(name))
    return ", ".join([*others, *(f"blocks.{_ranges(sorted(blocks[rest]))}.{rest}" for rest in sorted(blocks))])


def _ranges(numbers: list[int]) -> str:
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
    return text if len(numbers) == 1 else f"{{{text}}}"


def _heads(width: int, given: int | None) -> int:
    heads = HEADS.get(width) if given is None else given
    if heads is None:
        raise ConcordError(
            f"the number of attention heads is not in the weights, and a width of {width} is none of DiT's "
            f"({', '.join(map(str, HEADS))}); give it with `--heads`"
        )
    if heads < 1 or width % heads:
        raise ConcordError(f"{heads} attention heads do not divide the width {width}; set `--heads`")
    return heads


def _check_positions(table: Tensor) -> None:
    """Refuse a position table (1, N, D) that diffusers would silently replace by another: it computes its own."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    _, places, width = table.shape
    grid = isqrt(places)
    fixed = get_2d_sincos_pos_embed(width, grid, base_size=grid, output_type="pt")[None]
    off = (table.double() - fixed).abs().max().item()
    # Averaging (EMA) in float32 moves even constants: by up to about 3e-4 at Minimax's decay.
    if not off <= max(1e-3, 2 * torch.finfo(table.dtype).eps):
        raise ConcordError(
            f"pos_embed differs by up to {off:.2g} from the fixed sine-cosine table, which diffusers computes itself "
            "and does not load; a checkpoint with trained or reordered position embeddings cannot be converted"
        )


def _block(state: Mapping[str, Tensor], i: int, kind: str) -> dict[str, Tensor]:
    """The weights or the biases of a block's layers by their names in diffusers, with DiffFit's factors folded in."""
    qkv, proj, fc1, fc2, modulation = (
        state[f"blocks.{i}.{name}.{kind}"]
        for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "adaLN_modulation.1")
    )
    if f"blocks.{i}.{FACTORS[0]}" in state:
        of_qkv, of_proj, of_attention, of_mlp = (state[f"blocks.{i}.{name}"] for name in FACTORS)
        qkv, fc2 = _scaled(qkv, of_qkv), _scaled(fc2, of_mlp)
        proj = _scaled(_scaled(proj, of_proj), of_attention)
    query, key, value = qkv.chunk(3)
    return {
        "norm1.linear": modulation,
        "attn1.to_q": query,
        "attn1.to_k": key,
        "attn1.to_v": value,
        "attn1.to_out.0": proj,
        "ff.net.0.proj": fc1,
        "ff.net.2": fc2,
    }


def _scaled(layer: Tensor, factor: Tensor) -> Tensor:
    exact = torch.promote_types(layer.dtype, torch.float32)
    return layer.to(exact) * factor.to(exact).reshape(-1, *[1] * (layer.ndim - 1))


def _embedders(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = {"y_embedder.embedding_table.weight": "class_embedder.embedding_table.weight"}
    for old, new in (("0", "linear_1"), ("2", "linear_2")):
        names |= {f"t_embedder.mlp.{old}.{kind}": f"timestep_embedder.{new}.{kind}" for kind in ("weight", "bias")}
    return {new: state[old] for old, new in names.items()}


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
        schedule = DDIMScheduler(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", clip_sample=False)
        schedule.save_pretrained(part / "scheduler")
        if autoencoder is not None:
            if (channels := autoencoder.config.latent_channels) != config["in_channels"]:
                raise ConcordError(
                    f"the VAE {vae} has {channels} latent channels, the checkpoint {config['in_channels']}; "
                    "give the one it was trained with as `--vae`"
                )
            autoencoder.to(dtype).save_pretrained(part / "vae")
            _write_json(part / "model_index.json", _model_index(config["num_embeds_ada_norm"]))
        size = sum(file.stat().st_size for file in part.rglob("*") if file.is_file())
    parameters = sum(x.numel() for name, x in state.items() if "gamma" not in name and name != "pos_embed")
    return Export(config, parameters, folded_blocks(state), size)


@contextmanager
def _new_directory(out: Path) -> Iterator[Path]:
    """A directory to fill beside `out`, which it becomes at the end: a kill or an error leaves no half of it there."""
    out = out.resolve()
    if out.is_dir() and any(out.iterdir()):
        raise ConcordError(f"{out} is not empty; give another `--out`, or empty it first")
    if out.exists() and not out.is_dir():
        raise ConcordError(f"{out} is a file; give a directory with `--out`")
    with new_directory(out) as part:
        yield part


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

    parts = {"scheduler": "DDIMScheduler", "transformer": "DiTTransformer2DModel", "vae": "AutoencoderKL"}
    index: dict[str, Any] = {"_class_name": "DiTPipeline", "_diffusers_version": __version__}
    index |= {part: ["diffusers", name] for part, name in parts.items()}
    listed = class_list("imagenet-1k")
    if classes == len(listed):
        index["id2label"] = {str(one.index): ", ".join(one.names) for one in listed}
    return index


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


KEY = "downscale_freq_shift"
"""In a transformer's config: what `restore_frequencies` applies. diffusers itself ignores the key, with a warning."""


def restore_frequencies(transformer: Any) -> None:
    """Give a DiT of diffusers the timestep frequencies that its config names (docs/convert.md), if it has the key.

    The frequencies are no weights, so nothing in a state dict can put them right.
    """
    shift = transformer.config.get(KEY)
    if shift is not None:
        for block in transformer.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = shift
