"""From images to a pipeline's latents, by its own autoencoder: the way back of `concord.diffusion.decoding`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.decoding import autoencoder


@torch.no_grad()
def encode(pipeline: Any, pixels: Tensor, generators: Sequence[torch.Generator] | None = None) -> Tensor:
    """Latents (B, C, h, w), scheduler space and float32, of images (B, 3, H, W) in [-1, 1], one by one.

    generators: one an image, which draw from an `AutoencoderKL`'s posterior, as diffusers' image-to-image pipelines do
    before they draw noise; None for its mean. Raises ConcordError: an autoencoder that `decoder` does not know.
    """
    vae = autoencoder(pipeline)
    latents = []
    for number, image in enumerate(pixels.to(vae.device, vae.dtype).split(1)):
        found = vae.encode(image)
        if (posterior := getattr(found, "latent_dist", None)) is not None:
            latent = posterior.mode() if generators is None else posterior.sample(generators[number])
        else:
            latent = found.latent if hasattr(found, "latent") else found.latents
        latents.append(_scaled(vae, latent))
    return torch.cat(latents).float()


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    """From the autoencoder's own latents to the scheduler's."""
    config = vae.config
    if type(vae).__name__ == "AutoencoderTiny":
        return latents
    scale, offset = float(config.scaling_factor), config.get("shift_factor")
    mean, deviation = config.get("latents_mean"), config.get("latents_std")
    if mean is not None and deviation is not None:  # Playground 2.5
        m, s = (
            torch.tensor(v, dtype=latents.dtype, device=latents.device).view(1, -1, 1, 1) for v in (mean, deviation)
        )
        return (latents - m) * scale / s
    return (latents - (float(offset) if offset is not None else 0.0)) * scale
