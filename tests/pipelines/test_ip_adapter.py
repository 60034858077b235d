"""Real images as prompts by IP-Adapter: the stock pipelines' images, on tiny random adapters saved as real ones are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import SD3IPAdapterJointAttnProcessor2_0
from diffusers.models.embeddings import IPAdapterTimeImageProjection
from PIL import Image
from safetensors.torch import save_file
from test_families import PROMPTS, SEEDS
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

import tiny_pipelines
from concord.diffusion import generators
from concord.errors import ConcordError
from concord.models.hub import find_model, is_complete
from concord.pipelines.any import AnyPipeline
from concord.pipelines.base import sample_images
from concord.pipelines.ip_adapter import call_options
from concord.pipelines.load import load_family
from concord.recipe import IpAdapter, Recipe, load, to_yaml
from concord.workflows.requirements import check_sampling, needed_models, with_model

WIDTH = {"sd": 16, "xl": 32}
WEIGHTS = "models/ip-adapter.safetensors"


def save_adapter(folder: Path, pipe: Any) -> Path:
    """Random weights under the names that IP-Adapter's files have, and an image encoder beside them."""
    draw = torch.Generator().manual_seed(4)
    width = pipe.unet.config.cross_attention_dim
    shapes = {"proj.weight": (4 * width, 12), "proj.bias": (4 * width,), "norm.weight": (width,), "norm.bias": (width,)}
    weights = {f"image_proj.{name}": torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    crossing = [key for key in pipe.unet.attn_processors if key.endswith("attn2.processor")]
    for n, key in enumerate(pipe.unet.attn_processors):
        if key in crossing:
            hidden = pipe.unet.get_submodule(key.removesuffix(".processor")).to_k.out_features
            for name in ("to_k_ip", "to_v_ip"):
                weights[f"ip_adapter.{n}.{name}.weight"] = torch.randn((hidden, width), generator=draw)
    (folder / "models").mkdir(parents=True)
    save_file(weights, folder / WEIGHTS)
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=12))
    encoder.save_pretrained(folder / "models" / "image_encoder")
    return folder


def pictures() -> list[Image.Image]:
    return [tiny_pipelines.picture("red", 12), tiny_pipelines.picture("blue", 12)]


@pytest.mark.parametrize("name", ["sd", "xl"])
def test_images_are_those_of_the_stock_pipeline_with_the_adapter(name: str, tmp_path: Path) -> None:
    adapter = IpAdapter(
        model=str(save_adapter(tmp_path, tiny_pipelines.pipeline(name))), weight_name=WEIGHTS, scale=0.7
    )
    model = load_family(tiny_pipelines.pipeline(name), ip_adapter=adapter)
    pipe = model.pipeline
    assert not any(weight.requires_grad for weight in pipe.image_encoder.parameters())
    with torch.no_grad():
        denoise = model.denoise(PROMPTS, 4.0, images=pictures())
        made = sample_images(denoise, SEEDS, steps=3, scheduler="stock")
    for n, seed in enumerate(SEEDS):  # the stock call takes one image for all its prompts
        expected = pipe(
            prompt=PROMPTS[n],
            ip_adapter_image=pictures()[n],
            guidance_scale=4.0,
            num_inference_steps=3,
            generator=generators([seed])[0],
            output_type="pt",
        ).images
        torch.testing.assert_close((made[n : n + 1] / 2 + 0.5).clamp(0, 1), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        other = sample_images(model.denoise(PROMPTS, 4.0, images=pictures()[::-1]), SEEDS, steps=3, scheduler="stock")
    assert float((other - made).abs().max()) > 1e-4


def random(shapes: dict[str, torch.Size]) -> dict[str, torch.Tensor]:
    """Weights of about unit gain, so that what an image says is seen."""
    draw = torch.Generator().manual_seed(4)
    return {name: torch.randn(shape, generator=draw) / 4 for name, shape in shapes.items()}


def prefixed(prefix: str, module: torch.nn.Module) -> dict[str, torch.Size]:
    return {f"{prefix}.{name}": value.shape for name, value in module.state_dict().items()}


def save_sd3_adapter(folder: Path) -> tuple[Path, Path]:
    """An adapter of SD 3 and, apart from it, a SigLIP vision model."""
    pipe = tiny_pipelines.pipeline("sd3")
    shapes = prefixed("image_proj", IPAdapterTimeImageProjection(16, 16, 64, 4, heads=1, num_queries=2))
    for n, _ in enumerate(pipe.transformer.attn_processors):
        shapes |= prefixed(f"ip_adapter.{n}", SD3IPAdapterJointAttnProcessor2_0(16, 16, 8, timesteps_emb_dim=64))
    (folder / "models").mkdir(parents=True)
    save_file(random(shapes), folder / WEIGHTS)
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=8, patch_size=4)).save_pretrained(folder / "siglip")
    SiglipImageProcessor(size={"height": 8, "width": 8}).save_pretrained(folder / "siglip")
    return folder, folder / "siglip"


