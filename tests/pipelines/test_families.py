"""Every wired family: without guides the stock pipeline's images, with one an edit that goes the right way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, TCDScheduler
from PIL import Image
from torch import Tensor

import tiny
import tiny_pipelines
from concord.diffusion import Denoise, clean_estimate, convert, generators, noise, sample, shift
from concord.diffusion.level import Level
from concord.diffusion.sampler import Step
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective
from concord.models.encoder import Encoder
from concord.pipelines.base import Family, sample_images
from concord.pipelines.dit import DiT
from concord.pipelines.text import Text
from concord.pipelines.unclip import UnCLIP

WIRED = ("dit", "unclip", "sd", "xl", "sd3", "pixart")
PROMPTS = ["a cat with long fur", "a dog"]
PICTURES = [Image.new("RGB", (20, 10), (200, 30, 3)), Image.new("RGB", (9, 10), (2, 30, 200))]
SEEDS = (5, 6)


def wrap(name: str, pipe: Any) -> Family:
    return DiT(pipe) if name == "dit" else UnCLIP(pipe) if name == "unclip" else Text(pipe)


def conditioned(model: Family, scale: float, drawing: list[torch.Generator], count: int = 2) -> Denoise:
    """The denoiser for `count` images, the two conditions by turns."""
    prompts, pictures = (PROMPTS * count)[:count], (PICTURES * count)[:count]
    if isinstance(model, DiT):
        return model.denoise(([1, 207] * count)[:count], scale)
    if isinstance(model, UnCLIP):
        return model.denoise(prompts, pictures, scale, generators=drawing, noise_level=20)
    assert isinstance(model, Text)
    return model.denoise(prompts, scale)


def stock(name: str, pipe: Any, scale: float, steps: int, **further: Any) -> Tensor:
    given: dict[str, Any] = {"prompt": PROMPTS, **further}
    if name == "dit":
        given = {"class_labels": [1, 207]}
    elif name == "unclip":
        given |= {"image": PICTURES, "noise_level": 20}
    elif name == "pixart":
        given |= {"use_resolution_binning": False, "clean_caption": False}
    images: Tensor = pipe(
        **given, guidance_scale=scale, num_inference_steps=steps, generator=generators(SEEDS), output_type="pt"
    ).images
    return images


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("name", WIRED)
def test_images_are_those_of_the_stock_pipeline(name: str, scale: float) -> None:
    pipe = tiny_pipelines.pipeline(name)
    expected = stock(name, pipe, scale, 5)
    model, drawing = wrap(name, pipe), generators(SEEDS)
    denoise = conditioned(model, scale, drawing)
    latents = sample(denoise, noise(drawing, model.latent_shape), model.scheduler("stock"), steps=5, generators=drawing)
    ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert float(ours.std()) > 0.01
    assert not torch.allclose(ours[0], ours[1], atol=0.01)


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", [LCMScheduler, TCDScheduler, DDIMScheduler])
@pytest.mark.parametrize(("name", "distilled"), [("sd", True), ("xl", True), ("sd", False), ("xl", False)])
def test_few_steps_of_lcm_and_tcd_are_those_of_the_stock_pipeline(
    name: str, distilled: bool, scheduler: type[Any], scale: float
) -> None:
    """A distilled UNet takes the guidance scale itself and no doubled batch; TCD draws more noise by its own eta."""
    torch.manual_seed(11)
    build = tiny_pipelines.FAMILIES[name]
    pipe = tiny_pipelines.distilled(build if distilled else lambda **_: build(), scheduler)
    pipe.set_progress_bar_config(disable=True)
    for network in (pipe.unet, pipe.vae, pipe.text_encoder):
        network.eval()
    expected = stock(name, pipe, scale, 4)
    model, passed = Text(pipe), []
    pipe.unet.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    with torch.no_grad():
        made = sample_images(model.denoise(PROMPTS, scale), generators(SEEDS), steps=4, scheduler="stock")
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=1e-5, atol=1e-5)
    assert passed == [4 if scale > 1 and not distilled else 2] * 4
    if distilled:
        other = sample_images(model.denoise(PROMPTS, scale + 3), generators(SEEDS), steps=4, scheduler="stock")
        assert float((other - made).abs().max()) > 1e-3


def test_guidance_on_more_channels_than_there_are_is_refused() -> None:
    model = DiT(tiny_pipelines.pipeline("dit"))
    model.denoise([1], 4.0, channels=model.latent_shape[0])
    with pytest.raises(ConcordError, match=r"`pipeline\.channels` is 9, but the latents have 4"):
        model.denoise([1], 4.0, channels=9)


def test_the_stock_pipelines_own_guidance_scale_is_known() -> None:
    scales = {name: wrap(name, tiny_pipelines.pipeline(name)).default_guidance for name in WIRED}
    assert scales == {"dit": 4.0, "unclip": 10.0, "sd": 7.5, "xl": 5.0, "sd3": 7.0, "pixart": 4.5}


class Setting:
    """One family at a fixed step in the middle of the schedule, for many draws of x_t at once."""

    def __init__(self, name: str, draws: int, dtype: torch.dtype = torch.float32) -> None:
        pipe = tiny_pipelines.pipeline(name)
        if dtype == torch.float64:
            pipe.to(dtype)
        self.model = wrap(name, pipe)
        self.scheduler = self.model.scheduler("stock")
        self.scheduler.set_timesteps(20)
        self.index = 10
        self.t = self.scheduler.timesteps[self.index]
        self.level = Level.from_scheduler(self.scheduler, self.t, self.index)
        drawing = generators(range(draws))
        self.denoise = conditioned(self.model, 3.0, drawing, draws)
        self.x_t = noise(drawing, self.model.latent_shape, dtype) * self.level.norm
        network = tiny.clip().to(dtype)
        self.encoder = Encoder(network, tiny.tokenizer(), tiny.encoder().preprocess)
        own = [self.encoder.texts(["cat with long fur", "cat with short ears"])] * draws
        others = [self.encoder.texts(["dog with long tail", "dog with short fur"])] * draws
        self.objective = Objective.contrastive(own, others, temperature=0.1)

    def guide(self, **options: Any) -> ConceptGuide:
        return ConceptGuide([self.objective], self.model.decode, self.encoder, **options)

    def step(self, graph: bool) -> Step:
        scale = getattr(self.scheduler, "_sigma_to_alpha_sigma_t", None)
        seen = 1.0 if scale or self.level.alpha + self.level.sigma == 1 else 1 / self.level.norm
        with torch.set_grad_enabled(graph):
            x_t = self.x_t.detach().requires_grad_(graph)
            prediction = self.denoise(x_t * seen, self.t)
            x0 = clean_estimate(prediction, x_t, self.level)
        return Step(self.index, 20, self.t, x_t, prediction, self.level, x0, self.scheduler)

    def loss(self, x0: Tensor) -> Tensor:
        pixels = self.model.decode(x0)
        return self.objective.loss(self.encoder.images(pixels), pixels)


@pytest.mark.parametrize("options", [{"mode": "exact", "weight": 0.02}, {"mode": "fast", "strength": 0.01}])
@pytest.mark.parametrize("name", WIRED)
def test_one_edit_lowers_the_objective_and_the_reverse_raises_it(name: str, options: dict[str, Any]) -> None:
    """200 draws at a fixed step; 95 % must fall, and as many rise with the reversed sign."""
    setting = Setting(name, 200)
    guide = setting.guide(**options)
    step = setting.step(guide.needs_graph)
    dx0 = guide(step)
    assert dx0 is not None
    with torch.no_grad():
        before = setting.loss(step.x0)
        for sign in (1, -1):
            edited = shift(step.prediction, sign * dx0, step.level)
            change = setting.loss(clean_estimate(edited, step.x_t, step.level)) - before
            assert float((sign * change < 0).float().mean()) >= 0.95


def _input_layer(model: Family) -> torch.nn.Module:
    denoiser = model.denoiser
    layer: torch.nn.Module = denoiser.conv_in if hasattr(denoiser, "conv_in") else denoiser.pos_embed.proj
    return layer


@pytest.mark.parametrize("name", WIRED)
def test_exact_and_fast_are_parallel_where_the_denoiser_ignores_x_t(name: str) -> None:
    setting = Setting(name, 4, torch.float64)
    with torch.no_grad():
        for weight in _input_layer(setting.model).parameters():
            weight.zero_()
    shifts = []
    for options in ({"mode": "exact"}, {"mode": "fast"}):
        guide = setting.guide(**options)
        dx0 = guide(setting.step(guide.needs_graph))
        assert dx0 is not None
        shifts.append(dx0.flatten(1))
    cosine = torch.nn.functional.cosine_similarity(*shifts)
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
@pytest.mark.parametrize("name", WIRED)
def test_the_edit_of_any_parametrisation_is_the_eps_edit(name: str, kind: Any) -> None:
    setting = Setting(name, 3, torch.float64)
    step = setting.step(False)
    dx0 = torch.randn(step.x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    eps = shift(convert(step.prediction, step.x_t, step.level, "epsilon"), dx0, step.level)
    other = shift(convert(step.prediction, step.x_t, step.level, kind), dx0, step.level)
    expected = clean_estimate(eps, step.x_t, step.level)
    torch.testing.assert_close(clean_estimate(other, step.x_t, step.level), expected)
    torch.testing.assert_close(expected, step.x0 + dx0)


@pytest.mark.parametrize("name", WIRED)
def test_checkpointing_and_slicing_change_no_gradient(name: str) -> None:
    shifts = []
    for save in (False, True):
        setting = Setting(name, 3)
        if save:
            setting.model.save_memory("sliced", checkpointing=True)
            assert setting.model.denoiser.is_gradient_checkpointing
        dx0 = setting.guide(mode="exact")(setting.step(True))
        assert dx0 is not None
        shifts.append(dx0)
    assert float(shifts[0].abs().amax()) > 0
    torch.testing.assert_close(shifts[1], shifts[0], rtol=1e-4, atol=1e-6)


def test_checkpointing_really_recomputes() -> None:
    """Else it would save nothing: with it, the blocks run once more in the backward pass."""
    calls = []
    for save in (False, True):
        setting = Setting("dit", 2)
        if save:
            setting.model.save_memory(checkpointing=True)
        count = [0]

        def counted(*_: Any, count: list[int] = count) -> None:
            count[0] += 1

        setting.model.denoiser.transformer_blocks[0].attn1.register_forward_hook(counted)
        setting.guide(mode="exact")(setting.step(True))
        calls.append(count[0])
    assert calls == [1, 2]


def test_tiled_decoding_is_switched_on() -> None:
    model = wrap("unclip", tiny_pipelines.pipeline("unclip"))
    model.save_memory("tiled")
    assert model.pipeline.vae.use_tiling


def test_another_size_gives_latents_of_that_size() -> None:
    model = UnCLIP(tiny_pipelines.pipeline("unclip"), size=16)
    assert model.latent_shape == (4, 8, 8)
    with pytest.raises(ConcordError, match=r"pipeline\.size.*multiple of 4"):
        UnCLIP(tiny_pipelines.pipeline("unclip"), size=18)


def test_the_image_and_its_noise_condition_unclip() -> None:
    model = UnCLIP(tiny_pipelines.pipeline("unclip"))
    x = noise(SEEDS, model.latent_shape)

    def predicted(pictures: list[Image.Image], seeds: tuple[int, int], level: int) -> Tensor:
        return model.denoise(PROMPTS, pictures, 3.0, generators=generators(seeds), noise_level=level)(x, 500).value

    base = predicted(PICTURES, SEEDS, 100)
    torch.testing.assert_close(predicted(PICTURES, SEEDS, 100), base)
    assert not torch.allclose(predicted(PICTURES[::-1], SEEDS, 100), base)
    assert not torch.allclose(predicted(PICTURES, (7, 8), 100), base)
    assert not torch.allclose(predicted(PICTURES, SEEDS, 0), base)


def test_a_flow_model_is_not_sampled_on_a_noise_schedule() -> None:
    model = wrap("sd3", tiny_pipelines.pipeline("sd3"))
    with pytest.raises(ConcordError, match=r"predicts a flow.*stock"):
        model.scheduler("ddim")


def test_a_pipeline_that_is_not_wired_is_refused() -> None:
    for name in ("flux", "sana"):
        with pytest.raises(ConcordError, match="the own sampler knows"):
            Text(tiny_pipelines.pipeline(name))


def _respaced(steps: int) -> list[int]:
    """Minimax's timesteps: `steps` of 1000, evenly from 0 to 999, both included, last first."""
    return [round(i * 999 / (steps - 1)) for i in reversed(range(steps))]


