"""Text-to-image pipelines that the own sampler knows: Stable Diffusion 1 and 2, SDXL, SD 3, PixArt-Sigma.

Any other pipeline is called as it is, with the guide at its scheduler (`concord.pipelines.any`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from concord.diffusion.decoding import vae_scale_factor
from concord.errors import ConcordError
from concord.pipelines.any import AnyPipeline
from concord.pipelines.base import WHOLE, Conditioned, Family, Network, fitting
from concord.pipelines.ip_adapter import image_prompts, image_prompts_sd3
from concord.pipelines.load import family_of
from concord.pipelines.planned import Planned
from concord.pipelines.specs import TEXT


@dataclass(frozen=True)
class Asked:
    """What a batch is conditioned on: B prompts, as many negative ones (None: the stock's), and the guidance scale."""

    prompts: list[str]
    negatives: list[str] | None
    scale: float
    images: list[Image.Image] | None = None


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
        *,
        negative_prompts: Sequence[str] | None = None,
        images: Sequence[Image.Image] | None = None,
    ) -> Conditioned:
        """The prediction for images of these B prompts, classifier-free guidance included.

        guidance_scale: None is the stock one. window: see `guided`. negative_prompts: B that guidance leads away from;
        None is the stock one. images: B, which are prompts beside the texts, of a pipeline with an IP-Adapter.
        """
        scale = self.default_guidance if guidance_scale is None else guidance_scale
        if negative_prompts is not None and not self.doubles(scale):
            raise ConcordError("`pipeline.negative_prompts`: nothing is guided by a second batch here; leave them out")
        network = next(_NETWORKS[kind.__name__] for kind in type(self.pipeline).__mro__ if kind.__name__ in _NETWORKS)
        against = None if negative_prompts is None else list(negative_prompts)
        asked = Asked(list(prompts), against, scale, None if images is None else list(images))
        return self.guided(network(self, asked), scale, "uncond_cond", window=window)

    def doubles(self, scale: float) -> bool:
        """As `Family`; a UNet that was distilled to take the scale itself (LCM) is guided inside."""
        return super().doubles(scale) and self.denoiser.config.get("time_cond_proj_dim") is None

    def denoise_samples(self, batch: Planned) -> Conditioned:
        settings = batch.settings
        return self.denoise(
            batch.prompts,
            settings.guidance_scale,
            settings.guidance.window,
            negative_prompts=batch.negative_prompts,
            images=batch.sources if settings.ip_adapter is not None else None,
        )


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


def _stable_diffusion(model: Text, asked: Asked) -> Network:
    guided, condition = model.doubles(asked.scale), _scale_embedding(model, asked)
    positive, negative = model.pipeline.encode_prompt(asked.prompts, model.denoiser.device, 1, guided, asked.negatives)
    text, added = _doubled(negative, positive, guided), _image_prompts(model, asked)
    return lambda x, t: (
        model.denoiser(
            x,
            t,
            encoder_hidden_states=_fit(text, x),
            timestep_cond=condition,
            added_cond_kwargs=_fit_all(added, x) or None,
        ).sample
    )


def _xl(model: Text, asked: Asked) -> Network:
    pipe, device, guided = model.pipeline, model.denoiser.device, model.doubles(asked.scale)
    condition = _scale_embedding(model, asked)
    positive, negative, pooled, negative_pooled = pipe.encode_prompt(
        asked.prompts, device=device, do_classifier_free_guidance=guided, negative_prompt=asked.negatives
    )
    side = tuple(n * vae_scale_factor(pipe) for n in model.latent_shape[1:])
    # Micro-conditions (original size, crop, target size): an image that was never cropped.
    ids = torch.tensor([[*side, 0, 0, *side]], dtype=positive.dtype, device=device)
    added = {
        "text_embeds": _doubled(negative_pooled, pooled, guided),
        "time_ids": ids.repeat(len(asked.prompts) * (2 if guided else 1), 1),
        **_image_prompts(model, asked),
    }
    text = _doubled(negative, positive, guided)
    return lambda x, t: (
        model.denoiser(
            x,
            t,
            encoder_hidden_states=_fit(text, x),
            timestep_cond=condition,
            added_cond_kwargs=_fit_all(added, x),
        ).sample
    )


def _image_prompts(model: Text, asked: Asked) -> dict[str, Any]:
    """What a UNet with an IP-Adapter takes beside the text; nothing without images."""
    if asked.images is None:
        return {}
    return {"image_embeds": image_prompts(model.pipeline, asked.images, model.doubles(asked.scale))}


def _scale_embedding(model: Text, asked: Asked) -> Tensor | None:
    """What a UNet that was distilled with guidance inside takes of its scale, (B, D); None for any other."""
    size = model.denoiser.config.get("time_cond_proj_dim")
    if size is None:
        return None
    scales = torch.full((len(asked.prompts),), asked.scale - 1)
    embedded = model.pipeline.get_guidance_scale_embedding(scales, embedding_dim=size)
    return embedded.to(model.denoiser.device, model.denoiser.dtype)


def _sd3(model: Text, asked: Asked) -> Network:
    guided = model.doubles(asked.scale)
    positive, negative, pooled, negative_pooled = model.pipeline.encode_prompt(
        *(asked.prompts, None, None),
        device=model.denoiser.device,
        do_classifier_free_guidance=guided,
        negative_prompt=asked.negatives,
    )
    text, projected = _doubled(negative, positive, guided), _doubled(negative_pooled, pooled, guided)
    images = None if asked.images is None else image_prompts_sd3(model.pipeline, asked.images, guided)
    return lambda x, t: (
        model.denoiser(
            x,
            timestep=t.expand(len(x)),
            encoder_hidden_states=_fit(text, x),
            pooled_projections=_fit(projected, x),
            # A new one each time: the transformer takes it apart.
            joint_attention_kwargs=None if images is None else {"ip_adapter_image_embeds": _fit(images, x)},
        ).sample
    )


def _pixart(model: Text, asked: Asked) -> Network:
    guided = model.doubles(asked.scale)
    positive, mask, negative, negative_mask = model.pipeline.encode_prompt(
        asked.prompts, guided, asked.negatives or "", device=model.denoiser.device
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


def _fit_all(added: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """Further conditions by name: tensors, and image prompts as a list of one for each adapter."""
    return {
        name: [_fit(one, x) for one in values] if isinstance(values, list) else _fit(values, x)
        for name, values in added.items()
    }


_NETWORKS: dict[str, Callable[[Text, Asked], Network]] = dict(
    zip(TEXT.pipelines, (_stable_diffusion, _xl, _sd3, _pixart), strict=True)
)
"""By the pipeline's class: how its prompts become the network's conditions."""
