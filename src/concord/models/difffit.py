"""DiffFit (Xie et al. 2023): factors on a DiT's layers that are trained with its biases, and folded in afterwards."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_LAYERS = {"attn1.to_q": 1, "attn1.to_k": 1, "attn1.to_v": 1, "attn1.to_out.0": 2, "ff.net.2": 1}
"""A block's layers to the factors on their outputs: the projection has its own and the attention branch's."""


class Factored(nn.Module):
    """A linear layer whose outputs are multiplied by factors (D,), which are 1 at first."""

    def __init__(self, linear: nn.Linear, factors: int = 1) -> None:
        super().__init__()
        self.linear = linear
        ones = torch.ones(linear.out_features, device=linear.weight.device, dtype=linear.weight.dtype)
        self.gammas = nn.ParameterList([nn.Parameter(ones.clone()) for _ in range(factors)])

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.linear(x)
        for gamma in self.gammas:
            output = output * gamma
        return output

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The layer alone, its rows and biases multiplied by the factors."""
        for gamma in self.gammas:
            self.linear.weight.mul_(gamma[:, None])
            if self.linear.bias is not None:
                self.linear.bias.mul_(gamma)
        return self.linear


def prepare(transformer: Any) -> dict[str, nn.Parameter]:
    """Put factors into the first half of a DiT's blocks, and return all that is trained, by name.

    That is the factors, every bias, and the table of classes. Names that only sound like a norm are left out: diffusers
    calls the modulation of a block, whose weights the original keeps, ``norm1.linear``. Embedders of blocks that are
    the same are shared, as in the original, which has one.
    """
    _share(transformer)
    transformer.eval().requires_grad_(False)
    for block in transformer.transformer_blocks[: len(transformer.transformer_blocks) // 2]:
        for name, factors in _LAYERS.items():
            parent, _, last = name.rpartition(".")
            _replace(block.get_submodule(parent), last, Factored(block.get_submodule(name), factors))
    trained = {name: one for name, one in transformer.named_parameters() if _is_trained(name)}
    for parameter in trained.values():
        parameter.requires_grad_(True)
    return trained


def _is_trained(name: str) -> bool:
    return name.endswith(".bias") or ".gammas." in name or ".class_embedder." in name


def fold(transformer: Any) -> None:
    """Take the factors out again: they go into the layers, and every block has embedders of its own."""
    for block in transformer.transformer_blocks:
        for name in _LAYERS:
            if isinstance(layer := block.get_submodule(name), Factored):
                parent, _, last = name.rpartition(".")
                _replace(block.get_submodule(parent), last, layer.folded())
    for block in transformer.transformer_blocks[1:]:
        block.norm1.emb = copy.deepcopy(block.norm1.emb)
    transformer.requires_grad_(False)


def _replace(parent: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace a module by name, or by its number in a list."""
    if isinstance(parent, nn.ModuleList):
        parent[int(name)] = layer
    else:
        setattr(parent, name, layer)


def _share(transformer: Any) -> None:
    """Let all blocks have the embedders of the first, where theirs are equal."""
    first, *others = transformer.transformer_blocks
    if all(_alike(block.norm1.emb, first.norm1.emb) for block in others):
        for block in others:
            block.norm1.emb = first.norm1.emb


def _alike(one: nn.Module, other: nn.Module) -> bool:
    pairs: Iterator[tuple[Tensor, Tensor]] = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
