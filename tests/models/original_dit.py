"""The DiT of the paper (Peebles and Xie 2023, Sec. 3 and Fig. 3) as one plain function, and random weights for it.

Nothing here knows diffusers: it is what a conversion is measured against. DiffFit's factors (Xie et al. 2023) multiply
the outputs of the attention's two linear layers and of the two branches, as Minimax has them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


def positions(grid: int, width: int) -> Tensor:
    """(1, grid^2, width): sines and cosines of the column, then of the row, each at width / 4 frequencies."""
    rates = [10000 ** (-k / (width // 4)) for k in range(width // 4)]
    table = [
        [wave(place * rate) for place in (column, row) for wave in (math.sin, math.cos) for rate in rates]
        for row in range(grid)
        for column in range(grid)
    ]
    return torch.tensor([table], dtype=torch.float64)


def random_state(
    *,
    depth: int = 3,
    width: int = 16,
    patch: int = 2,
    grid: int = 2,
    channels: int = 4,
    learned_variance: bool = True,
    classes: int = 10,
    folded: Iterable[int] = (),
    seed: int = 0,
) -> State:
    """Weights with the original names, random in every place, so that no part of the network is silent."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*shape: int, mean: float = 0.0) -> Tensor:
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 4
        return mean + torch.randn(shape, generator=rng) / math.sqrt(fan_in)

    layers = {
        "x_embedder.proj": (width, channels, patch, patch),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (patch * patch * channels * (2 if learned_variance else 1), width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for i in range(depth):
        layers[f"blocks.{i}.attn.qkv"] = (3 * width, width)
        layers[f"blocks.{i}.attn.proj"] = (width, width)
        layers[f"blocks.{i}.mlp.fc1"] = (4 * width, width)
        layers[f"blocks.{i}.mlp.fc2"] = (width, 4 * width)
        layers[f"blocks.{i}.adaLN_modulation.1"] = (6 * width, width)
    state = {"pos_embed": positions(grid, width).float()}
    state["y_embedder.embedding_table.weight"] = draw(classes + 1, width) * 4
    for name, shape in layers.items():
        state |= {f"{name}.weight": draw(*shape), f"{name}.bias": draw(shape[0])}
    for i in folded:
        for name in ("attn.gamma1", "attn.gamma2", "gamma1", "gamma2"):
            state[f"blocks.{i}.{name}"] = draw(3 * width if name == "attn.gamma1" else width, mean=1.0)
    return state


def forward(state: State, x: Tensor, t: Tensor, y: Tensor, heads: int, spread: int = 128) -> Tensor:
    """Predictions (B, channels or twice as many, H, W) in float64 for latents x, timesteps t (B,) and classes y (B,).

    spread: the timestep's frequencies are 10000^(-i / spread), i < 128; the published network has 128.
    """
    w = {name: value.double() for name, value in state.items()}
    width, _, patch, _ = w["x_embedder.proj.weight"].shape
    batch, grid = len(x), x.shape[-1] // patch

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def normal(value: Tensor) -> Tensor:
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def modulated(value: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return normal(value) * (1 + scale[:, None]) + shift[:, None]

    # The phases are float32 in every implementation: at t = 999 their rounding shows.
    phases = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / spread)
    time = linear("t_embedder.mlp.0", torch.cat([phases.cos(), phases.sin()], dim=1).double())
    condition = linear("t_embedder.mlp.2", functional.silu(time)) + w["y_embedder.embedding_table.weight"][y]
    condition = functional.silu(condition)

    cells = functional.unfold(x.double(), patch, stride=patch).transpose(1, 2)  # (B, grid^2, C * patch^2)
    kernel = w["x_embedder.proj.weight"].reshape(width, -1)
    tokens = cells @ kernel.T + w["x_embedder.proj.bias"] + positions(grid, width)

    for i in range(sum(name.endswith("attn.qkv.bias") for name in w)):
        block = f"blocks.{i}."
        a_shift, a_scale, a_gate, m_shift, m_scale, m_gate = linear(f"{block}adaLN_modulation.1", condition).chunk(6, 1)
        qkv = linear(f"{block}attn.qkv", modulated(tokens, a_shift, a_scale)) * w.get(f"{block}attn.gamma1", 1)
        q, k, v = qkv.reshape(batch, grid * grid, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        mixed = ((q @ k.mT) / math.sqrt(width // heads)).softmax(-1) @ v  # (B, heads, grid^2, width / heads)
        mixed = mixed.transpose(1, 2).reshape(batch, grid * grid, width)
        attended = linear(f"{block}attn.proj", mixed) * w.get(f"{block}attn.gamma2", 1)
        tokens = tokens + w.get(f"{block}gamma1", 1) * a_gate[:, None] * attended
        hidden = functional.gelu(linear(f"{block}mlp.fc1", modulated(tokens, m_shift, m_scale)), approximate="tanh")
        tokens = tokens + w.get(f"{block}gamma2", 1) * m_gate[:, None] * linear(f"{block}mlp.fc2", hidden)

    shift, scale = linear("final_layer.adaLN_modulation.1", condition).chunk(2, 1)
    pixels = linear("final_layer.linear", modulated(tokens, shift, scale))
    pixels = pixels.reshape(batch, grid, grid, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)  # (B, C, row, p, column, p)
    return pixels.reshape(batch, -1, grid * patch, grid * patch)
