"""What the families have in common: a frozen diffusers pipeline as the functions that the sampler needs."""

import inspect
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from concord.choices import SchedulerName as SchedulerName
from concord.choices import VaeMode
from concord.diffusion.cfg import Order, classifier_free
from concord.diffusion.decoding import decoder, tiny_decoder, vae_scale_factor
from concord.diffusion.encoding import encode
from concord.diffusion.prediction import Prediction
from concord.diffusion.sampler import Denoise, Guide, Sampling, advance, begin_sampling, noise
from concord.errors import ConcordError
from concord.pipelines.planned import Planned as Planned
from concord.pipelines.schedulers import named_scheduler as named_scheduler
from concord.pipelines.schedulers import prediction_kind
from concord.pipelines.starts import start_latents
from concord.recipe import IMAGE_STRENGTH, Pipeline, skipped_steps
from concord.recipe.window import window_steps
from concord.text import counted

_log = logging.getLogger("concord")
WHOLE = (0.0, 1.0)
Network = Callable[[Tensor, Tensor], Tensor]
"""(x, t) to the raw output: x (nB, C, h, w) in the network's own dtype, t a timestep (,); n = 2 under guidance.

Under guidance within a window n is 1 at the other steps, and the conditions are those of `fitting`.
"""


class FrozenPipeline(ABC):
    """A diffusers pipeline whose weights stay as they are, and the images that it makes of planned samples.

    pipeline: the container of weights and of the stock scheduler. tiny_decoder: an `AutoencoderTiny` for cheap
    gradients beside the full decoder, or None. sides: (height, width) of the images in pixels, where its latents do not
    tell.
    """

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None, sides: tuple[int, int] | None = None) -> None:
        self.pipeline, self.tiny_decoder, self._sides = pipeline, tiny_decoder, sides
        for network in (*pipeline.components.values(), tiny_decoder):
            if isinstance(network, torch.nn.Module):
                network.eval().requires_grad_(False)

    @abstractmethod
    def make(self, batch: Planned, *, steps: int, guides: Sequence[Guide] = ()) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1], of planned samples, by so many steps of the scheduler."""

    def decode(self, latents: Tensor, side: int | None = None) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1] and not clamped, of latents in scheduler space; differentiable.

        side: shrink the latents first, for images whose shorter side has about so many pixels, see `shrunk`.
        """
        return decoder(self.pipeline, self._sides, side)(latents)

    def tiny_decode(self, latents: Tensor, side: int | None = None) -> Tensor:
        """As `decode`, by the tiny decoder, which must be there; see `concord.diffusion.decoding.tiny_decoder`."""
        if self.tiny_decoder is None:
            raise ConcordError("no tiny decoder is loaded; set `pipeline.tiny_decoder`, or decode with the full one")
        return tiny_decoder(self.pipeline, self.tiny_decoder, self._sides, side)(latents)

    def save_memory(self, vae: VaeMode = "plain", checkpointing: bool = False) -> None:
        """Trade time for memory, see `save_memory`; where no exact gradients pass there is nothing to checkpoint."""
        save_memory(self.pipeline, vae)


