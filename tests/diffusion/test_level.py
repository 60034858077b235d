"""Levels and predictions: were a sign or a convention wrong, informing would push images the wrong way unnoticed."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from concord.diffusion import Kind, Level, Prediction, clean_estimate, convert, noise_estimate, shift
from concord.errors import ConcordError

KINDS: tuple[Kind, ...] = ("epsilon", "v_prediction", "flow_prediction")
ANGLES = st.floats(0.05, 1.5)


def levels(angle: float) -> list[Level]:
    """One noise level in the three conventions."""
    a, s = torch.tensor([angle], dtype=torch.float64).cos().item(), torch.tensor([angle]).double().sin().item()
    return [Level(a, s), Level(1.0, s / a), Level(a / (a + s), s / (a + s))]


def truth(level: Level) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    return x0, eps, level.alpha * x0 + level.sigma * eps


@given(ANGLES, st.sampled_from(KINDS))
def test_every_kind_gives_back_the_image_and_noise_it_was_made_of(angle: float, kind: Kind) -> None:
    for level in levels(angle):
        x0, eps, x_t = truth(level)
        prediction = convert(Prediction(eps), x_t, level, kind)
        assert prediction.kind == kind
        torch.testing.assert_close(clean_estimate(prediction, x_t, level), x0)
        torch.testing.assert_close(noise_estimate(prediction, x_t, level), eps)
        torch.testing.assert_close(convert(prediction, x_t, level, "epsilon").value, eps)


def test_v_and_flow_are_what_the_literature_calls_so() -> None:
    vp, _, flow = levels(0.7)
    x0, eps, x_t = truth(vp)
    torch.testing.assert_close(convert(Prediction(eps), x_t, vp, "v_prediction").value, vp.alpha * eps - vp.sigma * x0)
    x0, eps, x_t = truth(flow)
    torch.testing.assert_close(convert(Prediction(eps), x_t, flow, "flow_prediction").value, eps - x0)


@given(ANGLES, st.sampled_from(KINDS))
def test_shift_moves_the_clean_estimate_by_dx0_and_keeps_x_t(angle: float, kind: Kind) -> None:
    for level in levels(angle):
        x0, eps, x_t = truth(level)
        dx0 = torch.randn_like(x0)
        variance = torch.randn_like(x0)
        before = convert(Prediction(eps, variance=variance), x_t, level, kind)
        after = shift(before, dx0, level)
        moved = clean_estimate(after, x_t, level)
        torch.testing.assert_close(moved, x0 + dx0)
        torch.testing.assert_close(level.alpha * moved + level.sigma * noise_estimate(after, x_t, level), x_t)
        assert after.variance is variance


def test_shift_is_the_closed_form_for_variance_preserving_and_flow_levels() -> None:
    vp, _, flow = levels(0.9)
    value, dx0 = torch.randn(1, 2, 2, 2).double(), torch.randn(1, 2, 2, 2).double()
    torch.testing.assert_close(shift(Prediction(value), dx0, vp).value, value - vp.alpha / vp.sigma * dx0)
    for kind, level in (("v_prediction", vp), ("flow_prediction", flow)):
        torch.testing.assert_close(shift(Prediction(value, kind), dx0, level).value, value - dx0 / level.sigma)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_edited_where_nothing_is_predicted(kind: Kind) -> None:
    value, dx0 = torch.randn(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    assert torch.equal(shift(Prediction(value, kind), dx0, Level(1.0, 0.0)).value, value)
    sigma = torch.tensor([0.0, 0.6]).view(2, 1, 1, 1)
    alpha = torch.tensor([1.0, 0.8]).view(2, 1, 1, 1)
    mixed = shift(Prediction(value, kind), dx0, Level(alpha, sigma)).value
    assert torch.equal(mixed[0], value[0])
    assert not torch.equal(mixed[1], value[1])
    assert mixed.isfinite().all()


def test_pure_noise_leaves_an_eps_prediction_alone() -> None:
    value = torch.randn(1, 1, 2, 2)
    assert torch.equal(shift(Prediction(value), torch.ones_like(value), Level(0.0, 1.0)).value, value)


def test_an_unknown_prediction_type_is_refused_by_name() -> None:
    with pytest.raises(ConcordError, match='"sample" is not supported'):
        Prediction(torch.zeros(1), "sample")  # type: ignore[arg-type]


SCHEDULERS: list[tuple[str, dict[str, Any]]] = [
    ("DDIMScheduler", {"clip_sample": False}),
    ("DDPMScheduler", {"clip_sample": False}),
    ("EulerDiscreteScheduler", {}),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerAncestralDiscreteScheduler", {}),
    ("HeunDiscreteScheduler", {}),
    ("DPMSolverMultistepScheduler", {}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("UniPCMultistepScheduler", {}),
]


def scheduler_x0(scheduler: Any, output: torch.Tensor, t: Any, x_t: torch.Tensor, index: int) -> torch.Tensor:
    """The clean estimate that the scheduler itself uses at a step."""
    scheduler._step_index = index
    if hasattr(scheduler, "convert_model_output"):
        return scheduler.convert_model_output(output, sample=x_t)
    return scheduler.step(output, t, x_t).pred_original_sample


@pytest.mark.parametrize(("name", "options"), SCHEDULERS)
@pytest.mark.parametrize("kind", KINDS[:2])
def test_level_estimate_and_shift_agree_with_the_schedulers_own_arithmetic(
    name: str, options: dict[str, Any], kind: Kind
) -> None:
    if name.startswith("Heun") and kind == "v_prediction":
        pytest.skip("covered by Euler; its state machine is entered at the first step only")
    index = 0 if name.startswith("Heun") else 4
    torch.manual_seed(0)
    scheduler = getattr(diffusers, name)(prediction_type=kind, **options)
    scheduler.set_timesteps(10)
    t = scheduler.timesteps[index]
    value, dx0 = torch.randn(1, 4, 4, 4), torch.randn(1, 4, 4, 4)
    x_t = scheduler.init_noise_sigma * torch.randn(1, 4, 4, 4)
    level = Level.from_scheduler(scheduler, t, index)
    prediction = Prediction(value, kind)
    before = scheduler_x0(scheduler, value, t, x_t, index)
    torch.testing.assert_close(clean_estimate(prediction, x_t, level), before, rtol=1e-4, atol=1e-4)
    scheduler.set_timesteps(10)
    scheduler.is_scale_input_called = True
    after = scheduler_x0(scheduler, shift(prediction, dx0, level).value, t, x_t, index)
    torch.testing.assert_close(after - before, dx0, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler"])
def test_in_sigma_space_the_denoiser_sees_the_normalised_latent(name: str) -> None:
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(7)
    scheduler.set_begin_index(0)
    t, x_t = scheduler.timesteps[0], torch.randn(1, 4, 2, 2)
    level = Level.from_scheduler(scheduler, t, 0)
    assert level.alpha == 1
    torch.testing.assert_close(scheduler.scale_model_input(x_t, t), x_t / level.norm)


def test_flow_matching_starts_at_pure_noise_and_is_linear() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    first = Level.from_scheduler(scheduler, scheduler.timesteps[0], 0)
    assert (first.alpha, first.sigma) == (0.0, 1.0)
    middle = Level.from_scheduler(scheduler, scheduler.timesteps[2], 2)
    assert middle.alpha + middle.sigma == pytest.approx(1)
    assert middle.sigma == pytest.approx(float(scheduler.sigmas[2]))


def test_a_solver_with_flow_sigmas_is_on_flow_levels() -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    scheduler.set_timesteps(6)
    level = Level.from_scheduler(scheduler, scheduler.timesteps[3], 3)
    assert level.alpha + level.sigma == pytest.approx(1)


@pytest.mark.parametrize("name", ["EDMEulerScheduler", "IPNDMScheduler", "CMStochasticIterativeScheduler"])
def test_a_scheduler_of_another_convention_is_refused_by_name(name: str) -> None:
    scheduler = getattr(diffusers, name)()
    scheduler.set_timesteps(4)
    with pytest.raises(ConcordError, match=name):
        Level.from_scheduler(scheduler, scheduler.timesteps[1], 1)
