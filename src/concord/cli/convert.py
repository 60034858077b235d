"""`concord convert`: an original DiT or Minimax checkpoint becomes a directory of diffusers."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

from typer import Argument, Option

from concord.choices import Weights
from concord.text import plain

if TYPE_CHECKING:
    from concord.models.dit_checkpoint import Export


Part = StrEnum("Part", {word: word for word in get_args(Weights)})  # type: ignore[misc]
EMA = Part("ema")
Precision = StrEnum("Precision", ["float32", "float16", "bfloat16"])


def convert(
    checkpoint: Annotated[
        Path, Argument(metavar="CHECKPOINT", help="A .pt or .safetensors file with the original names.")
    ],
    out: Annotated[Path, Option(help="The directory to make.")],
    weights: Annotated[
        Part, Option(help="Which weights of a training checkpoint; the original samplers take ema.")
    ] = EMA,
    heads: Annotated[
        int | None, Option(min=1, help="Attention heads; known for the published sizes S, B, L and XL.")
    ] = None,
    vae: Annotated[
        str | None, Option(metavar="DIR_OR_ID", help="A VAE to put in, such as stabilityai/sd-vae-ft-ema.")
    ] = None,
    dtype: Annotated[Precision, Option(help="Of the weights that are written.")] = Precision.float32,
) -> None:
    """Turn an original DiT or Minimax checkpoint into a directory of diffusers.

    concord convert DiT-XL-2-256x256.pt --out dit --vae stabilityai/sd-vae-ft-ema
    concord convert 0008000.pt --out minimax
    """
    import torch

    from concord.models.dit_checkpoint import export_dit

    part, form = cast(Weights, weights.value), getattr(torch, dtype.value)
    export = export_dit(checkpoint, out, weights=part, heads=heads, vae=vae, dtype=form)
    print(_summary(export, checkpoint, out, dtype, vae is not None))


def _summary(export: "Export", checkpoint: Path, out: Path, dtype: Precision, whole: bool) -> str:
    config = export.config
    width = config["num_attention_heads"] * config["attention_head_dim"]
    variance, side = "with" if config["out_channels"] > config["in_channels"] else "no", config["sample_size"]
    lines = [
        f"converted {plain(str(checkpoint))}",
        f"  network    {config['num_layers']} blocks of width {width}, {config['num_attention_heads']} heads, "
        f"patch {config['patch_size']}: {export.parameters / 1e6:,.1f} M parameters",
        f"  latents    {config['in_channels']} x {side} x {side}, {variance} learned variance",
        f"  classes    {config['num_embeds_ada_norm']}, and the null class",
    ]
    if export.folded:
        lines.append(f"  DiffFit    factors of {len(export.folded)} blocks folded into the weights")
    lines.append(f"  written    {plain(str(out))} ({export.size / 1e6:,.0f} MB, {dtype.value})")
    lines += [
        f"next: concord distill RECIPE pipeline.model={plain(str(out))}"
        if whole
        else "It holds no VAE: use it as a checkpoint (`pipeline.checkpoints`), and the VAE of the recipe's "
        "`pipeline.model` decodes; or convert again with --vae for a directory that stands alone.",
        "concord samples it with the original's timestep frequencies; diffusers alone would not (docs/convert.md).",
    ]
    return "\n".join(lines)
