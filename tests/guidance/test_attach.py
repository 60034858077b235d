"""`concord.inform`: whoever calls a pipeline himself gets the intended shift, and the pipeline back as it was."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

import concord
import tiny
import tiny_pipelines
from concord.diffusion import Level, generators
from concord.diffusion.sampler import Step
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective, attach

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS: dict[str, Callable[[str], Any]] = {
    "ddim": lambda kind: DDIMScheduler(**BETAS, prediction_type=kind, clip_sample=False),
    "ddpm": lambda kind: DDPMScheduler(**BETAS, prediction_type=kind, clip_sample=False),
    "pndm": lambda kind: PNDMScheduler(**BETAS, prediction_type=kind, skip_prk_steps=True),
    "dpm": lambda kind: DPMSolverMultistepScheduler(**BETAS, prediction_type=kind),
    "dpm-karras": lambda kind: DPMSolverMultistepScheduler(**BETAS, prediction_type=kind, use_karras_sigmas=True),
    "unipc": lambda kind: UniPCMultistepScheduler(**BETAS, prediction_type=kind),
    "euler": lambda kind: EulerDiscreteScheduler(**BETAS, prediction_type=kind),
    "euler-karras": lambda kind: EulerDiscreteScheduler(**BETAS, prediction_type=kind, use_karras_sigmas=True),
    "euler-a": lambda kind: EulerAncestralDiscreteScheduler(**BETAS, prediction_type=kind),
}
CASES = [(name, kind) for name in SCHEDULERS for kind in ("epsilon", "v_prediction")] + [("flow", "flow_prediction")]
FLOW_SOLVERS = {
    "dpm-flow": lambda: DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    "unipc-flow": lambda: UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
}
STEPS = 8


class Constant:
    """A guide with a given shift of the clean estimate."""

    needs_graph = False

    def __init__(self, dx0: Tensor, at: int) -> None:
        self.dx0, self.at = dx0, at
        self.seen: list[Step] = []

    def active(self, index: int, count: int) -> bool:
        return index == self.at

    def __call__(self, step: Step) -> Tensor:
        self.seen.append(step)
        return self.dx0.to(step.x0)


class Holder:
    """As much of a pipeline as `attach` needs."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler


def make_scheduler(name: str, kind: str) -> Any:
    if name == "flow":
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return FLOW_SOLVERS[name]() if name in FLOW_SOLVERS else SCHEDULERS[name](kind)


@contextmanager
def spied(scheduler: Any) -> Iterator[list[Tensor]]:
    """The clean estimates that a DPM-Solver or UniPC scheduler computes for itself."""
    seen: list[Tensor] = []
    own = scheduler.convert_model_output

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        seen.append(own(*args, **kwargs))
        return seen[-1]

    scheduler.convert_model_output = spy
    try:
        yield seen
    finally:
        del scheduler.convert_model_output


def same_noise(scheduler: Any) -> dict[str, Any]:
    """The same draw at every call, for schedulers that draw."""
    takes = "generator" in inspect.signature(scheduler.step).parameters
    return {"generator": torch.Generator().manual_seed(3)} if takes else {}


def own_clean_estimate(scheduler: Any, output: Tensor, index: int, x: Tensor, previous: list[Tensor]) -> Tensor:
    """The x0 behind one step, by the scheduler's own arithmetic: what it reports, or what its step implies."""
    t = scheduler.timesteps[index]
    if hasattr(scheduler, "convert_model_output"):
        with spied(scheduler) as seen:
            scheduler.step(output, t, x)
        return seen[0]
    result = scheduler.step(output, t, x, **same_noise(scheduler))
    if getattr(result, "pred_original_sample", None) is not None:
        return result.pred_original_sample
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        now, then = (float(s) for s in scheduler.sigmas[index : index + 2])
        velocity = (result.prev_sample - x) / (then - now)
        return x - now * velocity
    # PNDM's transfer is DDIM's: x = a x0 + s eps before and after with the same eps, two equations for x0. At its
    # first step the prediction is used as it is.
    assert isinstance(scheduler, PNDMScheduler)
    stride = 1000 // STEPS
    pairs = [scheduler.alphas_cumprod[int(t)], scheduler.alphas_cumprod[int(t) - stride]]
    (a, s), (a_next, s_next) = ((float(p) ** 0.5, float(1 - p) ** 0.5) for p in pairs)
    return (s * result.prev_sample - s_next * x) / (s * a_next - s_next * a)