def save_flux_adapter(folder: Path) -> tuple[Path, Path]:
    """An adapter of FLUX and, apart from it, a CLIP vision model."""
    pipe = tiny_pipelines.pipeline("flux")
    text, inner = pipe.transformer.config.joint_attention_dim, pipe.transformer.inner_dim
    shapes = {"proj.weight": (4 * text, 12), "proj.bias": (4 * text,), "norm.weight": (text,), "norm.bias": (text,)}
    weights = {f"image_proj.{name}": torch.Size(shape) for name, shape in shapes.items()}
    for name in ("to_k_ip", "to_v_ip"):
        weights[f"ip_adapter.0.{name}.weight"] = torch.Size((inner, text))
        weights[f"ip_adapter.0.{name}.bias"] = torch.Size((inner,))
    (folder / "models").mkdir(parents=True)
    save_file(random(weights), folder / WEIGHTS)
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**sizes, image_size=8, patch_size=4, projection_dim=12))
    encoder.save_pretrained(folder / "clip")
    CLIPImageProcessor(size={"shortest_edge": 8}, crop_size={"height": 8, "width": 8}).save_pretrained(folder / "clip")
    return folder, folder / "clip"


def test_images_are_those_of_stock_sd3_with_the_adapter(tmp_path: Path) -> None:
    folder, reads = save_sd3_adapter(tmp_path)
    adapter = IpAdapter(model=str(folder), weight_name=WEIGHTS, scale=0.7, image_encoder=str(reads))
    model = load_family(tiny_pipelines.pipeline("sd3"), ip_adapter=adapter)
    with torch.no_grad():
        made, other = (
            sample_images(model.denoise(PROMPTS, 4.0, images=order), SEEDS, steps=3, scheduler="stock")
            for order in (pictures(), pictures()[::-1])
        )
    for n, seed in enumerate(SEEDS):  # the stock call takes one image for all its prompts
        expected = model.pipeline(
            prompt=PROMPTS[n],
            ip_adapter_image=pictures()[n],
            guidance_scale=4.0,
            num_inference_steps=3,
            generator=generators([seed])[0],
            output_type="pt",
        ).images
        torch.testing.assert_close((made[n : n + 1] / 2 + 0.5).clamp(0, 1), expected, rtol=1e-4, atol=1e-4)
    assert float((other - made).abs().max()) > 1e-3


def test_every_prompt_of_a_flux_call_has_its_own_image(tmp_path: Path) -> None:
    folder, reads = save_flux_adapter(tmp_path)
    adapter = IpAdapter(model=str(folder), weight_name=WEIGHTS, scale=0.7, image_encoder=str(reads))
    model = load_family(tiny_pipelines.pipeline("flux"), ip_adapter=adapter, size=16)
    assert isinstance(model, AnyPipeline)
    pipe, stock = model.pipeline, tiny_pipelines.pipeline("flux")
    given = {"weight_name": "ip-adapter.safetensors", "subfolder": "models", "image_encoder_dtype": torch.float32}
    stock.load_ip_adapter(str(folder), image_encoder_pretrained_model_name_or_path=str(reads), **given)
    stock.set_ip_adapter_scale(0.7)
    call = {"guidance_scale": 4.0, "num_inference_steps": 2, "output_type": "pt", "height": 16, "width": 16}
    made = pipe(prompt=PROMPTS, generator=generators(SEEDS), **call, **call_options(pipe, pictures())).images
    for n, seed in enumerate(SEEDS):
        alone = {"ip_adapter_image": pictures()[n], "generator": generators([seed])[0]}
        expected = stock(prompt=PROMPTS[n], **alone, **call).images
        torch.testing.assert_close(made[n : n + 1], expected, rtol=1e-4, atol=1e-4)
    other = pipe(prompt=PROMPTS, generator=generators(SEEDS), **call, **call_options(pipe, pictures()[::-1])).images
    assert float((other - made).abs().max()) > 1e-3


