"""The loop: without guides it must be a plain diffusers loop, with them it must edit and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from concord.diffusion import Denoise, Kind, Prediction, Step, clean_estimate, generators, noise, sample
from concord.errors import ConcordError

SEEDS = (11, 12, 13)
SHAPE = (4, 4, 4)


def toy(kind: Kind = "epsilon") -> Denoise:
    """A smooth function of latent and time with weights of its own."""
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(3)) / 3

    def predict(x_t: Tensor, t: Tensor | int) -> Prediction:
        return Prediction(torch.tanh(torch.einsum("ij,bjhw->bihw", mix.to(x_t), x_t) + float(t) / 1000), kind)

    return predict


def plain_loop(denoise: Denoise, scheduler: Any, steps: int) -> Tensor:
    """What a diffusers pipeline does, with its own random tensors."""
    from diffusers.utils.torch_utils import randn_tensor

    draws = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    scheduler.set_timesteps(steps)
    x = randn_tensor((len(SEEDS), *SHAPE), generator=draws) * getattr(scheduler, "init_noise_sigma", 1.0)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        value = denoise(seen, t).value
        try:
            x = scheduler.step(value, t, x, generator=draws).prev_sample
        except TypeError:  # a scheduler that draws nothing takes no generator
            x = scheduler.step(value, t, x).prev_sample
    return x


CASES: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {"clip_sample": False}),
    ("DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    ("DDPMScheduler", {"clip_sample": False}),
    ("PNDMScheduler", {"skip_prk_steps": True}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("UniPCMultistepScheduler", {}),
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchLCMScheduler", {}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_without_guides_it_is_a_plain_diffusers_loop(name: str, options: dict[str, Any]) -> None:
    make = getattr(diffusers, name)
    kind = make(**options).config.get("prediction_type", "flow_prediction")
    draws = generators(SEEDS)
    ours = sample(toy(kind), noise(draws, SHAPE), make(**options), steps=8, generators=draws)
    torch.testing.assert_close(ours, plain_loop(toy(kind), make(**options), 8), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["DDIMScheduler", "DDPMScheduler", "EulerAncestralDiscreteScheduler"])
def test_an_image_depends_on_its_seed_alone(name: str) -> None:
    def run(seeds: tuple[int, ...]) -> Tensor:
        draws = generators(seeds)
        return sample(toy(), noise(draws, SHAPE), getattr(diffusers, name)(), steps=6, generators=draws)

    torch.testing.assert_close(run(SEEDS)[1:2], run((SEEDS[1],)), rtol=1e-6, atol=1e-6)


def test_noise_takes_seeds_or_generators() -> None:
    draws = generators(SEEDS)
    assert torch.equal(noise(SEEDS, SHAPE), noise(draws, SHAPE))
    assert not torch.equal(noise(SEEDS, SHAPE), noise(draws, SHAPE))  # the generators went on


@dataclass
class Push:
    """A guide that moves the clean estimate by a constant, or by what `move` says."""

    move: Callable[[Step], Tensor | None]
    needs_graph: bool = False
    steps: tuple[int, ...] | None = None

    def active(self, index: int, count: int) -> bool:
        return self.steps is None or index in self.steps

    def __call__(self, step: Step) -> Tensor | None:
        return self.move(step)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_guides_add_up_to_one_shift_of_the_clean_estimate(name: str, options: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, name)(**options)
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    seen: list[Tensor] = []
    told: list[Tensor] = []
    direction = torch.randn(len(SEEDS), *SHAPE, generator=torch.Generator().manual_seed(1))

    def half(step: Step) -> Tensor:
        seen.append(step.x0)
        return 0.05 * direction

    guides = [Push(half), Push(lambda _: 0.05 * direction), Push(lambda _: None)]
    draws = generators(SEEDS)
    sample(
        toy(kind),
        noise(draws, SHAPE),
        scheduler,
        steps=6,
        guides=guides,
        generators=draws,
        on_step=lambda step: told.append(step.x0),
    )
    assert len(seen) == len(told) == len(scheduler.timesteps)
    for before, after in zip(seen, told, strict=True):
        torch.testing.assert_close(after - before, 0.1 * direction, rtol=1e-3, atol=2e-3)


def test_ddim_follows_the_edited_noise_by_eq_7() -> None:
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    steps: list[Step] = []
    x_T = noise(SEEDS, SHAPE)
    last = sample(toy(), x_T, scheduler, steps=2, guides=[Push(lambda s: 0.3 * s.x0)], on_step=steps.append)
    abar = scheduler.alphas_cumprod.double()
    t, following = (int(step.t) for step in steps)
    eps = toy()(x_T, t).value.double()
    x0 = 1.3 * (x_T.double() - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
    edited = (x_T.double() - abar[t].sqrt() * x0) / (1 - abar[t]).sqrt()
    expected = abar[following].sqrt() * x0 + (1 - abar[following]).sqrt() * edited
    torch.testing.assert_close(steps[1].x_t.double(), expected, rtol=1e-4, atol=1e-4)
    assert last.shape == x_T.shape


def test_a_graph_is_built_only_where_an_active_guide_needs_it() -> None:
    graphs: list[bool] = []

    def watched(x_t: Tensor, t: Tensor | int) -> Prediction:
        graphs.append(torch.is_grad_enabled() and x_t.requires_grad)
        return toy()(x_t, t)

    def gradient(step: Step) -> Tensor:
        (g,) = torch.autograd.grad(step.x0.sum(), step.x_t, retain_graph=step.shared_graph)
        return 0.01 * g

    guides = [Push(gradient, True, (1, 2)), Push(gradient, True, (2,)), Push(lambda s: 0 * s.x0)]
    out = sample(watched, noise(SEEDS, SHAPE), diffusers.DDIMScheduler(), steps=5, guides=guides)
    assert graphs == [False, True, True, False, False]
    assert not out.requires_grad


def test_exact_gradients_work_inside_no_grad() -> None:
    def gradient(step: Step) -> Tensor:
        return torch.autograd.grad(step.x0.sum(), step.x_t)[0]

    with torch.no_grad():
        sample(toy(), noise(SEEDS, SHAPE), diffusers.DDIMScheduler(), steps=2, guides=[Push(gradient, True)])


def test_a_learned_variance_reaches_the_scheduler_that_reads_it() -> None:
    variance = 0.5 * torch.ones(len(SEEDS), *SHAPE)
    calls: list[torch.Size] = []

    class Watched(diffusers.DDPMScheduler):
        def step(self, model_output: Tensor, *args: Any, generator: Any = None, **kwargs: Any) -> Any:
            calls.append(model_output.shape)
            return super().step(model_output, *args, generator=generator, **kwargs)

    def learned(x_t: Tensor, t: Tensor | int) -> Prediction:
        return Prediction(toy()(x_t, t).value, "epsilon", variance)

    for kind, channels in (("learned_range", 8), ("fixed_small", 4)):
        calls.clear()
        sample(learned, noise(SEEDS, SHAPE), Watched(variance_type=kind), steps=3, generators=generators(SEEDS))
        assert {shape[1] for shape in calls} == {channels}
    with pytest.raises(ConcordError, match="predicts none"):
        sample(toy(), noise(SEEDS, SHAPE), Watched(variance_type="learned_range"), steps=3)


def test_half_precision_noise_is_denoised_in_float32() -> None:
    steps: list[Step] = []
    sample(toy(), noise(SEEDS, SHAPE, torch.bfloat16), diffusers.DDIMScheduler(), steps=2, on_step=steps.append)
    assert steps[0].x_t.dtype == torch.float32


def test_a_scheduler_that_reads_another_kind_is_refused() -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction")
    with pytest.raises(ConcordError, match='predicts "epsilon" but DDIMScheduler expects "v_prediction"'):
        sample(toy(), noise(SEEDS, SHAPE), scheduler, steps=2)


def test_on_step_gets_what_the_scheduler_got() -> None:
    steps: list[Step] = []
    sample(toy(), noise(SEEDS, SHAPE), diffusers.DDIMScheduler(), steps=3, on_step=steps.append)
    assert [(s.index, s.count) for s in steps] == [(0, 3), (1, 3), (2, 3)]
    for s in steps:
        assert torch.equal(s.x0, clean_estimate(s.prediction, s.x_t, s.level))
        assert not s.x0.requires_grad
