"""The original DiT's timestep frequencies, where a checkpoint was trained with them."""

from __future__ import annotations

from typing import Any

KEY = "downscale_freq_shift"
"""In a transformer's config: what `restore_frequencies` applies. diffusers itself ignores the key, with a warning."""


def restore_frequencies(transformer: Any) -> None:
    """Give a DiT of diffusers the timestep frequencies that its config names; without the key, change nothing.

    The original embeds t by frequencies 10000^(-i / 128), i < 128. `DiTTransformer2DModel` has 10000^(-i / 127) built
    in, with no setting: for t = 900 the two embeddings have a cosine of 0.55, so converted weights would see timesteps
    that they were never trained on. The frequencies are no weights, so nothing in a state dict can put this right.
    """
    shift = transformer.config.get(KEY)
    if shift is not None:
        for block in transformer.transformer_blocks:
            block.norm1.emb.time_proj.downscale_freq_shift = shift
