"""The DiT family: without informing, users must get the very images of the stock pipeline."""

from __future__ import annotations

from pathlib import Path

import diffusers
import pytest
import torch

import tiny
from concord.diffusion import Level, Prediction, clean_estimate, generators, noise, sample
from concord.errors import ConcordError
from concord.pipelines.dit import DiT

SEEDS, LABELS = (5, 6, 7), [1, 207, 999]


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("learned", [True, False])
def test_images_are_those_of_the_stock_pipeline(scale: float, learned: bool) -> None:
    pipe = tiny.pipeline(learned)
    stock = pipe(
        class_labels=LABELS,
        guidance_scale=scale,
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS],
        num_inference_steps=6,
        output_type="pt",
    ).images
    model = DiT(pipe)
    denoise = model.denoise(LABELS, scale)
    latents = sample(denoise, noise(SEEDS, model.latent_shape), model.scheduler("stock"), steps=6)
    ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)
    assert float(ours.std()) > 0.01  # not all clamped or flat


def test_the_default_scheduler_never_clips_latents() -> None:
    pipe = tiny.pipeline()
    pipe.scheduler = diffusers.DDIMScheduler()  # clips by default
    model = DiT(pipe)
    assert pipe.scheduler.config.clip_sample
    assert not model.scheduler("ddim").config.clip_sample
    assert not model.scheduler("ddpm").config.clip_sample
    assert model.scheduler("stock").config.clip_sample


def test_ddpm_draws_with_the_learned_variance() -> None:
    model = DiT(tiny.pipeline())
    assert model.scheduler("ddpm").config.variance_type == "learned_range"
    assert DiT(tiny.pipeline(False)).scheduler("ddpm").config.variance_type == "fixed_small"
    draws = generators(SEEDS)
    latents = sample(
        model.denoise(LABELS), noise(draws, model.latent_shape), model.scheduler("ddpm"), steps=4, generators=draws
    )
    assert latents.shape == (3, *tiny.LATENT)
    assert latents.isfinite().all()


def test_the_learned_variance_is_kept_from_the_conditional_half() -> None:
    model = DiT(tiny.pipeline())
    x = noise(SEEDS, model.latent_shape)
    guided, plain = model.denoise(LABELS, 4.0)(x, 500), model.denoise(LABELS, 1.0)(x, 500)
    assert guided.variance is not None
    assert plain.variance is not None
    torch.testing.assert_close(guided.variance, plain.variance)
    assert not torch.allclose(guided.value, plain.value)


def test_three_guided_channels_leave_the_fourth_conditional() -> None:
    model = DiT(tiny.pipeline())
    x = noise(SEEDS, model.latent_shape)
    plain, three, four = (model.denoise(LABELS, s, c)(x, 500).value for s, c in ((1.0, None), (4.0, 3), (4.0, None)))
    torch.testing.assert_close(three[:, 3:], plain[:, 3:])
    torch.testing.assert_close(three[:, :3], four[:, :3])


def test_gradients_pass_through_denoiser_and_decoder_but_not_into_weights() -> None:
    model = DiT(tiny.pipeline(), tiny.tiny_autoencoder())
    x = noise(SEEDS, model.latent_shape).requires_grad_()
    x0 = clean_estimate(model.denoise(LABELS)(x, 500), x, Level(0.6, 0.8))
    for decode in (model.decode, model.tiny_decode):
        (g,) = torch.autograd.grad(decode(x0).square().sum(), x, retain_graph=True)
        assert g.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(p.requires_grad for p in model.pipeline.transformer.parameters())


def test_half_precision_networks_answer_in_the_loops_precision() -> None:
    pipe = tiny.pipeline().to(torch.bfloat16)
    model = DiT(pipe, tiny.tiny_autoencoder().to(torch.bfloat16))
    x = noise(SEEDS, model.latent_shape)
    prediction = model.denoise(LABELS)(x, 500)
    assert isinstance(prediction, Prediction)
    assert prediction.value.dtype == model.decode(x).dtype == model.tiny_decode(x).dtype == torch.float32


def test_it_loads_from_a_directory(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path / "dit")
    tiny.tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    model = DiT.from_pretrained(str(tmp_path / "dit"), tiny_decoder=str(tmp_path / "taesd"))
    x = noise(SEEDS, model.latent_shape)
    torch.testing.assert_close(model.denoise(LABELS)(x, 9).value, DiT(tiny.pipeline()).denoise(LABELS)(x, 9).value)
    assert model.tiny_decode(x).shape == (3, 3, tiny.PIXELS, tiny.PIXELS)
    assert model.labels["tabby"] == 0


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"pipeline\.model"):
        DiT.from_pretrained(str(tmp_path / "none"))
    tiny.pipeline().save_pretrained(tmp_path / "dit")
    with pytest.raises(ConcordError, match=r"pipeline\.tiny_decoder"):
        DiT.from_pretrained(str(tmp_path / "dit"), tiny_decoder=str(tmp_path / "none"))
    weights = tmp_path / "dit" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConcordError, match=r"pipeline\.model"):
        DiT.from_pretrained(str(tmp_path / "dit"))
    model = DiT(tiny.pipeline())
    with pytest.raises(ConcordError, match=r"class ids \[1000\]"):
        model.denoise([3, 1000])
    with pytest.raises(ConcordError, match=r"pipeline\.scheduler"):
        model.scheduler("eular")
    with pytest.raises(ConcordError, match="no tiny decoder"):
        model.tiny_decode(noise(SEEDS, model.latent_shape))
