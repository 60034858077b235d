"""Factors at 1 change nothing, what is trained is what DiffFit trains, and folding leaves the outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel

from concord.models.difffit import fold, prepare


def dit(alike: bool = True) -> DiTTransformer2DModel:
    torch.manual_seed(0)
    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        sample_size=4,
        patch_size=2,
        num_embeds_ada_norm=1000,
    ).eval()
    for parameter in model.parameters():  # no bias is 0, as after training
        torch.nn.init.normal_(parameter, std=0.2)
    if alike:
        for block in model.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model


def output(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x, t, y = torch.randn(3, 4, 4, 4, generator=generator), torch.tensor([0, 400, 999]), torch.tensor([3, 1000, 7])
    with torch.no_grad():
        found: torch.Tensor = model(x, timestep=t, class_labels=y).sample
    return found


@pytest.mark.parametrize("alike", [True, False])
def test_factors_of_one_are_the_original_model(alike: bool) -> None:
    model = dit(alike)
    before = output(model)
    prepare(model)
    assert torch.equal(output(model), before)
    fold(model)
    assert torch.equal(output(model), before)
    assert model.state_dict().keys() == dit().state_dict().keys()


def test_what_is_trained_is_difffits() -> None:
    """Biases, factors of the first half of the blocks, and one table of classes; no weights of a layer."""
    model = dit()
    trained = prepare(model)
    width, half = 16, 2
    gammas = {name: one for name, one in trained.items() if ".gammas." in name}
    assert {int(name.split(".")[1]) for name in gammas} == {0, 1}
    # 3 D for queries, keys and values, D for the projection, and D each for the attention's and the MLP's branch.
    assert sum(one.numel() for one in gammas.values()) == half * 6 * width
    tables = [name for name in trained if "class_embedder" in name]
    assert len(tables) == 1 and trained[tables[0]].shape == (1001, width)
    rest = trained.keys() - gammas.keys() - set(tables)
    assert all(name.endswith(".bias") for name in rest)
    assert rest == {name for name, _ in model.named_parameters() if name.endswith(".bias")}
    assert {name for name, one in model.named_parameters() if one.requires_grad} == set(trained)


@pytest.mark.parametrize("alike", [True, False])
def test_folding_after_training_leaves_the_outputs(alike: bool) -> None:
    model = dit(alike)
    before = output(model)
    with torch.no_grad():
        for parameter in prepare(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    unfolded = output(model)
    assert not torch.allclose(unfolded, before, atol=1e-2)
    fold(model)
    assert torch.allclose(output(model), unfolded, atol=1e-5)
    again = copy.deepcopy(dit())
    again.load_state_dict(model.state_dict())  # a plain model of diffusers takes it
    assert torch.equal(output(again), output(model))
    pointers = [one.data_ptr() for one in model.state_dict().values()]
    assert len(set(pointers)) == len(pointers)  # a file takes no shared tensors
