"""A small world to guide in: random networks of the real classes, and concepts for a batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from concord.diffusion import Level, Step, clean_estimate, noise
from concord.guidance import ConceptGuide, Objective, total
from concord.models.encoder import Encoder
from concord.pipelines.dit import DiT

TAU = 0.1
T = 480


class World:
    """Tiny random DiT, decoder and CLIP of one precision, and concepts for a batch."""

    def __init__(self, batch: int, dtype: torch.dtype = torch.float64, learned: bool = True) -> None:
        self.model = DiT(tiny.pipeline(learned).to(dtype), tiny.tiny_autoencoder().to(dtype))
        self.encoder: Encoder = tiny.encoder(dtype)
        draw = torch.Generator().manual_seed(9)
        self.positives = F.normalize(torch.randn(batch, 3, 12, generator=draw, dtype=dtype), dim=-1)
        self.negatives = F.normalize(torch.randn(batch, 4, 12, generator=draw, dtype=dtype), dim=-1)
        self.labels = [i % 10 for i in range(batch)]
        self.x_T = noise(range(batch), tiny.LATENT, dtype)
        self.objectives = [Objective.contrastive(self.positives, self.negatives, TAU)]

    def guide(self, **options: Any) -> ConceptGuide:
        return ConceptGuide(self.objectives, self.model.decode, self.encoder, **options)

    def loss(self, x0: Tensor) -> Tensor:
        return total(self.objectives, self.model.decode(x0), self.encoder)

    def eq_12_of_eq_8(self, x_t: Tensor, abar: Tensor, t: int, scale: float) -> Tensor:
        """The objective as the paper writes it, from raw modules: Eq. 8 into decoder and encoder into Eq. 12, (B,)."""
        pipe = self.model.pipeline
        ids = torch.tensor(self.labels + [1000] * len(x_t))
        out = pipe.transformer(torch.cat([x_t, x_t]), timestep=torch.full((len(ids),), t), class_labels=ids).sample
        cond, uncond = out[: len(x_t), :4], out[len(x_t) :, :4]
        eps = uncond + scale * (cond - uncond)
        x0 = x_t / abar.sqrt() - (1 - abar).sqrt() / abar.sqrt() * eps
        images = pipe.vae.decode(x0 / 0.7).sample
        mean, std = (torch.tensor(v, dtype=x_t.dtype).view(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
        towers = self.encoder.model
        feature = towers.visual_projection(towers.vision_model(((images + 1) / 2 - mean) / std).pooler_output)
        psi = feature / feature.norm(dim=1, keepdim=True)
        p = (torch.einsum("bd,bpd->bp", psi, self.positives) / TAU).exp()
        n = (torch.einsum("bd,bnd->bn", psi, self.negatives) / TAU).exp().sum(dim=1, keepdim=True)
        return -(p / (p + n)).log().mean(dim=1)


def abar_at(t: int) -> Tensor:
    return tiny.scheduler().alphas_cumprod[t].double()


def step_at(
    world: World, x_t: Tensor, graph: bool, scheduler: Any = None, t: int = T, scale: float = 3.0, index: int = 0
) -> Step:
    scheduler = scheduler or tiny.scheduler()
    level = Level.from_scheduler(scheduler, t, index)
    with torch.set_grad_enabled(graph):
        x_t = x_t.detach().requires_grad_(graph)
        prediction = world.model.denoise(world.labels, scale)(x_t, t)
        x0 = clean_estimate(prediction, x_t, level)
    return Step(index, 50, t, x_t, prediction, level, x0, scheduler)
