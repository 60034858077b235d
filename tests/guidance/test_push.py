"""A push is shared out by steps, window and solver, so that schedules inform alike; and inner steps share a shift."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from worlds import World, step_at

import tiny
from concord.diffusion import Level, Prediction, Step, generators, noise, sample
from concord.diffusion.response import responses
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective, exact_shift, fast_shift
from concord.guidance.shifts import schedule_strength, unit_rms
from concord.pipelines.schedulers import named_scheduler
from concord.recipe import identity, load
from concord.recipe.window import window_steps

STOCK = SimpleNamespace(scheduler=tiny.scheduler())


def scheduler(word: str, steps: int) -> Any:
    made = named_scheduler(STOCK, word)
    made.set_timesteps(steps)
    return made


def test_what_is_left_of_a_shift_is_what_ddim_and_heun_leave() -> None:
    """Their formulas, for latents that are standard normal: DDIM's on abar, Heun's (Karras 2022, Alg. 1) on sigma."""
    made = scheduler("ddim", 6)
    abar = [float(made.alphas_cumprod[t]) for t in made.timesteps] + [1.0]

    def by_ddim(d: list[float]) -> float:
        x = 0.3
        for i in range(6):
            eps = (1 - abar[i]) ** 0.5 * x + d[i]
            x0 = (x - (1 - abar[i]) ** 0.5 * eps) / abar[i] ** 0.5
            x = abar[i + 1] ** 0.5 * x0 + (1 - abar[i + 1]) ** 0.5 * eps
        return x

    def differences(run: Any, count: int) -> list[float]:
        base = run([0.0] * count)
        return [run([float(i == j) for j in range(count)]) - base for i in range(count)]

    assert responses(made) == pytest.approx(differences(by_ddim, 6), rel=1e-3)
    heun = scheduler("heun", 4)
    s = [float(v) for v in [*heun.sigmas[:-1:2], 0.0]]

    def by_heun(d: list[float]) -> float:
        x = 0.3
        for i in range(4):
            slope = s[i] * x / (1 + s[i] ** 2) + d[2 * i]
            euler = x + (s[i + 1] - s[i]) * slope
            if i < 3:
                slope = (slope + s[i + 1] * euler / (1 + s[i + 1] ** 2) + d[2 * i + 1]) / 2
            x += (s[i + 1] - s[i]) * slope
        return x

    assert responses(heun) == pytest.approx(differences(by_heun, 7), rel=1e-3)


def test_fine_steps_come_to_the_integral_and_v_to_what_eps_does() -> None:
    """The sum of sigma_i r_i over small steps of DDIM: the integral of sigma alpha d(sigma / alpha), -log alpha."""
    made = scheduler("ddim", 1000)
    alpha = float(made.alphas_cumprod[made.timesteps[500]]) ** 0.5
    assert schedule_strength(1.0, made, range(500, 1000)) == pytest.approx(-1 / torch.tensor(alpha).log().item(), 0.01)
    v = type(made).from_config(made.config, prediction_type="v_prediction")
    for one in (made, v):
        one.set_timesteps(7)
    assert responses(v) == pytest.approx(responses(made), rel=1e-5)


@pytest.mark.parametrize("word", ["ddim", "ddpm", "dpm++", "unipc", "deis", "euler", "heun", "lcm", "tcd"])
def test_a_push_moves_images_alike_in_8_20_and_50_steps_of_any_solver(word: str) -> None:
    """Latents that are standard normal and one direction: the last latents move by the push, whatever the schedule."""
    towards = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1)).double()

    class Constant:
        needs_graph = False

        def __init__(self, window: tuple[float, float]) -> None:
            self.window, self.strength = window, 0.0

        def active(self, index: int, count: int) -> bool:
            return index in window_steps(self.window, count)

        def __call__(self, step: Step) -> Tensor:
            if not self.strength:
                steps = [i for i in range(step.count) if self.active(i, step.count)]
                self.strength = schedule_strength(0.7, step.scheduler, steps)
            return fast_shift(towards, torch.ones_like(towards), step.level, self.strength)

    def denoise(x: Tensor, t: Any) -> Prediction:
        """Of a variance-preserving latent, as every denoiser sees it."""
        sigmas = ((1 - STOCK.scheduler.alphas_cumprod) / STOCK.scheduler.alphas_cumprod).sqrt().double()
        low = int(t)
        s = torch.lerp(sigmas[low], sigmas[min(low + 1, 999)], float(t) - low)
        return Prediction(s / (1 + s**2).sqrt() * x)

    for steps in (8, 20, 50):
        for window in ((0.5, 1.0), (0.2, 0.9)):
            made = []
            for guides in ([], [Constant(window)]):
                draws = generators((1, 2))
                x_T, solver = noise(draws, (4, 3, 3), torch.float64), named_scheduler(STOCK, word)
                made.append(sample(denoise, x_T, solver, steps=steps, guides=guides, generators=draws))
            moved = made[0] - made[1]  # down the gradient
            torch.testing.assert_close(moved, 0.7 * unit_rms(towards), rtol=2e-2, atol=1e-3)


def test_a_push_is_the_strength_that_it_comes_to() -> None:
    """The rule between the two keys: a push of strength times the schedule's sum is that strength, to the last bit."""
    made, world = scheduler("ddim", 50), World(2)
    steps = window_steps((0.5, 1.0), 50)
    push = 0.6 / schedule_strength(1.0, made, steps)
    both = []
    for options in ({"strength": 0.6}, {"push": push}):
        guide = world.guide(window=(0.5, 1.0), every=3, between="hold", **options)
        guide.begin(0)
        both.append(guide(step_at(world, world.x_T, graph=False, scheduler=made, index=25)))
        assert guide.strength == pytest.approx(0.6, rel=1e-12)
    torch.testing.assert_close(both[1], both[0], rtol=1e-12, atol=0)