def test_the_minimax_way_is_ddpm_with_learned_variance_on_evenly_spread_steps() -> None:
    """An independent loop from the published formulas (Nichol and Dhariwal 2021): eps to mean, learned range."""
    model, scale, steps = DiT(tiny.pipeline()), 4.0, 6
    drawing, own = generators(SEEDS), generators(SEEDS)
    denoise: Callable[..., Any] = model.denoise([1, 207], scale, channels=3)
    latents = sample(
        denoise, noise(drawing, model.latent_shape), model.scheduler("minimax"), steps=steps, generators=drawing
    )
    abar = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)
    x, ts = noise(own, model.latent_shape).double(), _respaced(steps)
    for i, t in enumerate(ts):
        now, before = abar[t], abar[ts[i + 1]] if i + 1 < steps else torch.tensor(1.0, dtype=torch.float64)
        beta = 1 - now / before
        with torch.no_grad():
            output = model.denoiser(
                torch.cat([x, x]).float(),
                timestep=torch.full((4,), t),
                class_labels=torch.tensor([1, 207, 1000, 1000]),
            ).sample.double()
        cond, uncond = output.chunk(2)
        eps = torch.cat([uncond[:, :3] + scale * (cond[:, :3] - uncond[:, :3]), cond[:, 3:4]], 1)
        x0 = (x - (1 - now).sqrt() * eps) / now.sqrt()
        mean = before.sqrt() * beta / (1 - now) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - now) * x
        if i + 1 == steps:
            x = mean
            break
        low, high = (beta * (1 - before) / (1 - now)).log(), beta.log()
        fraction = (cond[:, 4:] + 1) / 2
        drawn = torch.stack([torch.randn(model.latent_shape, generator=g) for g in own]).double()
        x = mean + (0.5 * (fraction * high + (1 - fraction) * low)).exp() * drawn
    assert model.scheduler("minimax").config.timestep_spacing == "linspace"
    torch.testing.assert_close(latents.double(), x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in WIRED if name != "dit"])
def test_negative_prompts_are_those_of_the_stock_pipeline(name: str) -> None:
    pipe, against = tiny_pipelines.pipeline(name), ["a long tail", "short ears"]
    plain = stock(name, pipe, 4.0, 3)
    expected = stock(name, pipe, 4.0, 3, negative_prompt=against)
    model, drawing = wrap(name, pipe), generators(SEEDS)
    if isinstance(model, UnCLIP):
        options: dict[str, Any] = {"generators": drawing, "noise_level": 20, "negative_prompts": against}
        denoise = model.denoise(PROMPTS, PICTURES, 4.0, **options)
    else:
        assert isinstance(model, Text)
        denoise = model.denoise(PROMPTS, 4.0, negative_prompts=against)
        with pytest.raises(ConcordError, match="negative_prompts"):
            model.denoise(PROMPTS, 1.0, negative_prompts=against)
    with torch.no_grad():
        made = sample_images(denoise, drawing, steps=3, scheduler="stock")
    torch.testing.assert_close((made / 2 + 0.5).clamp(0, 1), expected, rtol=1e-5, atol=1e-5)
    assert float((expected - plain).abs().max()) > 1e-4
