"""Classifier-free guidance on a doubled batch (Ho and Salimans 2022)."""

from typing import Literal

import torch
from torch import Tensor

Order = Literal["cond_uncond", "uncond_cond"]


def classifier_free(value: Tensor, scale: float, order: Order, channels: int | None = None) -> Tensor:
    """uncond + scale (cond - uncond), (B, C, h, w), from the prediction of a doubled batch, (2B, C, h, w).

    order: which half comes first. `DiTPipeline` has the conditional one first, the unCLIP pipelines have it last.
    channels: guide the first so many channels only and keep the rest conditional. The original DiT and Minimax guide 3
    of 4, diffusers guides all (None): a scale of 4.0 there is about 3.25 here.
    """
    first, second = value.chunk(2)
    cond, uncond = (first, second) if order == "cond_uncond" else (second, first)
    guided = uncond + scale * (cond - uncond)
    if channels is None:
        return guided
    return torch.cat([guided[:, :channels], cond[:, channels:]], dim=1)
