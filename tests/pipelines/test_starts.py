"""Samplings that begin from images: as the stock image-to-image pipelines have them, and as a plain loop has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, DDIMScheduler, HeunDiscreteScheduler
from PIL import Image
from test_families import PROMPTS, SEEDS, conditioned, wrap
from torch import Tensor

import tiny
import tiny_pipelines
from concord.diffusion import generators, noise, sample
from concord.pipelines.base import sample_images
from concord.pipelines.dit import DiT
from concord.pipelines.prototypes import cluster_middles
from concord.storage.images import to_pixels


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(3)
    return [Image.fromarray(draw.integers(0, 255, (tiny.PIXELS, tiny.PIXELS, 3), dtype=np.uint8)) for _ in SEEDS]


def pixels() -> Tensor:
    return torch.stack([to_pixels(picture) for picture in pictures()])


@pytest.mark.parametrize(("strength", "steps"), [(0.5, 6), (1.0, 3)])
@pytest.mark.parametrize("name", ["sd", "xl", "sd3"])
def test_images_are_those_of_the_stock_image_to_image_pipeline(name: str, strength: float, steps: int) -> None:
    pipe = tiny_pipelines.pipeline(name)
    stock = AutoPipelineForImage2Image.from_pipe(pipe)
    stock.set_progress_bar_config(disable=True)
    expected = stock(
        prompt=PROMPTS,
        image=pictures(),
        strength=strength,
        guidance_scale=3.0,
        num_inference_steps=steps,
        generator=generators(SEEDS),
        output_type="pt",
    ).images
    model = wrap(name, pipe)
    denoise = conditioned(model, 3.0, [])
    made = sample_images(
        denoise, generators(SEEDS), steps=steps, scheduler="stock", start=pixels(), image_strength=strength
    )
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=1e-5, atol=1e-5)


def test_dit_begins_in_the_middle_as_a_plain_loop_does() -> None:
    pipe = tiny_pipelines.pipeline("dit")
    model, scheduler = DiT(pipe), DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    made = sample_images(model.denoise([1, 207], 1.0), SEEDS, steps=10, start=pixels(), image_strength=0.4)
    scheduler.set_timesteps(10)
    for n, seed in enumerate(SEEDS):
        drawing = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            x0 = pipe.vae.encode(pixels()[n : n + 1]).latent_dist.sample(drawing) * pipe.vae.config.scaling_factor
            eps = torch.randn(x0.shape, generator=drawing)
            x = scheduler.add_noise(x0, eps, scheduler.timesteps[6:7])
            for t in scheduler.timesteps[6:]:
                label = torch.tensor([[1, 207][n]])
                output = pipe.transformer(x, timestep=t[None], class_labels=label).sample[:, :4]
                x = scheduler.step(output, t, x).prev_sample
            expected = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
        torch.testing.assert_close(made[n : n + 1], expected, rtol=1e-4, atol=1e-5)


def test_a_second_order_scheduler_skips_whole_steps_and_guides_are_told_where_it_begins() -> None:
    model = DiT(tiny_pipelines.pipeline("dit"))
    seen: list[int] = []

    class Spy:
        needs_graph = False

        def begin(self, index: int) -> None:
            seen.append(index)

        def active(self, index: int, count: int) -> bool:
            seen.append(index)
            return False

        def __call__(self, step: Any) -> None:
            return None

    scheduler = HeunDiscreteScheduler(beta_start=1e-4, beta_end=2e-2)
    start = model.encode(pixels())
    sample(
        model.denoise([1, 2], 1.0),
        noise(SEEDS, model.latent_shape),
        scheduler,
        steps=4,
        guides=[Spy()],
        start=start,
        skipped=2,
    )
    assert seen == [4, 4, 5, 6]  # seven evaluations, of which the first two steps' four are left out


def test_encoding_is_the_way_back_of_decoding() -> None:
    """With the identity for an autoencoder, whatever its scale and shift."""
    for name in ("dit", "sd3"):
        pipe = tiny_pipelines.pipeline(name)
        model = wrap(name, pipe)
        latents = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        seen: dict[str, Tensor] = {}

        def decode(z: Tensor, seen: dict[str, Tensor] = seen) -> Any:
            seen["z"] = z
            return type("Decoded", (), {"sample": torch.zeros(2, 3, 8, 8)})

        pipe.vae.decode = decode
        model.decode(latents)
        pipe.vae.encode = lambda x, z=seen["z"]: type("Encoded", (), {"latents": z[int(x[0, 0, 0, 0])][None]})
        numbered = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 8, 8)
        torch.testing.assert_close(model.encode(numbered), latents)


def test_prototypes_are_the_means_of_clusters_the_largest_first() -> None:
    draw = np.random.default_rng(0)
    groups = [draw.normal(centre, 0.01, (size, 6)) for centre, size in ((0.0, 5), (9.0, 12), (-9.0, 8))]
    rows = np.concatenate(groups).astype(np.float32)
    found = cluster_middles(rows, 3, seed=7)
    np.testing.assert_allclose(found, [groups[n].mean(0) for n in (1, 2, 0)], atol=1e-4)
    assert np.array_equal(found, cluster_middles(rows, 3, seed=7))
    few = np.repeat(rows[:2], 3, axis=0)
    assert {tuple(row) for row in cluster_middles(few, 10, seed=1).round(3)} == {tuple(r) for r in rows[:2].round(3)}
