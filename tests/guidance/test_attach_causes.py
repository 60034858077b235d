"""`concord.inform` where it would do nothing, or something else: it does what was meant, or names the cause."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler, StableDiffusionImg2ImgPipeline, TCDScheduler
from torch import Tensor

import concord
import tiny
import tiny_pipelines
from concord.diffusion import Step, generators, noise, sample
from concord.errors import ConcordError
from concord.guidance import ConceptGuide, Objective, Repulsion, attach
from concord.pipelines.text import Text

CAT, DOG = "cat with long tail", "dog with short ears"


class Shift:
    """A guide with a given shift of the clean estimate, at each step."""

    needs_graph = False

    def __init__(self, dx0: Tensor) -> None:
        self.dx0 = dx0

    def active(self, index: int, count: int) -> bool:
        return True

    def __call__(self, step: Step) -> Tensor:
        return self.dx0.to(step.x0)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", [LCMScheduler, TCDScheduler])
def test_the_few_step_schedulers_move_by_the_intended_shift(scheduler: type[Any], kind: str) -> None:
    """LCM reports c_out x0 + c_skip x_t (Luo et al. 2023); TCD's step at eta 0 is DDIM's."""
    draw = torch.Generator().manual_seed(1)
    output, x, dx0 = (torch.randn(2, 4, 3, 3, generator=draw, dtype=torch.float64) for _ in range(3))
    found: list[Tensor] = []
    for guides in ([], [Shift(dx0)]):
        stepping = scheduler(prediction_type=kind)
        stepping.set_timesteps(4)
        pipe = SimpleNamespace(scheduler=stepping)
        with attach(pipe, guides):
            options = {"eta": 0.0} if scheduler is TCDScheduler else {"generator": torch.Generator().manual_seed(2)}
            made = stepping.step(output, stepping.timesteps[1], x, **options)
        found.append(made.prev_sample if scheduler is TCDScheduler else made.denoised)
    t, after = (int(t) for t in stepping.timesteps[1:3])
    abar, then = (float(stepping.alphas_cumprod[i]) for i in (t, after))
    factor = then**0.5 - (1 - then) ** 0.5 * (abar / (1 - abar)) ** 0.5
    if scheduler is LCMScheduler:
        scaled = 10.0 * t
        factor = scaled / (scaled**2 + 0.25) ** 0.5
    torch.testing.assert_close(found[1] - found[0], factor * dx0, rtol=1e-5, atol=1e-5)


class Seen(ConceptGuide):
    """Notes the steps whose estimate it moves."""

    moved: list[int]

    def __call__(self, step: Step) -> Tensor | None:
        dx0 = super().__call__(step)
        if dx0 is not None and bool(dx0.any()):
            self.moved.append(step.index)
        return dx0


def seen(model: Any, **options: Any) -> Seen:
    encoder = tiny.encoder()
    guide = Seen([Objective.cosine([encoder.texts([CAT])])], model.decode, encoder, strength=0.3, **options)
    guide.moved = []
    return guide


@pytest.mark.parametrize(("between", "moved"), [("none", [1, 4]), ("hold", [1, 2, 3, 4, 5])])
def test_every_counts_from_the_first_step_that_is_not_pure_noise(between: Any, moved: list[int]) -> None:
    """SD 3 begins at alpha 0: counted from there, six steps of which each third is informed would lose the first."""
    model = Text(tiny_pipelines.pipeline("sd3"))
    own = seen(model, every=3, between=between)
    x_T = noise([5], model.latent_shape)
    sample(model.denoise(["a cat"]), x_T, model.scheduler("stock"), steps=6, guides=[own])
    theirs = seen(model, every=3, between=between)
    with attach(model.pipeline, [theirs]):
        for _ in range(2):  # a second call is a sampling of its own
            model.pipeline(["a cat"], num_inference_steps=6, generator=generators([5]), output_type="latent")
    assert own.moved == moved
    assert theirs.moved == moved * 2
    assert own.gradient_steps.tolist() == [2]


def test_every_counts_from_where_image_to_image_begins() -> None:
    pipe = tiny_pipelines.pipeline("sd")
    pipe = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    guide = seen(Text(tiny_pipelines.pipeline("sd")), every=3, window=(0.1, 1.0))
    with attach(pipe, [guide]):
        for strength in (0.5, 0.3):  # of ten steps, from the fifth and from the seventh
            pipe("a cat", image=tiny_pipelines.picture("red", 8), strength=strength, num_inference_steps=10)
    assert guide.moved == [5, 8, 7]


def test_a_window_in_the_middle_is_counted_from_its_own_first_step() -> None:
    model = Text(tiny_pipelines.pipeline("sd3"))
    guide = seen(model, every=2, window=(0.5, 1.0))
    sample(model.denoise(["a cat"]), noise([5], model.latent_shape), model.scheduler("stock"), steps=6, guides=[guide])
    assert guide.moved == [3, 5]


def test_two_equal_images_of_dit_without_guidance_are_two() -> None:
    """One seed and one class, told apart by concepts alone: at guidance 1 nothing is doubled."""
    pipe, encoder = tiny.pipeline(), tiny.encoder()

    def images(labels: list[int], positives: list[list[str]], scale: float) -> Tensor:
        with concord.inform(pipe, encoder, positives=positives, strength=0.3):
            options: dict[str, Any] = {"num_inference_steps": 3, "output_type": "pt", "guidance_scale": scale}
            made: Tensor = pipe(labels, generator=generators([5] * len(labels)), **options).images
        return made

    for scale in (1.0, 4.0):
        both = images([207, 207], [[CAT], [DOG]], scale)
        alone = [images([207], [[text]], scale)[0] for text in (CAT, DOG)]
        assert not torch.allclose(both[0], both[1])
        torch.testing.assert_close(both, torch.stack(alone), rtol=1e-4, atol=1e-4)


def call(pipe: Any, steps: int = 3) -> None:
    pipe(["a cat"], num_inference_steps=steps, output_type="latent")


def test_a_scheduler_that_is_replaced_inside_the_block_is_named() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    with (
        pytest.raises(ConcordError, match=r"was replaced inside the block.*set pipe\.scheduler before"),
        concord.inform(pipe, encoder, positives=[CAT]),
    ):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        call(pipe)
    with pytest.raises(ZeroDivisionError), concord.inform(pipe, encoder, positives=[CAT]):
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        raise ZeroDivisionError  # what went wrong first is not covered up
    with concord.inform(pipe, encoder, positives=[CAT]) as guide:
        call(pipe)
    assert guide.gradient_calls == 3


def test_two_pipelines_with_one_scheduler_are_not_informed_at_once() -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    other = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    with (
        concord.inform(pipe, encoder, positives=[CAT]),
        pytest.raises(ConcordError, match=r"belongs to another pipeline, too.*from_config"),
        concord.inform(other, encoder, positives=[DOG]),
    ):
        pass
    other.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    with (
        concord.inform(pipe, encoder, positives=[CAT]) as one,
        concord.inform(other, encoder, positives=[DOG]) as two,
        concord.inform(pipe, encoder, positives=[DOG]) as three,  # blocks on one pipeline add up
    ):
        call(pipe)
    assert (one.gradient_calls > 0, two.gradient_calls, three.gradient_calls) == (True, 0, one.gradient_calls)


@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        ({"window": (0.5, 1.0)}, 1, "nothing was informed in 1 step of the pipeline"),
        ({"window": (60, 80)}, 3, "nothing was informed in 3 steps of the pipeline"),
        ({}, 0, "took no step inside the block"),
        ({}, 3, ""),
        ({"window": (0.5, 1.0)}, 3, ""),
    ],
)
def test_a_block_that_took_no_gradient_says_so(
    options: dict[str, Any], steps: int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    pipe, encoder = tiny_pipelines.pipeline("sd"), tiny.encoder()
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    with concord.inform(pipe, encoder, positives=[CAT], **options):
        if steps:
            call(pipe, steps)
    assert said in caplog.text if said else not caplog.text


def test_guides_alone_that_moved_nothing_say_so(caplog: pytest.LogCaptureFixture) -> None:
    pipe = tiny_pipelines.pipeline("sd")
    with concord.inform(pipe, guides=[Repulsion([0])]):
        call(pipe)
    assert "nothing was informed in 4 steps of the pipeline: none of the guides moved" in caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"positives": [CAT], "strength": -0.1}, "strength` is -0.1; expected a finite number from 0"),
        ({"positives": [CAT], "negatives": [DOG], "temperature": 0.0}, "temperature is 0.0; expected"),
        ({"positives": [CAT], "negatives": [DOG], "temperature": -1.0}, "temperature is -1.0; expected"),
        ({"positives": [CAT], "temperature": 0.1}, "temperature is of the contrast"),
        ({"positives": [""]}, "positives has an empty text"),
        ({"positives": [[CAT], [" "]]}, "positives has an empty text"),
        ({"positives": [CAT], "negatives": ["\n"]}, "negatives has an empty text"),
        ({"positives": [CAT], "negatives": [DOG, CAT]}, f'"{CAT}" is both a positive and a negative'),
        ({"positives": [[CAT], [DOG]], "negatives": ["DOG with  short ears"]}, f'"{DOG}" is both'),
        ({"positives": [CAT], "between": "hold"}, "between cannot act: at every=1"),
        ({"positives": [CAT], "decode": lambda z: z, "decode_size": 4}, "decode_size cannot act: decode takes"),
        ({"positives": [CAT], "decode": lambda z: z, "tiny": object()}, "tiny cannot act"),
        (
            {"guides": [Repulsion([0, 0])], "negatives": [DOG]},
            "negatives cannot act: there are guides and no positives",
        ),
        ({"guides": [Repulsion([0, 0])], "window": (0.5, 1.0)}, "window cannot act: there are guides"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(options: dict[str, Any], said: str) -> None:
    pipe = tiny_pipelines.pipeline("sd")
    encoder = {} if "guides" in options else {"encoder": tiny.encoder()}
    with pytest.raises(ConcordError) as caught, concord.inform(pipe, **encoder, **options):
        pass
    assert said in str(caught.value)


def test_a_negative_of_one_image_may_be_a_positive_of_another() -> None:
    with concord.inform(
        tiny_pipelines.pipeline("sd"), tiny.encoder(), positives=[[CAT], [DOG]], negatives=[[DOG], [CAT]]
    ):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weight": 2.0}, "weight cannot act: mode=fast has its strength"),
        ({"mode": "exact", "strength": 0.1}, "strength cannot act: mode=exact has its weight"),
        ({"mode": "exact", "weight": 2.0, "between": "hold"}, "between cannot act"),
    ],
)
def test_a_guide_for_texts_takes_its_modes_settings_alone(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        ConceptGuide.for_texts(lambda z: z, tiny.encoder(), positives=[CAT], **options)


def test_the_own_sampler_says_so_too(caplog: pytest.LogCaptureFixture) -> None:
    model = Text(tiny_pipelines.pipeline("sd3"))
    for window, steps, said in (((0.5, 1.0), 2, ""), ((0.5, 1.0), 1, "nothing was informed in 1 step")):
        guide = seen(model, window=window)
        concord.sample(model.denoise(["a cat"]), [5], steps=steps, scheduler="stock", guides=[guide])
        assert said in caplog.text if said else not caplog.text
