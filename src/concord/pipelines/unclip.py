"""Stable Diffusion unCLIP, image to image: a real image of the class and a prompt in, predictions out.

The image is embedded by the pipeline's CLIP and is never seen by the VAE; sampling starts from pure noise.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from concord.pipelines.base import WHOLE, Conditioned, Family, fitting
from concord.pipelines.load import load_family
from concord.pipelines.planned import Planned


class UnCLIP(Family):
    """A frozen `StableUnCLIPImg2ImgPipeline` as the functions that the sampler needs, see `Family`."""

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None, size: int | None = None) -> None:
        super().__init__(pipeline, pipeline.unet, tiny_decoder, size)

    @classmethod
    def from_pretrained(cls, model: str, **options: Any) -> "UnCLIP":
        """`load_family` of the pipeline."""
        return load_family(model, among=("unclip",), **options)

    @torch.no_grad()
    def denoise(
        self,
        prompts: Sequence[str],
        images: Sequence[Image.Image],
        guidance_scale: float = 10.0,
        *,
        generators: Sequence[torch.Generator],
        noise_level: int = 0,
        window: tuple[float, float] = WHOLE,
        negative_prompts: Sequence[str] | None = None,
    ) -> Conditioned:
        """The prediction for images like these, classifier-free guidance included.

        The B generators draw the noise on the image embeddings, a timestep `noise_level` of its schedule from 0 to 999,
        as the stock pipeline does before it draws x_T: call this first, then `noise` with the same generators. window:
        see `guided`.
        """
        pipe, guided, device = self.pipeline, guidance_scale > 1, self.denoiser.device
        against = None if negative_prompts is None else list(negative_prompts)
        positive, negative = pipe.encode_prompt(list(prompts), device, 1, guided, against)
        text = torch.cat([negative, positive]) if guided else positive  # [uncond ; cond]
        encoder = pipe.image_encoder
        pixels = pipe.feature_extractor(images=list(images), return_tensors="pt").pixel_values
        embedded = encoder(pixels.to(encoder.device, encoder.dtype)).image_embeds
        embedded = pipe.noise_image_embeddings(embedded, noise_level, generator=list(generators)).to(device)
        image = torch.cat([torch.zeros_like(embedded), embedded]) if guided else embedded

        def network(x: Tensor, t: Tensor) -> Tensor:
            prompt, label = (fitting(one, x, "uncond_cond") for one in (text, image))
            output: Tensor = self.denoiser(x, t, encoder_hidden_states=prompt, class_labels=label).sample
            return output

        return self.guided(network, guidance_scale, "uncond_cond", window=window)

    def denoise_samples(self, batch: Planned) -> Conditioned:
        settings = batch.settings
        return self.denoise(
            batch.prompts,
            batch.sources,
            self.guidance(settings),
            generators=batch.generators,
            noise_level=settings.noise_level,
            window=settings.guidance.window,
            negative_prompts=batch.negative_prompts,
        )
