"""Images a second on a GPU, at real size with random weights: DiT-XL/2 256 and SD 2.1 unCLIP 768, informed and not.

    python benchmarks/gpu_throughput.py              # all of it: 50 steps, guidance, batches up to what memory holds
    python benchmarks/gpu_throughput.py --compile --channels-last
    python benchmarks/gpu_throughput.py --tiny       # the same on toy networks, on a CPU: does the script run?

Speed does not depend on what the weights are, so none are downloaded. Networks in bfloat16. For each batch size:
images a second over a whole sampling with the final decoding, peak memory, and the share of the card's rate of matrix
products, measured on one large product, that the counted operations (`informing_cost.py`) come to. Writes
benchmarks/results/gpu_throughput_CARD.json after every row.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from informing_cost import Count, Model, clip_l, concept_guide, dit_xl, sd21_unclip, settings
from record import RESULTS, head, write
from transformers import CLIPConfig, CLIPModel

from concord.diffusion.sampler import noise, sample
from concord.methods.batch_sampler import is_out_of_memory
from concord.models.encoder import Encoder
from concord.models.preprocess import Preprocess
from concord.pipelines.dit import DiT
from concord.recipe import Informing

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def toy() -> Model:
    """A DiT of two layers with an autoencoder for 32 pixels."""
    transformer = DiTTransformer2DModel(2, 8, 4, 8, 2, sample_size=4, patch_size=2, num_embeds_ada_norm=1000)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
    model = DiT(DiTPipeline(transformer, vae, DDIMScheduler(clip_sample=False)), AutoencoderTiny())
    return Model("toy", model, lambda n: model.denoise([0] * n, 4.0))


def toy_clip() -> Encoder:
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(vision_config=vision | {"image_size": 32, "patch_size": 8}, projection_dim=8)
    return Encoder(CLIPModel(config), SimpleNamespace(model_max_length=8), Preprocess(32, (32, 32)))


def networks(model: Model, encoder: Encoder) -> Iterator[torch.nn.Module]:
    """What computes: denoiser, decoders, the encoder's image tower."""
    family = model.family
    yield from (family.denoiser, family.pipeline.vae.decoder, encoder.model.vision_model)
    if family.tiny_decoder is not None:
        yield family.tiny_decoder.decoder


def loaded(build: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A model or encoder with random weights, its networks on the device."""
    with torch.device(device):
        built = build()
    whole = [built.model] if isinstance(built, Encoder) else [*built.family.pipeline.components.values()]
    for network in (*whole, getattr(getattr(built, "family", None), "tiny_decoder", None)):
        if isinstance(network, torch.nn.Module):
            network.to(device, dtype)
    return built


def product_rate(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """Operations a second of a product of two side x side matrices, the best of a few."""
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(5):
        wait(device)
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        wait(device)
        best = max(best, 10 * 2 * side**3 / (time.perf_counter() - start))
    return best


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run(model: Model, encoder: Encoder, setting: Informing | None, batch: int, steps: int) -> None:
    """One whole sampling of a batch, decoded, its pixels on the CPU."""
    device = model.family.denoiser.device
    guides = [] if setting is None else [concept_guide(model, encoder, setting, batch)]
    x = noise(range(batch), model.family.latent_shape, device=device)
    latents = sample(model.denoise(batch), x, model.family.scheduler(), steps=steps, guides=guides)
    with torch.no_grad():
        model.family.decode(latents).cpu()


def timed(model: Model, encoder: Encoder, setting: Informing | None, batch: int, steps: int) -> dict[str, Any]:
    device = model.family.denoiser.device
    # A step with a gradient and one without, so that nothing is compiled or tuned while the clock runs.
    run(model, encoder, None, batch, 1)
    if setting is not None:
        run(model, encoder, setting.model_copy(update={"window": (0.0, 1.0)}), batch, 1)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    wait(device)
    start = time.perf_counter()
    run(model, encoder, setting, batch, steps)
    wait(device)
    seconds = time.perf_counter() - start
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"seconds": round(seconds, 4), "images_per_second": round(batch / seconds, 4), "peak_memory_bytes": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="toy networks, three steps, batches 1 and 2, any device")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--model", choices=["dit-xl-2-256", "sd21-unclip-768"], help="only one of the two")
    parser.add_argument("--setting", action="append", help="uninformed, fast, exact (the default is these three)")
    parser.add_argument("--batches", type=int, nargs="+")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if not (options.tiny or torch.cuda.is_available()):
        parser.error("no CUDA device here; --tiny runs the script on toy networks")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    steps, batches = (3, (1, 2)) if options.tiny else (50, BATCHES)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU {platform.machine()}"
    builders: dict[str, Callable[[], Model]] = {"dit-xl-2-256": dit_xl, "sd21-unclip-768": sd21_unclip}
    if options.model:
        builders = {options.model: builders[options.model]}
    if options.tiny:
        builders = {"toy": toy}
    build_encoder = toy_clip if options.tiny else clip_l
    rate = product_rate(device, dtype, 256 if options.tiny else 8192)
    rows: list[dict[str, Any]] = []
    record = head(
        card=card,
        dtype=str(dtype).removeprefix("torch."),
        steps=steps,
        compile=options.compile,
        channels_last=options.channels_last,
        product_tflop_per_second=round(rate / 1e12, 3),
        rows=rows,
    )
    suffix = ("_compiled" if options.compile else "") + ("_channels_last" if options.channels_last else "")
    path = options.out / f"gpu_throughput_{re.sub(r'[^A-Za-z0-9]+', '-', card)}{suffix}.json"
    known: dict[str, Informing | None] = {"uninformed": None, **settings()}
    for name, build in builders.items():
        with torch.device("meta"):
            shapes = build(), build_encoder()
        count = Count(*shapes)
        model, encoder = loaded(build, device, dtype), loaded(build_encoder, device, dtype)
        for network in networks(model, encoder):
            if options.channels_last:
                network.to(memory_format=torch.channels_last)
            if options.compile:
                network.compile()
        for setting in options.setting or ["uninformed", "fast", "exact"]:
            operations = count.sampling(known[setting], steps=steps)
            for batch in options.batches or batches:
                row: dict[str, Any] = {"model": name, "setting": setting, "batch": batch}
                try:
                    row |= timed(model, encoder, known[setting], batch, steps)
                except (torch.OutOfMemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error):
                        raise
                    rows.append(row | {"out_of_memory": True})
                    break
                row["tflop_per_image"] = round(operations / 1e12, 6)
                row["share_of_product_rate"] = round(operations * row["images_per_second"] / rate, 4)
                rows.append(row)
                print(json.dumps(row), flush=True)
                write(path, record)
            if device.type == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