def test_an_adapter_is_known_to_be_here_and_refused_where_nothing_takes_it(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path / "adapter", tiny_pipelines.pipeline("sd"))
    assert is_complete(folder) and find_model(str(folder)) == folder
    adapter = IpAdapter(model=str(folder), weight_name=WEIGHTS)
    with pytest.raises(ConcordError, match=r"`pipeline\.ip_adapter` is for StableDiffusionPipeline, .* not for Pix"):
        load_family(tiny_pipelines.pipeline("pixart"), ip_adapter=adapter)
    reads = adapter.model_copy(update={"image_encoder": str(folder / "models" / "image_encoder")})
    with pytest.raises(ConcordError, match=r"image_encoder`: a StableDiffusionPipeline takes the encoder that lies"):
        load_family(tiny_pipelines.pipeline("sd"), ip_adapter=reads)
    with pytest.raises(ConcordError, match=r"set `pipeline\.ip_adapter`"):
        load_family(tiny_pipelines.pipeline("sd"), ip_adapter=IpAdapter(model=str(folder), weight_name="x.safetensors"))
    tiny_pipelines.pipeline("flux").save_config(tmp_path / "flux")
    recipe = text(f"pipeline.model={tmp_path / 'flux'}", f"pipeline.ip_adapter={{model: {folder}}}")
    with pytest.raises(ConcordError, match=r"image_encoder`: adapters of a FluxPipeline bring no image encoder"):
        check_sampling(recipe)
    assert [one.key for one in needed_models(recipe)][:2] == ["pipeline.model", "pipeline.ip_adapter"]
    assert text("pipeline.ip_adapter.scale=0.3").pipeline.ip_adapter == IpAdapter(scale=0.3)
    with pytest.raises(ConcordError, match=r'unknown key "pipeline\.ip_adapter\.scal"'):
        text("pipeline.ip_adapter.scal=0.3")
    with pytest.raises(ConcordError, match="weight_name"):
        text("pipeline.ip_adapter={weight_name: /etc/passwd}")


def text(*typed: str) -> Recipe:
    given = ["data=/photos", "method=text", "pipeline.model=a/b", "informing.enabled=false", *typed]
    return load("photos", given)


def test_of_several_ids_the_first_that_is_there_is_taken_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    here = tmp_path / "here"
    here.mkdir()
    recipe = text(f"pipeline.model=[gone/model, {here}, {tmp_path}]")
    assert (recipe.pipeline.model, recipe.pipeline.mirrors) == ("gone/model", [str(here), str(tmp_path)])
    chosen = with_model(recipe, tmp_path / "out")
    assert (chosen.pipeline.model, chosen.pipeline.mirrors) == (str(here), [])
    assert "mirrors" not in to_yaml(chosen)
    assert needed_models(recipe)[0].model == str(here)
    # A set that was begun with another of them goes on with it.
    (tmp_path / "out").mkdir()
    other = with_model(text(f"pipeline.model={tmp_path}"))
    (tmp_path / "out" / "recipe.yaml").write_text(to_yaml(other))
    assert with_model(recipe, tmp_path / "out").pipeline.model == str(tmp_path)
    from concord.workflows import requirements

    monkeypatch.setattr(requirements, "_out_of_reach", lambda model: "" if model == "c/d" else "not there")
    assert with_model(text("pipeline.model=[a/b, c/d]")).pipeline.model == "c/d"
    with pytest.raises(ConcordError, match=r"none of its ids is to be had \(a/b: not there; e/f: not there\)"):
        with_model(text("pipeline.model=[a/b, e/f]"))