def test_steps_that_hold_share_and_those_left_alone_do_not() -> None:
    made, world = scheduler("ddim", 20), World(1)
    found = {}
    for between in ("none", "hold"):
        guide = world.guide(push=1.0, window=(0.5, 1.0), every=2, between=between)
        guide.begin(0)
        guide(replace(step_at(world, world.x_T, graph=False, scheduler=made, index=10), count=20))
        found[between] = guide.strength
    moved = responses(made)
    sigma = [Level.from_scheduler(made, t, i).sigma for i, t in enumerate(made.timesteps)]
    for between, steps in {"none": range(10, 20, 2), "hold": range(10, 20)}.items():
        assert found[between] == pytest.approx(-1 / sum(sigma[i] * moved[i] for i in steps))


def test_a_push_without_steps_is_refused() -> None:
    with pytest.raises(ConcordError, match="no step that moves an image"):
        schedule_strength(1.0, scheduler("ddim", 5), [])


def quadratic(rates: Tensor) -> Objective:
    return Objective(1.0, lambda _, pixels: (rates * pixels.flatten(1).square()).sum(1) / 2, embeds=False)


def linear_step(graph: bool) -> tuple[Step, Tensor]:
    """x0 = M x_t of a linear denoiser, and M, (4, 4): one image of four pixels."""
    made, draw = scheduler("ddim", 10), torch.Generator().manual_seed(5)
    level = Level.from_scheduler(made, made.timesteps[6], 6)
    x = torch.randn(1, 4, 1, 1, generator=draw, dtype=torch.float64).requires_grad_(graph)
    mix = torch.randn(4, 4, generator=draw, dtype=torch.float64) / 4
    eps = torch.einsum("ij,bjhw->bihw", mix, x)
    x0 = (x - level.sigma * eps) / level.alpha
    step = Step(6, 10, made.timesteps[6], x, Prediction(eps), level, x0, made)
    return step, (torch.eye(4).double() - level.sigma * mix) / level.alpha


RATES = torch.tensor([1.0, 3.0, 0.2, 2.0], dtype=torch.float64)


def test_an_inner_step_takes_its_gradient_where_the_last_one_led() -> None:
    """Both modes by hand: half the shift by the gradient at x0, half by that at x0 and the first half."""
    step, _ = linear_step(graph=False)
    x0, eps = step.x0.detach(), step.prediction.value
    guide = ConceptGuide([quadratic(RATES)], lambda x: x, None, strength=0.8, inner=2)
    first = fast_shift(RATES.view(1, 4, 1, 1) * x0, eps, step.level, 0.8) / 2
    second = fast_shift(RATES.view(1, 4, 1, 1) * (x0 + first), eps, step.level, 0.8) / 2
    torch.testing.assert_close(guide(step), first + second)
    assert guide.gradient_calls == 2 and guide.gradient_steps.tolist() == [2]

    step, jacobian = linear_step(graph=True)
    guide = ConceptGuide([quadratic(RATES)], lambda x: x, None, mode="exact", weight=0.5, inner=3)
    moved, x0 = torch.zeros(4, dtype=torch.float64), step.x0.detach().flatten()
    for _ in range(3):
        gradient = (jacobian.T @ (RATES * (x0 + moved))).view(1, 4, 1, 1)
        moved = moved + exact_shift(gradient, step.level, 0.5).flatten() / 3
    torch.testing.assert_close(guide(step).flatten(), moved)  # type: ignore[union-attr]


def test_the_held_direction_is_that_of_all_inner_gradients() -> None:
    step, _ = linear_step(graph=False)
    guide = ConceptGuide([quadratic(RATES)], lambda x: x, None, strength=0.8, inner=2, every=2, between="hold")
    guide.begin(6)
    moved = guide(step)
    assert moved is not None
    held = guide(Step(7, 10, step.t, step.x_t, step.prediction, step.level, step.x0, step.scheduler))
    assert held is not None and guide.gradient_calls == 2
    torch.testing.assert_close(unit_rms(held), unit_rms(moved))
    torch.testing.assert_close(held, fast_shift(-moved, step.prediction.value, step.level, 0.8))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["informing.push=0.5", "informing.strength=0.3"], "informing.strength: informing.push says"),
        (["informing.mode=exact", "informing.push=0.5"], "informing.push: it is of mode fast"),
        (["informing.push=0"], "informing.push: expected"),
        (["informing.inner=0"], "informing.inner: expected"),
    ],
)
def test_of_push_and_strength_one_is_set(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError) as caught:
        load("reef", typed)
    assert said in str(caught.value)
    assert load("reef", ["informing.push=0.5"]).informing.push == 0.5  # over the file's own strength
    assert not {"push", "inner"} & set(identity(load("reef"))["informing"])
