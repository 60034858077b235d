"""From images to a pipeline's latents, by its own autoencoder: the way back of `concord.diffusion.decoding`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.decoding import autoencoder, latent_statistics


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
    if (statistics := latent_statistics(vae, latents)) is None:
        return latents
    mean, deviation, scale = statistics
    return (latents - mean) * scale / deviation