@pytest.mark.parametrize(("name", "kind"), CASES + [(name, "flow_prediction") for name in FLOW_SOLVERS])
def test_the_x0_that_the_scheduler_computes_moves_by_the_intended_shift(name: str, kind: str) -> None:
    at = 0 if name == "pndm" else 3  # PNDM blends several predictions after its first
    draw = torch.Generator().manual_seed(1)
    output, dx0 = (torch.randn(2, 4, 3, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    estimates = []
    for informed in (False, True):
        scheduler = make_scheduler(name, kind)
        scheduler.set_timesteps(STEPS)
        x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
        guide = Constant(dx0, at)
        with attach(Holder(scheduler), [guide] if informed else []):
            for index in range(at):  # walk there, so that multistep solvers have their history
                x = scheduler.step(output * 0.1, scheduler.timesteps[index], x, **same_noise(scheduler)).prev_sample
            estimates.append(own_clean_estimate(scheduler, output, at, x, []))
        assert len(guide.seen) == informed
    torch.testing.assert_close(estimates[1] - estimates[0], dx0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_guide_sees_the_estimate_that_the_scheduler_has(name: str, kind: str) -> None:
    scheduler = make_scheduler(name, kind)
    scheduler.set_timesteps(STEPS)
    draw = torch.Generator().manual_seed(1)
    output, x = (torch.randn(2, 4, 3, 3, generator=draw, dtype=torch.float64) for _ in range(2))
    guide = Constant(torch.zeros_like(x), 0)
    with attach(Holder(scheduler), [guide]):
        expected = own_clean_estimate(scheduler, output, 0, x, [])
    assert guide.seen[0].count == len(scheduler.timesteps) or name == "pndm"
    torch.testing.assert_close(guide.seen[0].x0, expected, rtol=1e-5, atol=1e-4)


def test_ddpm_with_learned_variance_keeps_the_variance_half() -> None:
    scheduler = DDPMScheduler(**BETAS, variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(STEPS)
    draw = torch.Generator().manual_seed(1)
    output, x, dx0 = (torch.randn(2, c, 3, 3, generator=draw) for c in (8, 4, 4))
    given: list[Tensor] = []
    step = scheduler.step

    def record(model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        given.append(model_output)
        return step(model_output, timestep, sample, **options)

    scheduler.step = record
    with attach(Holder(scheduler), [Constant(dx0, 0)]):
        scheduler.step(output, scheduler.timesteps[0], x)
    torch.testing.assert_close(given[0][:, 4:], output[:, 4:])
    assert not torch.allclose(given[0][:, :4], output[:, :4])
    assert scheduler.step is record


# --- whole pipelines -------------------------------------------------------------------------------------------

CALLS: dict[str, dict[str, Any]] = {
    "dit": {"class_labels": [1, 207]},
    "unclip": {"image": [tiny_pipelines.picture("red"), tiny_pipelines.picture("blue")]},
    "pixart": {"use_resolution_binning": False, "clean_caption": False},
    "flux": {"height": 8, "width": 8},
    "sana": {"height": 32, "width": 32, "use_resolution_binning": False, "complex_human_instruction": None},
}
TEXTS: dict[str, Any] = {
    "positives": [["cat with long tail", "cat with fur"], ["dog with short ears"]],
    "negatives": [["dog with short ears"], ["cat with long tail"]],
}


def call(pipe: Any, name: str, steps: int = 3, **options: Any) -> Tensor:
    given = CALLS.get(name, {}) | ({} if name == "dit" else {"prompt": ["a cat", "a dog"]}) | options
    images: Tensor = pipe(**given, num_inference_steps=steps, generator=generators([5, 6]), output_type="pt").images
    return images


def state(pipe: Any) -> dict[str, Any]:
    """Everything that a user could find changed."""
    weights = {
        f"{name}.{key}": (weight.requires_grad, weight.detach().clone())
        for name, part in pipe.components.items()
        if isinstance(part, torch.nn.Module)
        for key, weight in part.named_parameters()
    }
    return {
        "attributes": set(vars(pipe)),
        "config": dict(pipe.scheduler.config),
        "scheduler": copy.deepcopy(vars(pipe.scheduler)),
        "step": pipe.scheduler.step.__func__,
        "weights": weights,
    }


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif hasattr(one, "tolist"):
        assert one.tolist() == other.tolist()
    else:
        assert one == other


@pytest.mark.parametrize("name", list(tiny_pipelines.FAMILIES))
def test_it_informs_any_family_and_leaves_no_trace(name: str) -> None:
    pipe, encoder = tiny_pipelines.pipeline(name), tiny.encoder()
    before = call(pipe, name)
    was = state(pipe)
    with concord.inform(pipe, encoder, **TEXTS, strength=0.3) as guide:
        informed = call(pipe, name)
    assert_same(state(pipe), was)
    assert guide.uninformed_steps.tolist() == [0, 0]
    assert float((informed - before).abs().max()) > 0.01
    torch.testing.assert_close(call(pipe, name), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["dit", "sd", "pixart"])
def test_it_leaves_no_trace_after_an_exception_in_the_middle_of_a_call(name: str) -> None:
    pipe = tiny_pipelines.pipeline(name)
    before = call(pipe, name)
    was = state(pipe)
    step, calls = type(pipe.scheduler).step, [0]

    def failing(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise ZeroDivisionError
        return step(self, *args, **kwargs)

    failing.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(pipe.scheduler), "step", failing)
        with pytest.raises(ZeroDivisionError), concord.inform(pipe, tiny.encoder(), **TEXTS):
            call(pipe, name)
    assert_same(state(pipe), was)
    torch.testing.assert_close(call(pipe, name), before, rtol=0, atol=0)


@pytest.mark.parametrize("levers", [{}, {"every": 2, "between": "hold", "decode_size": 6}])
def test_it_is_the_own_samplers_fast_mode(levers: dict[str, Any]) -> None:
    """The two faces are one method: same seeds, same settings, same images."""
    from concord.diffusion import noise, sample
    from concord.pipelines.dit import DiT

    pipe, encoder = tiny.pipeline(), tiny.encoder()
    with concord.inform(pipe, encoder, **TEXTS, strength=0.2, temperature=0.1, window=(0.25, 0.75), **levers):
        theirs = call(pipe, "dit", steps=8)
    model = DiT(pipe)
    p, n = ([encoder.texts(row) for row in TEXTS[key]] for key in ("positives", "negatives"))
    options = {"strength": 0.2, "window": (0.25, 0.75), **levers}
    side = options.pop("decode_size", None)
    guide = ConceptGuide(
        [Objective.contrastive(p, n, 0.1)],
        lambda x: model.decode(x, side),
        encoder,
        **options,
    )
    latents = sample(
        model.denoise([1, 207]), noise([5, 6], model.latent_shape), model.scheduler("stock"), steps=8, guides=[guide]
    )
    ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_doubled_batch_of_dit_stays_doubled_and_each_half_is_informed_alike() -> None:
    pipe = tiny.pipeline()
    stepped: list[tuple[Tensor, Tensor]] = []
    own = pipe.scheduler.step

    def record(model_output: Tensor, timestep: Any, sample: Tensor, **options: Any) -> Any:
        stepped.append((model_output, sample))
        return own(model_output, timestep, sample, **options)

    pipe.scheduler.step = record
    with concord.inform(pipe, tiny.encoder(), **TEXTS):
        call(pipe, "dit")
    for output, sample in stepped:
        assert len(output) == len(sample) == 4
        torch.testing.assert_close(output[:2], output[2:], rtol=0, atol=0)


def test_one_list_of_texts_serves_every_image_of_its_prompt() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()

    def images(**options: Any) -> Tensor:
        with concord.inform(pipe, encoder, strength=0.3, **options):
            made: Tensor = pipe(
                ["a cat", "a dog"],
                num_images_per_prompt=2,
                num_inference_steps=3,
                generator=generators([1, 2, 3, 4]),
                output_type="pt",
            ).images
        return made

    by_prompt = images(positives=[["cat with fur"], ["dog with fur"]])
    by_image = images(positives=[["cat with fur"], ["cat with fur"], ["dog with fur"], ["dog with fur"]])
    torch.testing.assert_close(by_prompt, by_image)
    flat = images(positives=["cat with fur"])
    torch.testing.assert_close(flat[:2], by_image[:2])
    assert not torch.allclose(flat[2:], by_image[2:])


@pytest.mark.parametrize("name", ["dit", "sd"])
def test_compiled_denoisers_and_inference_mode(name: str) -> None:
    pipe, encoder = tiny_pipelines.pipeline(name), tiny.encoder()
    with concord.inform(pipe, encoder, **TEXTS):
        expected = call(pipe, name)
    with torch.inference_mode(), concord.inform(pipe, encoder, **TEXTS):
        torch.testing.assert_close(call(pipe, name), expected)
    part = "transformer" if name == "dit" else "unet"
    setattr(pipe, part, torch.compile(getattr(pipe, part), backend="eager"))
    pipe.vae = torch.compile(pipe.vae, backend="eager")
    with concord.inform(pipe, encoder, **TEXTS):
        torch.testing.assert_close(call(pipe, name), expected)


@pytest.mark.parametrize("sequential", [False, True])
def test_offloaded_pipelines(sequential: bool) -> None:
    """Hooks move weights in and out around every forward pass; here from the CPU to the CPU, or to nowhere."""
    import accelerate

    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    with concord.inform(pipe, encoder, **TEXTS):
        expected = call(pipe, "sd")
    hook = None
    for part in (pipe.text_encoder, pipe.unet, pipe.vae):
        if sequential:
            accelerate.cpu_offload(part, "cpu", offload_buffers=True)
        else:
            _, hook = accelerate.cpu_offload_with_hook(part, "cpu", prev_module_hook=hook)
    if sequential:
        assert next(pipe.vae.parameters()).device.type == "meta"
    with concord.inform(pipe, encoder, **TEXTS):
        torch.testing.assert_close(call(pipe, "sd"), expected)
    if sequential:
        assert all(weight.requires_grad for weight in pipe.vae.parameters())


def test_image_to_image_begins_in_the_middle_of_the_schedule() -> None:
    from diffusers import StableDiffusionImg2ImgPipeline

    pipe = StableDiffusionImg2ImgPipeline(**tiny_pipelines.pipeline("sd").components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    positions: list[tuple[int, int]] = []
    scheduler = pipe.scheduler

    class Watch(Constant):
        def active(self, index: int, count: int) -> bool:
            positions.append((index, count))
            return False

    for kind in (PNDMScheduler, EulerDiscreteScheduler, DDIMScheduler):
        pipe.scheduler = kind.from_config(scheduler.config)
        positions.clear()
        with attach(pipe, [Watch(torch.zeros(1), 0)]):
            pipe("a cat", image=tiny_pipelines.picture("red", 8), strength=0.5, num_inference_steps=10)
        count = positions[0][1]
        assert [index for index, _ in positions] == list(range(count - len(positions), count))
        assert 0 < len(positions) < count


def test_packed_latents_that_are_not_square_need_their_size() -> None:
    pipe, encoder = tiny_pipelines.pipeline("flux"), tiny.encoder()
    wide = {"height": 4, "width": 16}
    with concord.inform(pipe, encoder, **TEXTS, size=(4, 16)):
        assert call(pipe, "flux", **wide).shape[2:] == (4, 16)
    with pytest.raises(ConcordError, match=r"give size=\(height, width\)"), concord.inform(pipe, encoder, **TEXTS):
        call(pipe, "flux", height=4, width=12)


def test_a_tiny_decoder_and_a_decode_of_ones_own() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    with concord.inform(pipe, encoder, **TEXTS, tiny=tiny.tiny_autoencoder()):
        cheap = call(pipe, "sd")
    with concord.inform(pipe, encoder, **TEXTS):
        full = call(pipe, "sd")
    assert not torch.allclose(cheap, full)
    vae = pipe.vae
    with concord.inform(pipe, encoder, **TEXTS, decode=lambda z: vae.decode(z / vae.config.scaling_factor).sample):
        torch.testing.assert_close(call(pipe, "sd"), full)


def test_an_encoder_by_its_directory(tmp_path: Path) -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    with concord.inform(pipe, encoder, **TEXTS):
        expected = call(pipe, "sd")
    folder = tiny.save_encoder(tmp_path / "clip", tiny.clip())
    with concord.inform(pipe, str(folder), **TEXTS):
        torch.testing.assert_close(call(pipe, "sd"), expected)


def test_what_cannot_be_informed_is_one_clear_line() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    for wrong, message in (
        ({"positives": "cat with fur"}, "expected a list of texts"),
        ({"positives": ["cat", ["dog"]]}, "mixes texts and lists"),
        ({"positives": []}, "positives is empty"),
        ({"positives": [["cat"], []]}, "positives is empty"),
        ({"positives": [["cat"]] * 3, "negatives": [["dog"]] * 2}, "3 lists of positives but 2 of negatives"),
        ({"positives": ["cat"], "window": (0.5, 0.5)}, "window"),
        ({"positives": ["cat"], "strength": float("nan")}, "strength"),
    ):
        with pytest.raises(ConcordError, match=message), concord.inform(pipe, encoder, **wrong):
            pass
    with (
        pytest.raises(ConcordError, match="3 lists of concepts do not fit a batch of 2"),
        concord.inform(pipe, encoder, positives=[["cat"]] * 3),
    ):
        call(pipe, "sd")
    with pytest.raises(ConcordError, match="has no scheduler"), attach(object(), []):
        pass
    exact = ConceptGuide([], lambda z: z, None, mode="exact")
    with pytest.raises(ConcordError, match="gradients through the denoiser"), attach(pipe, [exact]):
        pass
    pipe.vae = torch.nn.Identity()
    with pytest.raises(ConcordError, match=r"Identity.*give decode="), concord.inform(pipe, encoder, positives=["cat"]):
        pass


def test_levels_are_those_of_the_sample_at_hand() -> None:
    """A wrong level gives plausible pictures: alpha^2 + sigma^2 = 1, alpha = 1, or alpha + sigma = 1."""
    for name, kind in CASES:
        scheduler = make_scheduler(name, kind)
        scheduler.set_timesteps(STEPS)
        level = Level.from_scheduler(scheduler, scheduler.timesteps[2], 2)
        alpha, sigma = float(level.alpha), float(level.sigma)
        total = alpha + sigma if name == "flow" else alpha if "euler" in name else alpha**2 + sigma**2
        assert total == pytest.approx(1)


def test_images_that_happen_to_be_equal_are_not_taken_for_dits_pair() -> None:
    """Two classes from one seed without guidance: the samples are equal, what is predicted of them is not."""
    pipe, encoder = tiny.pipeline(), tiny.encoder()

    def images(positives: list[list[str]]) -> Tensor:
        with concord.inform(pipe, encoder, positives=positives, strength=0.3):
            made: Tensor = pipe(
                [1, 207], guidance_scale=1.0, generator=generators([5, 5]), num_inference_steps=3, output_type="pt"
            ).images
        return made

    both = images([["cat with long tail"], ["dog with short ears"]])
    other = images([["cat with long tail"], ["cat with long tail"]])
    torch.testing.assert_close(both[0], other[0])
    assert not torch.allclose(both[1], other[1])


def test_calls_of_different_batch_sizes_in_one_block() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    with concord.inform(pipe, encoder, positives=["cat with fur"]) as guide:
        for count in (2, 1, 3):
            pipe(["a cat"] * count, num_inference_steps=2, output_type="pt")
            assert guide.uninformed_steps.tolist() == [0] * count


def test_what_informing_lost_is_said(caplog: pytest.LogCaptureFixture) -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    pipe.scheduler = DDIMScheduler(**BETAS)  # clips by default, as no latents want it
    with concord.inform(pipe, encoder, positives=["cat"], decode=lambda z: z[:, :3] * float("nan")):
        pipe(["a cat"], num_inference_steps=2, output_type="pt")
    assert "clip_sample" in caplog.text
    assert "2 image-steps were left uninformed" in caplog.text


def test_an_autoencoder_that_overflows_in_float16_decodes_in_float32() -> None:
    from concord.diffusion.decoding import decoder

    pipe = tiny_pipelines.pipeline("sd")
    pipe.vae.register_to_config(force_upcast=True)
    expected = decoder(pipe)(torch.ones(1, *tiny.LATENT))
    pipe.vae.to(torch.float16)
    decoded = decoder(pipe)(torch.ones(1, *tiny.LATENT))
    assert decoded.dtype == torch.float32
    assert pipe.vae.dtype == torch.float16
    torch.testing.assert_close(decoded, expected, rtol=1e-2, atol=1e-2)
