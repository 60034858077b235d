"""DiT (Peebles and Xie 2023) out of a diffusers pipeline: class labels in, predictions with guidance out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from concord.diffusion.guidance import classifier_free
from concord.diffusion.prediction import Kind, Prediction
from concord.diffusion.sampler import Denoise
from concord.errors import ConcordError
from concord.models.pretrained import loading
from concord.models.timesteps import restore_frequencies

NULL_CLASS = 1000  # a constant in DiTPipeline, too, whatever the number of classes in use


class DiT:
    """A frozen `DiTPipeline` as the functions that the sampler needs.

    pipeline: the container of weights and of the stock scheduler.
    tiny_decoder: an `AutoencoderTiny` for cheap gradients beside the full decoder, or None.
    """

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None) -> None:
        self.pipeline = pipeline
        self.tiny_decoder = tiny_decoder
        for network in (pipeline.transformer, pipeline.vae, tiny_decoder):
            if network is not None:
                network.eval().requires_grad_(False)
        restore_frequencies(pipeline.transformer)
        size, channels = pipeline.transformer.config.sample_size, pipeline.transformer.config.in_channels
        self.latent_shape: tuple[int, int, int] = (channels, size, size)
        self.learned_variance: bool = pipeline.transformer.config.out_channels == 2 * channels
        self.labels: dict[str, int] = pipeline.labels  # class id by name, as the checkpoint's id2label has them

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tiny_decoder: str | None = None,
    ) -> DiT:
        """Load a directory or model id of a `DiTPipeline`, and of an `AutoencoderTiny` if wanted; safetensors only.

        Raises:
            ConcordError: either cannot be loaded; names the key `pipeline.model` or `pipeline.tiny_decoder`.
        """
        from diffusers import AutoencoderTiny, DiTPipeline

        with loading(model, "pipeline.model"):
            pipeline = DiTPipeline.from_pretrained(model, use_safetensors=True)
        tiny = None
        if tiny_decoder is not None:
            with loading(tiny_decoder, "pipeline.tiny_decoder"):
                tiny = AutoencoderTiny.from_pretrained(tiny_decoder, use_safetensors=True).to(device, dtype)
        return cls(pipeline.to(device, dtype), tiny)

    def denoise(self, labels: Sequence[int], guidance_scale: float = 4.0, channels: int | None = None) -> Denoise:
        """The prediction for images of these classes, classifier-free guidance included.

        labels: B class ids. guidance_scale: at 1 or below the batch is not doubled and nothing is guided, as in the
        stock pipeline. channels: see `classifier_free`; 3 is what the original DiT and Minimax do.

        Raises:
            ConcordError: a label outside the model's classes, or guidance asked of a model without null class 1000.
        """
        transformer = self.pipeline.transformer
        classes = transformer.config.num_embeds_ada_norm
        wrong = [label for label in labels if not 0 <= label < classes]
        if wrong:
            raise ConcordError(f"class ids {wrong} are outside the diffusion model's 0 to {classes - 1}")
        guided = guidance_scale > 1
        if guided and classes != NULL_CLASS:
            raise ConcordError(
                f"guidance needs a model whose null class is {NULL_CLASS}, but this one has {classes} classes; "
                "set `pipeline.guidance_scale` to 1, or train with num_embeds_ada_norm=1000"
            )
        ids = torch.tensor([*labels, *([NULL_CLASS] * len(labels) if guided else [])], device=transformer.device)
        kind = self._kind()

        def predict(x_t: Tensor, t: Tensor | int) -> Prediction:
            doubled = torch.cat([x_t, x_t]) if guided else x_t  # [cond ; uncond]
            timestep = torch.as_tensor(t, device=x_t.device).reshape(1).expand(len(doubled))
            output = transformer(doubled.to(transformer.dtype), timestep=timestep, class_labels=ids).sample
            output = output.to(x_t.dtype)
            value, variance = output.chunk(2, dim=1) if self.learned_variance else (output, None)
            if guided:
                value = classifier_free(value, guidance_scale, "cond_uncond", channels)
                variance = None if variance is None else variance[: len(x_t)]  # the conditional half, unguided
            return Prediction(value, kind, variance)

        return predict

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1] and not clamped, of latents in scheduler space; differentiable."""
        vae = self.pipeline.vae
        images: Tensor = vae.decode((1 / vae.config.scaling_factor * latents).to(vae.dtype)).sample
        return images.to(latents.dtype)

    def tiny_decode(self, latents: Tensor) -> Tensor:
        """As `decode`, by the tiny decoder. It starts with tanh(x / 3) * 3, so gradients fade for |latents| > 4.

        Raises:
            ConcordError: there is no tiny decoder.
        """
        if self.tiny_decoder is None:
            raise ConcordError("no tiny decoder is loaded; set `pipeline.tiny_decoder`, or decode with the full one")
        # It takes latents in scheduler space as they are: no scaling factor.
        images: Tensor = self.tiny_decoder.decode(latents.to(self.tiny_decoder.dtype)).sample
        return images.to(latents.dtype)

    def scheduler(self, name: Literal["ddim", "ddpm", "stock"] = "ddim") -> Any:
        """A fresh scheduler on the model's noise schedule.

        `ddim`: eta 0. `ddpm`: with the learned variance where the model has one, as Minimax samples. `stock`: the
        pipeline's own, settings untouched. Latents exceed [-1, 1], so the first two never clip, though that is what
        diffusers does by default.
        """
        from diffusers import DDIMScheduler, DDPMScheduler

        stock = self.pipeline.scheduler
        if name == "stock":
            return type(stock).from_config(stock.config)
        if name == "ddim":
            return DDIMScheduler.from_config(stock.config, clip_sample=False)
        if name == "ddpm":
            variance = "learned_range" if self.learned_variance else "fixed_small"
            return DDPMScheduler.from_config(stock.config, clip_sample=False, variance_type=variance)
        raise ConcordError(f'unknown scheduler "{name}"; set `pipeline.scheduler` to ddim, ddpm or stock')

    def _kind(self) -> Kind:
        kind: Kind = self.pipeline.scheduler.config.get("prediction_type", "flow_prediction")
        return kind
