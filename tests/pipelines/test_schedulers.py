"""Every solver that a recipe may name: the stock pipeline's images without guides, and Eq. 9 to the letter with one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

import tiny_pipelines
from concord.choices import SchedulerName
from concord.diffusion import Kind, Prediction, Step, clean_estimate, generators, noise, sample
from concord.errors import ConcordError
from concord.guidance import exact_shift
from concord.pipelines.base import Family, sample_images
from concord.pipelines.dit import DiT
from concord.pipelines.schedulers import named_scheduler
from concord.pipelines.text import Text
from concord.recipe import identity, load
from concord.workflows.requirements import check_sampling

WORDS = get_args(SchedulerName)
NO_FLOW = ("ddim", "ddpm", "minimax", "tcd")
NEW = [word for word in WORDS if word not in ("ddim", "ddpm", "minimax", "stock")]
CLASSES = [
    *(
        "DPMSolverSinglestepScheduler",
        "LMSDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
    ),
    *("EulerAncestralDiscreteScheduler", "SASolverScheduler", "PNDMScheduler"),
]
FLOWS = [word for word in NEW if word not in NO_FLOW]
SEEDS = (5, 6)


def made(model: Family, denoise: Any, word: str, steps: int) -> Tensor:
    with torch.no_grad():
        images = sample_images(denoise, generators(SEEDS), steps=steps, scheduler=word)
    return (images / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("word", [*NEW, *CLASSES])
def test_a_solvers_images_are_those_of_the_stock_pipeline_with_it(word: str) -> None:
    pipe = tiny_pipelines.pipeline("sd")
    model = Text(pipe)
    ours = made(model, model.denoise(["a cat", "a dog"], 3.0), word, 4)
    pipe.scheduler = named_scheduler(pipe, word)
    given = {"num_inference_steps": 4, "generator": generators(SEEDS), "output_type": "pt", "guidance_scale": 3.0}
    torch.testing.assert_close(ours, pipe(["a cat", "a dog"], **given).images, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=0.01)


@pytest.mark.parametrize("word", [word for word in FLOWS if word != "lcm"])
def test_of_a_flow_too(word: str) -> None:
    """All but `lcm`: SD 3's own call gives a scheduler no generators to draw with."""
    pipe = tiny_pipelines.pipeline("sd3")
    model = Text(pipe)
    ours = made(model, model.denoise(["a cat", "a dog"], 3.0), word, 4)
    pipe.scheduler = named_scheduler(pipe, word)
    again = dict(named_scheduler(pipe, word).config), dict(pipe.scheduler.config)  # of itself it is the same
    assert len({str(sorted((k, v) for k, v in one.items() if k[0] != "_")) for one in again}) == 1
    given = {"num_inference_steps": 4, "generator": generators(SEEDS), "output_type": "pt", "guidance_scale": 3.0}
    torch.testing.assert_close(ours, pipe(["a cat", "a dog"], **given).images, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("word", ["dpm++", "unipc", "deis"])
def test_and_of_class_ids(word: str) -> None:
    """Where DiT's own call can: it takes no step in sigma space, and gives a solver no generators."""
    pipe = tiny_pipelines.pipeline("dit")
    model = DiT(pipe)
    ours = made(model, model.denoise([1, 207], 4.0), word, 5)
    pipe.scheduler = named_scheduler(pipe, word)
    given = {"num_inference_steps": 5, "generator": generators(SEEDS), "output_type": "pt"}
    torch.testing.assert_close(ours, pipe([1, 207], **given).images, rtol=1e-5, atol=1e-5)


class Descend:
    """Eq. 9 on L = <c, x0>, by autograd through the denoiser; it remembers where it was asked."""

    needs_graph = True

    def __init__(self, towards: Tensor) -> None:
        self.towards, self.levels = towards, list[float]()

    def active(self, index: int, count: int) -> bool:
        return True

    def __call__(self, step: Step) -> Tensor | None:
        if step.level.pure_noise:
            return None
        (gradient,) = torch.autograd.grad((self.towards * step.x0).sum(), step.x_t)
        return exact_shift(gradient, step.level, WEIGHT)


WEIGHT = 0.3


def abar(scheduler: Any, t: Any) -> float:
    """The schedule's alpha_bar at a timestep, between two as diffusers interpolates sigma or its logarithm."""
    sigmas = ((1 - scheduler.alphas_cumprod.double()) / scheduler.alphas_cumprod.double()).sqrt().numpy()
    places = np.arange(len(sigmas))
    t = float(t)
    return 1 / (1 + float(np.exp(np.interp(t, places, np.log(sigmas)))) ** 2)


def recording(scheduler: Any) -> list[Tensor]:
    """The predictions that a scheduler is given from now on, in a list that grows."""
    given: list[Tensor] = []
    step = scheduler.step

    def recorded(output: Tensor, *args: Any, **further: Any) -> Any:
        given.append(output)
        return step(output, *args, **further)

    scheduler.step = recorded
    return given


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("word", [word for word in [*WORDS, *CLASSES] if word != "stock"])
def test_eq_9_is_exact_for_every_solver(word: str, kind: Kind) -> None:
    """eps_hat - eps = lambda sqrt(1 - abar_t) grad L, with the gradient by the latent that the denoiser saw.

    The reference is a linear denoiser in float64, whose gradient is known, and abar of the schedule's own betas.
    """
    torch.manual_seed(1)
    pipe = tiny_pipelines.pipeline("sd")
    pipe.scheduler.register_to_config(prediction_type=kind)
    scheduler = named_scheduler(pipe, word)
    mix, towards = torch.randn(4, 4).double() / 3, torch.randn(2, 4, 3, 3).double()
    seen: list[tuple[Any, Tensor]] = []

    def denoise(x: Tensor, t: Any) -> Prediction:
        value = torch.einsum("ij,bjhw->bihw", mix, x)
        seen.append((t, value.detach()))
        return Prediction(value, kind)

    given = recording(scheduler)
    draws = generators(SEEDS)
    sample(denoise, noise(draws, (4, 3, 3)).double(), scheduler, steps=5, guides=[Descend(towards)], generators=draws)
    assert len(given) == len(seen) >= 5
    for (t, value), output in zip(seen, given, strict=True):
        a, s = abar(pipe.scheduler, t) ** 0.5, (1 - abar(pipe.scheduler, t)) ** 0.5
        by = torch.einsum("ji,bjhw->bihw", mix, towards)  # M^T c
        # x0 = (x - s M x) / a, or a x - s M x; a change of v is a times one of eps, over alpha: a v = eps - s x.
        gradient = (towards - s * by) / a if kind == "epsilon" else a * towards - s * by
        eps = (output - value) * (1 if kind == "epsilon" else a)
        torch.testing.assert_close(eps, WEIGHT * s * gradient, rtol=3e-3, atol=1e-5)


@pytest.mark.parametrize("word", FLOWS)
def test_eq_9_is_exact_for_every_flow(word: str) -> None:
    """x_t = (1 - s) x0 + s eps and v = eps - x0, so that d_v = d_eps / (1 - s).

    s is what the denoiser is told; of the solvers that round it, evenly from 0.999 (or 1) to 0 and shifted by 3. At
    pure noise, or as good as that, there is no edit.
    """
    scheduler = named_scheduler(tiny_pipelines.pipeline("sd3"), word)
    rounds, even = word in ("dpm++", "unipc", "deis"), np.linspace(0.999, 0, 6)[:-1]
    if word == "unipc":
        even = np.linspace(1, 0.001, 6)[:-1]
    mix, towards = torch.randn(4, 4).double() / 3, torch.randn(2, 4, 3, 3).double()
    seen, given = [], recording(scheduler)

    def denoise(x: Tensor, t: Any) -> Prediction:
        seen.append((float(t) / 1000, torch.einsum("ij,bjhw->bihw", mix, x)))
        return Prediction(seen[-1][1], "flow_prediction")

    draws = generators(SEEDS)
    sample(denoise, noise(draws, (4, 3, 3)).double(), scheduler, steps=5, guides=[Descend(towards)], generators=draws)
    for index, ((told, value), output) in enumerate(zip(seen, given, strict=True)):
        s = 3 * even[index] / (1 + 2 * even[index]) if rounds else told
        if index == 0:
            assert s > 0.9985 and torch.equal(output, value)
            continue
        gradient = towards - s * torch.einsum("ji,bjhw->bihw", mix, towards)  # x0 = x - s v
        torch.testing.assert_close((output - value).detach() * (1 - s), WEIGHT * s * gradient, rtol=1e-3, atol=1e-5)


def test_the_clean_estimate_of_a_second_stage_is_the_solvers_own() -> None:
    for name in ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"):
        scheduler = named_scheduler(tiny_pipelines.pipeline("sd"), name)
        own, step = list[Tensor](), scheduler.step

        def recorded(*args: Any, own: list[Tensor] = own, step: Any = step, **further: Any) -> Any:
            out = step(*args, **further)
            own.append(out.pred_original_sample)
            return out

        scheduler.step = recorded
        draws, steps = generators(SEEDS), list[Step]()
        sample(
            lambda x, t: Prediction(torch.tanh(x)),
            noise(draws, (4, 3, 3)),
            scheduler,
            steps=4,
            generators=draws,
            on_step=steps.append,
        )
        for expected, at in zip(own, steps, strict=True):
            torch.testing.assert_close(clean_estimate(at.prediction, at.x_t, at.level), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("pipeline.scheduler=DPMSolverScheduler", 'unknown scheduler "DPMSolverScheduler" (did you mean'),
        ("pipeline.scheduler=DDIMInverseScheduler", "goes from image to noise"),
        ("pipeline.scheduler=EDMEulerScheduler", "EDMEulerScheduler is not supported"),
        ("pipeline.scheduler=RePaintScheduler", "wants original_image at each step"),
        ("pipeline.scheduler=VQDiffusionScheduler", "num_vec_classes"),
        ("pipeline.scheduler=FlowMatchEulerDiscreteScheduler", "predicts noise, which FlowMatchEuler"),
        ("pipeline.scheduler=lcm pipeline.steps=60", "60 steps of LCMScheduler cannot be"),
        ("pipeline.scheduler=unipc pipeline.scheduler_options={solver_ordr: 3}", '(did you mean "solver_order"?)'),
        ("pipeline.scheduler=unipc pipeline.scheduler_options={timestep_spacing: x}", "scheduler_options: 50 steps"),
        ("pipeline.scheduler_options={prediction_type: v_prediction}", "is the model's own, epsilon"),
        ("informing.mode=mean pipeline.scheduler=unipc", "pipeline.scheduler is unipc"),
    ],
)
def test_what_a_family_cannot_use_is_refused_before_it_is_loaded(typed: str, said: str) -> None:
    with pytest.raises(ConcordError) as caught:
        check_sampling(load("reef", typed.replace("={", "=<").replace(" p", "\np").replace("=<", "={").split("\n")))
    assert said in str(caught.value)