class Family(FrozenPipeline):
    """A pipeline that the own sampler runs; its subclasses say what it is conditioned on, in `denoise_samples`.

    pipeline: see `FrozenPipeline`, and tiny_decoder. denoiser: its transformer or UNet. size: side of the images in
    pixels; None for the model's own.
    """

    def __init__(self, pipeline: Any, denoiser: Any, tiny_decoder: Any | None = None, size: int | None = None) -> None:
        super().__init__(pipeline, tiny_decoder)
        self.denoiser = denoiser
        channels = int(denoiser.config.in_channels)
        self.latent_shape: tuple[int, int, int] = (channels, *self._latent_side(size))
        self.learned_variance: bool = denoiser.config.out_channels == 2 * channels
        decoder(pipeline)  # an autoencoder that is not understood is an error now, not after sampling
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.get("force_upcast", False):
            pipeline.vae.float()  # it would overflow; the pipeline is ours to change

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        factor = vae_scale_factor(self.pipeline)
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor

    def encode(self, pixels: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
        """Latents (B, C, h, w), scheduler space, of images (B, 3, H, W) in [-1, 1]; see `diffusion.encoding`."""
        return encode(self.pipeline, pixels, generators).to(self.denoiser.device)

    @abstractmethod
    def denoise_samples(self, batch: Planned) -> "Conditioned":
        """The prediction for planned samples, classifier-free guidance included."""

    def make(self, batch: Planned, *, steps: int, guides: Sequence[Guide] = ()) -> Tensor:
        denoise, sampling = self._begun(batch, steps)
        return self.decoded(advance(sampling, denoise, guides, eta=self.default("eta")))

    def _begun(self, batch: Planned, steps: int) -> "tuple[Conditioned, Sampling]":
        denoise = self.denoise_samples(batch)  # before x_T: unCLIP draws noise for its images first
        start, skipped = start_latents(self, batch), batch.settings.skipped(steps)
        stepper = self.scheduler(batch.settings.scheduler, batch.settings.scheduler_options)
        return denoise, self.begin(batch.generators, stepper, steps, start, skipped)

    def begin(
        self,
        drawing: Sequence[torch.Generator],
        stepper: Any,
        steps: int,
        start: Tensor | None = None,
        skipped: int = 0,
    ) -> Sampling:
        """A sampling of its latents from the noise that the generators draw; see `concord.diffusion.sample`."""
        x_T = noise(drawing, self.latent_shape, device=self.denoiser.device)
        return begin_sampling(x_T, stepper, steps=steps, generators=drawing, start=start, skipped=skipped)

    def decoded(self, sampling: Sampling) -> Tensor:
        """The images of a sampling that took its last step."""
        with torch.no_grad():
            return self.decode(sampling.x_t)

    def halfway(self, batch: Planned, *, steps: int, guides: Sequence[Guide] = ()) -> Sampling:
        """Planned samples after half of the steps that `make` takes, with their clean estimates."""
        denoise, sampling = self._begun(batch, steps)
        return advance(sampling, denoise, guides, until=sampling.halfway, eta=self.default("eta"))

    def finished(self, batch: Planned, sampling: Sampling, *, guides: Sequence[Guide] = ()) -> Tensor:
        """Images as of `make`, by the other steps of samplings that were left at half.

        batch: the samples, in the samplings' order, with generators as new.
        """
        denoise = self.denoise_samples(batch)  # what it draws it drew before, too
        return self.decoded(advance(sampling, denoise, guides, eta=self.default("eta")))

    def _latent_side(self, size: int | None) -> tuple[int, int]:
        own = self.denoiser.config.sample_size
        if size is None:
            return (own, own) if isinstance(own, int) else tuple(own)
        factor = vae_scale_factor(self.pipeline)
        if size % (2 * factor):
            raise ConcordError(f"`pipeline.size` is {size}; expected a multiple of {2 * factor} pixels")
        return size // factor, size // factor

    def default(self, name: str) -> Any:
        """What the pipeline's own call takes for an argument that is not given; None where it has no such."""
        found = inspect.signature(type(self.pipeline).__call__).parameters.get(name)
        return None if found is None else found.default

    @property
    def default_guidance(self) -> float:
        """The guidance scale that the pipeline's own call takes where none is given."""
        return float(self.default("guidance_scale"))

    def guidance(self, settings: Pipeline) -> float:
        """The guidance scale of a recipe."""
        return self.default_guidance if settings.guidance_scale is None else settings.guidance_scale

    def doubles(self, scale: float) -> bool:
        """Whether a batch is doubled for guidance: at 1 or below nothing is guided, as in the stock pipelines."""
        return scale > 1

    def guided(
        self,
        network: Network,
        scale: float,
        order: Order,
        channels: int | None = None,
        window: tuple[float, float] = WHOLE,
    ) -> "Conditioned":
        """The prediction of a network with classifier-free guidance inside.

        scale: see `doubles`. order, channels: see `classifier_free`. window: the part of the schedule that is guided
        (Kynkäänniemi et al. 2024); at its other steps the prediction is the conditional one, and no other is computed.
        """
        if scale > 1 and tuple(window) != WHOLE and not self.doubles(scale):
            raise ConcordError(
                "`pipeline.guidance.window` cannot act: this model was distilled to take its scale at every step; leave"
                " it out"
            )
        if channels is not None and channels > self.latent_shape[0]:
            raise ConcordError(f"`pipeline.channels` is {channels}, but the latents have {self.latent_shape[0]}")
        doubles, kind, dtype = self.doubles(scale), prediction_kind(self.pipeline), self.denoiser.dtype
        doubling = doubles

        def at(index: int, count: int) -> None:
            nonlocal doubling
            doubling = doubles and index in window_steps(window, count)

        def predict(x_t: Tensor, t: Tensor | int) -> Prediction:
            x = torch.cat([x_t, x_t]) if doubling else x_t
            output = network(x.to(dtype), torch.as_tensor(t, device=x.device)).to(x_t.dtype)
            value, variance = output.chunk(2, dim=1) if self.learned_variance else (output, None)
            if doubling:
                value = classifier_free(value, scale, order, channels)
                if variance is not None:  # the conditional half, unguided
                    variance = variance.chunk(2)[0 if order == "cond_uncond" else 1]
            return Prediction(value, kind, variance)

        return Conditioned(self, predict, at)

    def scheduler(self, name: str = "ddim", options: Mapping[str, Any] | None = None) -> Any:
        """A fresh scheduler on the model's noise schedule, see `named_scheduler`."""
        return named_scheduler(self.pipeline, name, self.learned_variance, options)

    def save_memory(self, vae: VaeMode = "plain", checkpointing: bool = False) -> None:
        save_memory(self.pipeline, vae, [self.denoiser, self.pipeline.vae, self.tiny_decoder] if checkpointing else [])


def fitting(conditions: Tensor, x: Tensor, order: Order) -> Tensor:
    """Conditions of a doubled batch for x (nB, C, h, w): all, or the conditional half where x is not doubled."""
    return conditions if len(conditions) == len(x) else conditions.chunk(2)[order == "uncond_cond"]


@dataclass(frozen=True)
class Conditioned:
    """A `Denoise` for the images of one batch that knows its model: what `sample_images` takes.

    at: tells it the step that comes, and how many there are.
    """

    model: Family
    predict: Denoise
    at: Callable[[int, int], None] = lambda index, count: None

    def __call__(self, x_t: Tensor, t: Tensor | int) -> Prediction:
        return self.predict(x_t, t)


def sample_images(
    denoise: Conditioned,
    seeds: Sequence[int | torch.Generator],
    *,
    steps: int = 50,
    scheduler: str = "ddim",
    scheduler_options: Mapping[str, Any] | None = None,
    guides: Sequence[Guide] = (),
    start: Tensor | None = None,
    image_strength: float = IMAGE_STRENGTH,
) -> Tensor:
    """Images (B, 3, H, W), about [-1, 1] and not clamped, from noise or from images.

    denoise: what a family's `denoise` returns. scheduler, scheduler_options: see `named_scheduler`; the rest: see
    `concord.diffusion.sample`. start: images (B, 3, H, W) in [-1, 1] to begin from, of which noise replaces as much as
    image_strength says. Warns where a guide that informs by gradients took none.
    """
    drawing = [seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed) for seed in seeds]
    latents = None if start is None else denoise.model.encode(start, drawing)
    skipped = 0 if start is None else skipped_steps(steps, image_strength)
    stepper = denoise.model.scheduler(scheduler, scheduler_options)
    sampling = denoise.model.begin(drawing, stepper, steps, latents, skipped)
    images = denoise.model.decoded(advance(sampling, denoise, guides, eta=denoise.model.default("eta")))
    if any(getattr(guide, "gradient_calls", None) == 0 for guide in guides):
        _log.warning("nothing was informed in %s: the window leaves none that can be", counted(steps, "step"))
    return images


def save_memory(pipeline: Any, vae: VaeMode, checkpointed: Iterable[Any] = ()) -> None:
    """Trade time for memory.

    vae: decode image by image (`sliced`: the same numbers), or tile by tile (`tiled`: seams are blended, so pixels
        differ a little). checkpointed: networks whose activations are computed again in the backward pass.
    """
    if vae == "sliced":
        pipeline.vae.enable_slicing()
    elif vae == "tiled":
        pipeline.vae.enable_tiling()
    for network in checkpointed:
        if network is not None and getattr(network, "_supports_gradient_checkpointing", False):
            network.enable_gradient_checkpointing()
