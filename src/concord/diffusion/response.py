"""How much of a shift of the predicted noise is left in the image: what a solver's step is worth to a guide."""

import inspect
from typing import Any

import torch

from concord.diffusion.level import Level, ratio


def responses(scheduler: Any) -> list[float]:
    """By evaluation of a schedule: how far the final latents move when the noise predicted there is 1 larger.

    For latents that are standard normal, whose best prediction is known: eps = sigma x_t / (alpha^2 + sigma^2). It goes
    on to react to what was moved, so that an early shift is partly undone. Any solver is linear in its predictions;
    this runs the solver itself. Of DDIM in fine steps, dr = alpha d(sigma / alpha); negative, as noise is taken away.

    scheduler: one of diffusers whose timesteps are set; it stays as it is.
    """
    fresh = _fresh(scheduler)
    count, kind = len(fresh.timesteps), fresh.config.get("prediction_type", "flow_prediction")
    x = torch.zeros(count + 1, 1, 1, 1, dtype=torch.float64)  # a row a shift, and one for none
    draws = {"generator": [torch.Generator().manual_seed(0) for _ in x]}  # the same noise in each row
    extra = draws if "generator" in inspect.signature(fresh.step).parameters else {}
    for index, t in enumerate(fresh.timesteps):
        level = Level.from_scheduler(fresh, t, index)
        alpha, sigma, square = level.alpha, level.sigma, level.norm**2
        if hasattr(fresh, "scale_model_input"):
            fresh.scale_model_input(x, t)
        shift = torch.zeros_like(x)
        shift[index] = 1
        eps, x0 = sigma * x / square + shift, alpha * x / square - ratio(sigma, alpha) * shift
        value = eps if kind == "epsilon" else eps - x0
        if kind == "v_prediction":
            value = (alpha * eps - sigma * x0) / level.norm
        x = fresh.step(value, t, x, **extra).prev_sample
    moved: list[float] = (x[:-1] - x[-1]).flatten().tolist()
    return moved


def _fresh(scheduler: Any) -> Any:
    """A scheduler of the same schedule, at its start; none of its state is shared."""
    fixed = {"variance_type": "fixed_small"} if type(scheduler).__name__.startswith("DDPM") else {}
    fresh = type(scheduler).from_config(scheduler.config, **fixed)
    shifted = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting", False) else {}
    fresh.set_timesteps(scheduler.num_inference_steps or len(scheduler.timesteps), **shifted)
    for name in ("timesteps", "sigmas", "sigmas_interpol"):  # they may have been given, or shifted by the image's size
        if isinstance(own := getattr(scheduler, name, None), torch.Tensor):
            setattr(fresh, name, own.detach().cpu().clone())
    if hasattr(fresh, "set_begin_index"):
        fresh.set_begin_index(0)
    return fresh
