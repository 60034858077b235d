"""Text-to-image pipelines that the own sampler knows: Stable Diffusion 1 and 2, SDXL, SD 3, PixArt-Sigma.

Any other pipeline is called as it is, with the guide at its scheduler (`concord.pipelines.any`).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.decoding import vae_scale_factor
from concord.errors import ConcordError
from concord.pipelines.any import AnyPipeline
from concord.pipelines.base import WHOLE, Conditioned, Family, Network, fitting
from concord.pipelines.load import family_of
from concord.pipelines.planned import Planned
from concord.pipelines.specs import TEXT


class Text(Family):
    """A frozen text-to-image pipeline, see `Family`; one whose schedule depends on the image's size is refused."""

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None, size: int | None = None) -> None:
        if not supports_exact(pipeline):
            raise ConcordError(f"the own sampler knows {', '.join(TEXT.pipelines)}, not {type(pipeline).__name__}")
        super().__init__(pipeline, getattr(pipeline, "unet", None) or pipeline.transformer, tiny_decoder, size)

    @torch.no_grad()
    def denoise(
        self,
        prompts: Sequence[str],
        guidance_scale: float | None = None,
        window: tuple[float, float] = WHOLE,
    ) -> Conditioned:
        """The prediction for images of these B prompts, classifier-free guidance included; None: the stock scale.

        window: see `guided`.
        """
        scale = self.default_guidance if guidance_scale is None else guidance_scale
        network = next(_NETWORKS[kind.__name__] for kind in type(self.pipeline).__mro__ if kind.__name__ in _NETWORKS)
        return self.guided(network(self, list(prompts), scale), scale, "uncond_cond", window=window)

    def doubles(self, scale: float) -> bool:
        """As `Family`; a UNet that was distilled to take the scale itself (LCM) is guided inside."""
        return super().doubles(scale) and self.denoiser.config.get("time_cond_proj_dim") is None

    def denoise_samples(self, batch: Planned) -> Conditioned:
        return self.denoise(batch.prompts, batch.settings.guidance_scale, batch.settings.guidance.window)


def build(
    pipeline: Any, tiny_decoder: Any | None = None, size: int | None = None, image_strength: float | None = None
) -> Text | AnyPipeline:
    """The own sampler's model of a pipeline where it can be, from noise; else the pipeline's own call."""
    if image_strength is None and supports_exact(pipeline):
        return Text(pipeline, tiny_decoder, size)
    return AnyPipeline(pipeline, tiny_decoder, size, image_strength)


def supports_exact(pipeline: Any) -> bool:
    """Whether the own sampler can run this pipeline; a schedule that is shifted by the image's size is its own."""
    dynamic = bool(pipeline.scheduler.config.get("use_dynamic_shifting", False))
    return family_of(pipeline, ("text",)) is not None and not dynamic


def _stable_diffusion(model: Text, prompts: list[str], scale: float) -> Network:
    guided, condition = model.doubles(scale), _scale_embedding(model, len(prompts), scale)
    positive, negative = model.pipeline.encode_prompt(prompts, model.denoiser.device, 1, guided)
    text = _doubled(negative, positive, guided)
    return lambda x, t: model.denoiser(x, t, encoder_hidden_states=_fit(text, x), timestep_cond=condition).sample


def _xl(model: Text, prompts: list[str], scale: float) -> Network:
    pipe, device, guided = model.pipeline, model.denoiser.device, model.doubles(scale)
    condition = _scale_embedding(model, len(prompts), scale)
    positive, negative, pooled, negative_pooled = pipe.encode_prompt(
        prompts, device=device, do_classifier_free_guidance=guided
    )
    side = tuple(n * vae_scale_factor(pipe) for n in model.latent_shape[1:])
    # Micro-conditions (original size, crop, target size): an image that was never cropped.
    ids = torch.tensor([[*side, 0, 0, *side]], dtype=positive.dtype, device=device)
    added = {
        "text_embeds": _doubled(negative_pooled, pooled, guided),
        "time_ids": ids.repeat(len(prompts) * (2 if guided else 1), 1),
    }
    text = _doubled(negative, positive, guided)
    return lambda x, t: (
        model.denoiser(
            x,
            t,
            encoder_hidden_states=_fit(text, x),
            timestep_cond=condition,
            added_cond_kwargs={name: _fit(values, x) for name, values in added.items()},
        ).sample
    )


def _scale_embedding(model: Text, count: int, scale: float) -> Tensor | None:
    """What a UNet that was distilled with guidance inside takes of its scale, (count, D); None for any other."""
    size = model.denoiser.config.get("time_cond_proj_dim")
    if size is None:
        return None
    embedded = model.pipeline.get_guidance_scale_embedding(torch.full((count,), scale - 1), embedding_dim=size)
    return embedded.to(model.denoiser.device, model.denoiser.dtype)


def _sd3(model: Text, prompts: list[str], scale: float) -> Network:
    guided = model.doubles(scale)
    positive, negative, pooled, negative_pooled = model.pipeline.encode_prompt(
        prompts, None, None, device=model.denoiser.device, do_classifier_free_guidance=guided
    )
    text, projected = _doubled(negative, positive, guided), _doubled(negative_pooled, pooled, guided)
    return lambda x, t: (
        model.denoiser(
            x,
            timestep=t.expand(len(x)),
            encoder_hidden_states=_fit(text, x),
            pooled_projections=_fit(projected, x),
        ).sample
    )


def _pixart(model: Text, prompts: list[str], scale: float) -> Network:
    guided = model.doubles(scale)
    positive, mask, negative, negative_mask = model.pipeline.encode_prompt(
        prompts, guided, device=model.denoiser.device
    )
    text, attended = _doubled(negative, positive, guided), _doubled(negative_mask, mask, guided)
    return lambda x, t: (
        model.denoiser(
            x,
            timestep=t.expand(len(x)),
            encoder_hidden_states=_fit(text, x),
            encoder_attention_mask=_fit(attended, x),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
    )


def _doubled(negative: Tensor, positive: Tensor, guided: bool) -> Tensor:
    return torch.cat([negative, positive]) if guided else positive  # [uncond ; cond]


def _fit(conditions: Tensor, x: Tensor) -> Tensor:
    return fitting(conditions, x, "uncond_cond")


_NETWORKS: dict[str, Callable[[Text, list[str], float], Network]] = dict(
    zip(TEXT.pipelines, (_stable_diffusion, _xl, _sd3, _pixart), strict=True)
)
"""By the pipeline's class: how its prompts become the network's conditions."""
