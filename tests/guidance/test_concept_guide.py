"""The guide: exact where it says exact, downhill always, and never the ruin of an image."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor
from worlds import TAU, T, World, abar_at, step_at

import tiny
from concord.diffusion import Level, Prediction, Step, clean_estimate, generators, noise, noise_estimate, sample, shift
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective
from concord.models.encoder import Encoder


def test_exact_is_eq_9_with_an_independent_gradient_in_float64() -> None:
    world, weight, scale = World(3), 0.8, 3.0
    step = step_at(world, world.x_T, graph=True, scale=scale)
    dx0 = world.guide(mode="exact", weight=weight)(step)
    assert dx0 is not None
    abar = abar_at(T)
    x_t = world.x_T.clone().requires_grad_()
    objective = world.eq_12_of_eq_8(x_t, abar, T, scale)
    (g,) = torch.autograd.grad(objective.sum(), x_t)
    assert float(g.abs().min()) > 0
    torch.testing.assert_close(dx0, -weight * (1 - abar) / abar.sqrt() * g, rtol=1e-6, atol=1e-12)
    eps_hat = shift(step.prediction, dx0, step.level).value  # Eq. 9, descending: + lambda sqrt(1 - abar) g
    torch.testing.assert_close(eps_hat, step.prediction.value.detach() + weight * (1 - abar).sqrt() * g)
    # and the gradient itself against finite differences along a random direction
    along = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        up, down = (world.eq_12_of_eq_8(world.x_T + h * along, abar, T, scale).sum() for h in (1e-5, -1e-5))
    assert float((g * along).sum()) == pytest.approx(float(up - down) / 2e-5, rel=1e-5)


def test_exact_is_the_same_edit_in_sigma_space() -> None:
    """Euler holds x_t / alpha; one image at one noise level must be moved alike there."""
    world = World(2)
    euler = EulerDiscreteScheduler(beta_start=1e-4, beta_end=2e-2)
    euler.set_timesteps(25)
    index = 12
    t = round(float(euler.timesteps[index]))
    abar = 1 / (1 + euler.sigmas[index].double() ** 2)
    vp = Level(float(abar.sqrt()), float((1 - abar).sqrt()))
    moved = []
    for level, x, seen in (
        (vp, world.x_T, 1.0),
        (Level(1.0, vp.sigma / vp.alpha), world.x_T / vp.alpha, vp.alpha),
    ):
        x = x.clone().requires_grad_()
        prediction = world.model.denoise(world.labels, 1.0)(x * seen, t)
        step = Step(0, 1, t, x, prediction, level, clean_estimate(prediction, x, level), euler)
        moved.append([world.guide(mode="exact")(step), world.guide(mode="fast")(step)])
    for a, b in zip(*moved, strict=True):
        assert a is not None
        assert b is not None
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("options", [{"mode": "exact", "weight": 0.02}, {"mode": "fast", "strength": 0.01}])
def test_one_edit_lowers_the_objective_and_the_reverse_raises_it(options: dict[str, Any]) -> None:
    """200 random draws at a fixed step; at least 95 % must go the right way, either way."""
    world = World(200, torch.float32)
    guide = world.guide(**options)
    step = step_at(world, world.x_T, guide.needs_graph)
    dx0 = guide(step)
    assert dx0 is not None
    with torch.no_grad():
        before = world.loss(step.x0)
        for sign in (1, -1):
            edited = shift(step.prediction, sign * dx0, step.level)
            change = world.loss(clean_estimate(edited, step.x_t, step.level)) - before
            assert float((sign * change < 0).float().mean()) >= 0.95


@pytest.mark.parametrize("options", [{"mode": "exact", "weight": 0.3}, {"mode": "fast", "strength": 0.1}])
def test_a_whole_informed_sampling_ends_nearer_to_its_concepts(options: dict[str, Any]) -> None:
    world = World(16, torch.float32)

    def run(guides: list[ConceptGuide]) -> Tensor:
        scheduler = world.model.scheduler("ddim")
        with torch.no_grad():
            latents = sample(world.model.denoise(world.labels, 2.0), world.x_T, scheduler, steps=10, guides=guides)
            return world.loss(latents)

    guide = world.guide(**options)
    plain, informed = run([]), run([guide])
    assert float((informed < plain).float().mean()) >= 0.9
    assert guide.uninformed_steps.tolist() == [0] * 16


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_large", "learned_range"])
def test_mean_is_eq_6(kind: str) -> None:
    """One DDPM step with the same noise: the difference is the move of the mean, -lambda Sigma_t g."""
    world, weight = World(2), 0.7
    scheduler = DDPMScheduler(beta_start=1e-4, beta_end=2e-2, clip_sample=False, variance_type=kind)
    scheduler.set_timesteps(50)
    t = int(scheduler.timesteps[30])
    step = step_at(world, world.x_T, graph=True, scheduler=scheduler, t=t)
    dx0 = world.guide(mode="mean", weight=weight)(step)
    assert dx0 is not None
    assert step.prediction.variance is not None

    def drawn(prediction: Prediction) -> Tensor:
        output = prediction.value.detach()
        if kind == "learned_range":
            assert prediction.variance is not None
            output = torch.cat([output, prediction.variance.detach()], dim=1)
        return scheduler.step(output, t, world.x_T, generator=torch.Generator().manual_seed(0)).prev_sample

    move = drawn(shift(step.prediction, dx0, step.level)) - drawn(step.prediction)
    x_t = world.x_T.clone().requires_grad_()
    (g,) = torch.autograd.grad(world.eq_12_of_eq_8(x_t, abar_at(t), t, 3.0).sum(), x_t)
    variance = scheduler._get_variance(t, predicted_variance=step.prediction.variance.detach())
    variance = variance.exp() if kind == "learned_range" else variance
    torch.testing.assert_close(move, (-weight * variance * g).double(), rtol=1e-3, atol=1e-7)


def test_mean_is_for_ddpm_alone() -> None:
    world = World(1)
    with pytest.raises(ConcordError, match=r"pipeline\.scheduler"):
        world.guide(mode="mean")(step_at(world, world.x_T, graph=True))


def test_fast_moves_each_image_by_strength_whatever_the_gradients_size() -> None:
    world = World(3)
    step = step_at(world, world.x_T, graph=False)
    eps = noise_estimate(step.prediction, step.x_t, step.level)
    sigma = float((1 - abar_at(T)).sqrt())
    outcomes = []
    for weight in (1.0, 1e-12, 1e9):
        guide = ConceptGuide(
            [Objective.contrastive(world.positives, world.negatives, TAU, weight)],
            world.model.decode,
            world.encoder,
            strength=0.2,
        )
        dx0 = guide(step)
        assert dx0 is not None
        d_eps = shift(step.prediction, dx0, step.level).value - step.prediction.value
        for i in range(3):
            rms = d_eps[i].square().mean().sqrt() / eps[i].square().mean().sqrt()
            assert float(rms) == pytest.approx(0.2 * sigma)
        outcomes.append(dx0)
    torch.testing.assert_close(outcomes[1], outcomes[0])
    x0 = step.x0.clone().requires_grad_()
    (g,) = torch.autograd.grad(world.loss(x0).sum(), x0)
    assert torch.nn.functional.cosine_similarity(-g.flatten(1), outcomes[0].flatten(1)).tolist() == pytest.approx(
        [1.0] * 3
    )


def test_fast_takes_no_gradient_through_the_denoiser() -> None:
    world = World(2, torch.float32)
    calls: list[bool] = []
    inner = world.model.denoise(world.labels)

    def watched(x_t: Tensor, t: Tensor | int) -> Prediction:
        calls.append(torch.is_grad_enabled())
        return inner(x_t, t)

    sample(watched, world.x_T, tiny.scheduler(), steps=3, guides=[world.guide()])
    assert calls == [False] * 3


def test_no_gradient_no_shift() -> None:
    world = World(2, torch.float32)
    flat = Objective(1.0, lambda _, pixels: 0 * pixels.sum(dim=(1, 2, 3)), embeds=False)
    guide = ConceptGuide([flat], world.model.decode, None)
    dx0 = guide(step_at(world, world.x_T, graph=False))
    assert dx0 is not None
    assert torch.equal(dx0, torch.zeros_like(dx0))
    assert guide.uninformed_steps.tolist() == [0, 0]


@pytest.mark.parametrize("mode", ["fast", "exact"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_that_image_alone_and_is_counted(mode: Any, poison: float) -> None:
    world = World(3, torch.float32)
    calls = 0

    def spoilt(image: Tensor, _: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        factor = torch.ones(3)
        factor[1] = poison if calls in (2, 3) else 0.0
        return world.objectives[0].loss(image, _) * factor

    def run(guides: list[ConceptGuide]) -> Tensor:
        return sample(
            world.model.denoise(world.labels, 2.0), world.x_T, tiny.scheduler(), steps=4, guides=guides
        ).detach()

    bad = ConceptGuide([Objective(1.0, spoilt)], world.model.decode, world.encoder, mode=mode)
    spoiled, plain, informed = run([bad]), run([]), run([world.guide(mode=mode)])
    assert bad.uninformed_steps.tolist() == [0, 2, 0]
    torch.testing.assert_close(spoiled[1], plain[1])
    torch.testing.assert_close(spoiled[[0, 2]], informed[[0, 2]])
    assert not torch.allclose(spoiled[0], plain[0])


def test_the_first_flow_step_has_no_image_to_inform() -> None:
    world = World(2, torch.float32)
    inner = world.model.denoise(world.labels, 1.0)

    def flow(x_t: Tensor, t: Tensor | int) -> Prediction:
        return Prediction(inner(x_t, t).value, "flow_prediction")

    for mode in ("fast", "exact"):
        shifts: list[Tensor | None] = []

        class Spy(ConceptGuide):
            def __call__(self, step: Step, shifts: list[Tensor | None] = shifts) -> Tensor | None:
                shifts.append(super().__call__(step))
                return shifts[-1]

        spy = Spy(world.objectives, world.model.decode, world.encoder, mode=mode)  # type: ignore[arg-type]
        out = sample(flow, world.x_T, FlowMatchEulerDiscreteScheduler(), steps=4, guides=[spy])
        assert shifts[0] is None
        assert all(s is not None and s.isfinite().all() for s in shifts[1:])
        assert out.isfinite().all()


@pytest.mark.parametrize(
    ("window", "every", "expected"),
    [
        ((0.0, 1.0), 1, range(10)),
        ((0, 1), 1, range(10)),  # as YAML may write it: the whole schedule, not its first step
        ((0.3, 0.7), 1, range(3, 7)),
        ((0.2, 1.0), 3, (2, 5, 8)),
        ((2, 5), 1, (2, 3, 4)),
        ((0, 4), 2, (0, 2)),
        ((0.0, 0.05), 1, (0,)),
    ],
)
def test_windows_are_fractions_of_the_schedule_or_step_numbers(
    window: tuple[float, float], every: int, expected: Any
) -> None:
    guide = ConceptGuide([], lambda z: z, None, window=window, every=every)
    assert [i for i in range(10) if guide.active(i, 10)] == list(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slow"}, "informing.mode"),
        ({"window": (0.5, 0.5)}, "informing.window"),
        ({"window": (-0.1, 0.5)}, "informing.window"),
        ({"window": (0.5, 1.5)}, "informing.window"),
        ({"every": 0}, "informing.every"),
        ({"weight": math.nan}, "informing.weight"),
        ({"strength": math.inf}, "informing.strength"),
    ],
)
def test_settings_that_mean_nothing_are_refused_by_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConcordError, match=message):
        ConceptGuide([], lambda z: z, None, **options)


def test_a_guide_for_texts_is_the_one_for_their_embeddings(tmp_path: Path) -> None:
    world = World(2)
    positives, negatives = [["cat with long tail", "cat"], ["dog"]], [["dog"], ["cat", "fur"]]
    p, n = ([world.encoder.texts(row) for row in rows] for rows in (positives, negatives))
    step = step_at(world, world.x_T, graph=True)
    expected = ConceptGuide([Objective.contrastive(p, n, 0.3)], world.model.decode, world.encoder, mode="exact")(step)
    texts: dict[str, Any] = {"positives": positives, "negatives": negatives, "temperature": 0.3}
    for model in (world.model, world.model.decode):
        guide = ConceptGuide.for_texts(model, world.encoder, **texts, mode="exact")
        assert torch.equal(guide(step_at(world, world.x_T, graph=True)), expected)
    folder = str(tiny.save_encoder(tmp_path, tiny.clip()))
    named = ConceptGuide.for_texts(
        world.model, folder, positives=["cat"]
    )  # one list for all, the encoder's temperature
    assert isinstance(named.encoder, Encoder)
    with pytest.raises(ConcordError, match="positives is empty"):
        ConceptGuide.for_texts(world.model, world.encoder, positives=[])


def test_two_exact_guides_share_one_graph() -> None:
    world = World(2, torch.float32)

    def run(*weights: float) -> Tensor:
        guides = [world.guide(mode="exact", weight=w) for w in weights]
        return sample(
            world.model.denoise(world.labels), world.x_T, DDIMScheduler(clip_sample=False), steps=3, guides=guides
        )

    torch.testing.assert_close(run(0.1, 0.2), run(0.3), rtol=1e-4, atol=1e-4)


def test_an_informed_image_does_not_depend_on_its_batch() -> None:
    world = World(3, torch.float32)

    def run(rows: slice, mode: Any) -> Tensor:
        objective = Objective.contrastive(world.positives[rows], world.negatives[rows], TAU)
        guide = ConceptGuide([objective], world.model.decode, world.encoder, mode=mode)
        seeds = list(range(3))[rows]
        denoise: Callable[..., Prediction] = world.model.denoise(world.labels[rows], 2.0)
        draws = generators(seeds)
        return sample(denoise, noise(draws, tiny.LATENT), tiny.scheduler(), steps=4, guides=[guide], generators=draws)

    for mode in ("fast", "exact"):
        torch.testing.assert_close(run(slice(0, 3), mode)[1:2], run(slice(1, 2), mode), rtol=1e-4, atol=1e-4)