def test_a_flow_refuses_what_samples_noise(tmp_path: Path) -> None:
    pipe = tiny_pipelines.pipeline("sd3")
    pipe.save_config(tmp_path)
    pipe.scheduler.save_pretrained(tmp_path / "scheduler")
    given = ["data=/photos", "method=text", f"pipeline.model={tmp_path}", "concepts.bank=reef", "pipeline.steps=4"]
    for word in NO_FLOW:
        with pytest.raises(ConcordError, match=f"predicts a flow, which {word} does not sample; set .*dpm"):
            check_sampling(load("photos", [*given, f"pipeline.scheduler={word}"]))
    with pytest.raises(ConcordError, match="predicts a flow, which EulerDiscreteScheduler does not"):
        check_sampling(load("photos", [*given, "pipeline.scheduler=EulerDiscreteScheduler"]))
    for word in FLOWS:
        check_sampling(load("photos", [*given, f"pipeline.scheduler={word}"]))


def test_options_go_to_the_class_and_usual_steps_are_spelled_out() -> None:
    recipe = load("reef", ["pipeline.scheduler=dpm++", "pipeline.scheduler_options.use_karras_sigmas=true"])
    scheduler = named_scheduler(tiny_pipelines.pipeline("dit"), "dpm++", options=recipe.pipeline.scheduler_options)
    assert scheduler.config.use_karras_sigmas
    for word, steps in {"ddim": 50, "dpm++": 20, "lcm": 4, "DDPMScheduler": 50}.items():
        assert load("reef", [f"pipeline.scheduler={word}", "pipeline.steps=auto"]).pipeline.steps == steps


def test_the_noise_is_the_models_own_where_the_solvers_defaults_differ() -> None:
    """LCM's betas by default are Stable Diffusion's; a pipeline that leaves DDIM's unsaid has others."""
    stock = SimpleNamespace(scheduler=DDIMScheduler())
    assert "beta_start" in stock.scheduler.config._use_default_values
    for word in NEW:
        torch.testing.assert_close(named_scheduler(stock, word).alphas_cumprod, stock.scheduler.alphas_cumprod)


def test_an_old_recipes_identity_names_no_key_of_today() -> None:
    assert "scheduler_options" not in identity(load("reef"))["pipeline"]
    chosen = load("reef", ["pipeline.scheduler_options={timestep_spacing: trailing}"])
    assert identity(chosen)["pipeline"]["scheduler_options"] == {"timestep_spacing": "trailing"}
