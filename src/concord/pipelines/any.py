"""Any other pipeline of diffusers, called as it is, with guides at its scheduler (fast informing alone)."""

import inspect
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from concord.diffusion.attach import attach
from concord.diffusion.decoding import vae_scale_factor
from concord.diffusion.sampler import Guide
from concord.errors import ConcordError
from concord.pipelines.base import WHOLE, FrozenPipeline
from concord.pipelines.ip_adapter import call_options
from concord.pipelines.planned import Planned
from concord.pipelines.schedulers import named_scheduler
from concord.pipelines.starts import start_images
from concord.storage.images import square


class AnyPipeline(FrozenPipeline):
    """A frozen text-to-image or image-to-image pipeline.

    size: side of the images in pixels, None for the pipeline's own. image_strength: how much of a given image is
    replaced by noise before it is denoised, 0 to 1; None to start from noise alone. Its autoencoder matters to
    informing alone: one that concord does not know makes uninformed images all the same.
    """

    def __init__(
        self, pipeline: Any, tiny: Any | None = None, size: int | None = None, image_strength: float | None = None
    ) -> None:
        if image_strength is not None:
            pipeline = _image_to_image(pipeline)
        super().__init__(pipeline, tiny, None if size is None else (size, size))
        self.pipeline.set_progress_bar_config(disable=True)
        self.size, self.image_strength = size, image_strength

    def make(self, batch: Planned, *, steps: int, guides: Sequence[Guide] = ()) -> Tensor:
        """See `FrozenPipeline`, in [-1, 1]; a ConcordError if the pipeline's call lacks an argument."""
        options: dict[str, Any] = {"prompt": batch.prompts, "generator": list(batch.generators)}
        options |= {"num_inference_steps": steps, "output_type": "pt"}
        if batch.negative_prompts is not None:
            options["negative_prompt"] = batch.negative_prompts
        if batch.settings.guidance_scale is not None:
            options["guidance_scale"] = batch.settings.guidance_scale
        if self.image_strength is None and (strength := batch.settings.strength) is not None:
            self.pipeline, self.image_strength = _image_to_image(self.pipeline), strength
            self.pipeline.set_progress_bar_config(disable=True)
        known = inspect.signature(type(self.pipeline).__call__).parameters
        if self.image_strength is not None:
            side = self.size or own_size(self.pipeline)
            options |= {
                "image": [square(image, side) for image in start_images(batch)],
                "strength": self.image_strength,
            }
        if self.size is not None and (self.image_strength is None or "height" in known):
            options |= {"height": self.size, "width": self.size}  # some take the image's size instead
        if batch.settings.ip_adapter is not None:
            options |= call_options(self.pipeline, batch.sources)
        if batch.settings.guidance.window != WHOLE:
            raise ConcordError(
                f"`pipeline.guidance.window` needs concord's own sampler, and {type(self.pipeline).__name__} is called"
                " as it is; leave it out"
            )
        name, chosen = batch.settings.scheduler, batch.settings.scheduler_options
        self.pipeline.scheduler = named_scheduler(self.pipeline, name, options=chosen)
        with attach(self.pipeline, guides):
            if lacking := [name for name in options if name not in known]:
                raise ConcordError(
                    f"{type(self.pipeline).__name__} takes no {lacking[0]}; set `pipeline.model` to another pipeline,"
                    " or call it yourself inside concord.inform(...)"
                )
            made: Tensor = self.pipeline(**options).images
        return made.float() * 2 - 1


def own_size(pipeline: Any) -> int:
    """Side in pixels of the images that a pipeline makes by default."""
    denoiser = getattr(pipeline, "unet", None) or pipeline.transformer
    side = getattr(pipeline, "default_sample_size", None) or denoiser.config.sample_size
    return int(side if isinstance(side, int) else side[0]) * vae_scale_factor(pipeline)


def _image_to_image(pipeline: Any) -> Any:
    from diffusers import AutoPipelineForImage2Image

    try:
        return AutoPipelineForImage2Image.from_pipe(pipeline)
    except ValueError as cause:
        raise ConcordError(
            f"{type(pipeline).__name__} has no image-to-image form; set `pipeline.image_strength` to null"
        ) from cause
