"""Informing a diffusion model's sampling by concepts: objectives, and the guide that descends them."""

from concord.informing.attach import attach, inform
from concord.informing.informer import Between, Informer, Mode
from concord.informing.objectives import (
    ImageEncoder,
    Objective,
    class_name,
    classifier,
    contrastive,
    cosine,
    total,
)

__all__ = [
    "Between",
    "ImageEncoder",
    "Informer",
    "Mode",
    "Objective",
    "attach",
    "class_name",
    "classifier",
    "contrastive",
    "cosine",
    "inform",
    "total",
]
