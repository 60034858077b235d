"""The count of operations, against formulas by hand and against a whole sampling counted step by step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import informing_cost as cost
import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

import tiny
from concord.models.encoder import Encoder
from concord.models.preprocess import Preprocess
from concord.pipelines.dit import DiT
from concord.recipe import Informing


def counted(work: Any) -> int:
    with cost.Counter() as counter:
        work()
    return int(counter.get_total_flops())


def test_attention_is_counted_forwards_and_backwards() -> None:
    """Two products of N x N x D a head, two operations a multiply-add; twice that in the backward pass."""
    q, k, v = (torch.empty(2, 16, 256, 72, device="meta", requires_grad=True) for _ in range(3))
    once = 2 * 2 * (2 * 16 * 256 * 256 * 72)
    assert counted(lambda: F.scaled_dot_product_attention(q, k, v)) == once
    assert counted(lambda: torch.autograd.grad(F.scaled_dot_product_attention(q, k, v).sum(), (q, k, v))) == 3 * once


def test_dit_xl_is_its_formula() -> None:
    with torch.device("meta"):
        model = cost.dit_xl()
    n, d, layers, batch = 256, 1152, 28, 2  # tokens, width, blocks, images under guidance
    tokens = 12 * n * d * d + 2 * n * n * d  # q, k, v, out; two layers of 4 d; attention
    embedding = 256 * d + d * d  # diffusers gives every block a timestep embedding of its own
    modulation = 6 * d * d
    ends = n * 16 * d + n * d * 32 + 2 * d * d + embedding  # patches in and out, and the last modulation
    assert cost.operations(model) == 2 * batch * (layers * (tokens + embedding + modulation) + ends)
    assert cost.operations(model) == pytest.approx(0.475e12, rel=0.01)  # the published 118.6 G multiply-adds, twice 2


def test_clip_l_is_its_formula() -> None:
    with torch.device("meta"):
        encoder = cost.clip_l()
    n, d = 257, 1024
    forward = 2 * (24 * (12 * n * d * d + 2 * n * n * d) + 256 * 3 * 14 * 14 * d + d * 768)
    pixels = torch.zeros(1, 3, 224, 224, device="meta", requires_grad=True)
    assert counted(lambda: encoder.images(pixels)) == forward
    backward = counted(lambda: torch.autograd.grad(encoder.images(pixels).sum(), pixels)) - forward
    # By the input alone, products cost as much as forwards; attention, whose factors both depend on it, twice.
    assert backward == forward + 2 * 24 * 2 * n * n * d


def small() -> tuple[cost.Model, Encoder]:
    with torch.device("meta"):
        transformer = DiTTransformer2DModel(2, 8, 4, 8, 2, sample_size=4, patch_size=2, num_embeds_ada_norm=1000)
        pipeline = DiTPipeline(transformer, tiny.autoencoder(), DDIMScheduler(clip_sample=False))
        tiny_one = AutoencoderTiny(
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1),
            num_decoder_blocks=(1, 1),
        )
        model = DiT(pipeline, tiny_one)
        vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = CLIPConfig(vision_config=vision | {"image_size": 8, "patch_size": 4}, projection_dim=8)
        encoder = Encoder(CLIPModel(config), SimpleNamespace(model_max_length=8), Preprocess(8, (8, 8)))
    return cost.Model("small", model, lambda n: model.denoise([0] * n, 4.0)), encoder


@pytest.mark.parametrize(
    ("setting", "gradients"),
    [
        ({"mode": "exact"}, 6),
        ({"decoder": "tiny", "window": (0.4, 0.9)}, 3),
        ({"decoder": "tiny", "window": (0.4, 0.9), "every": 2, "between": "hold"}, 2),
    ],
)
def test_the_sum_over_the_schedule_is_what_a_whole_sampling_counts(setting: dict[str, Any], gradients: int) -> None:
    model, encoder = small()
    informing = Informing.model_validate(setting)
    count = cost.Count(model, encoder)
    assert count.sampling(None, steps=6) == cost.operations(model, steps=6, decoded=True)
    guide = cost.concept_guide(model, encoder, informing)
    whole = cost.operations(model, guide, steps=6, decoded=True)
    assert count.sampling(informing, steps=6) == whole
    assert whole == count.sampling(None, steps=6) + gradients * count.gradient(informing)


def test_early_stops_enter_as_the_active_share() -> None:
    model, encoder = small()
    count, never = cost.Count(model, encoder), Informing(decoder="tiny")
    stopping = never.model_copy(update={"stop": 0.1})
    base, full = count.sampling(None), count.sampling(never, 0.25)
    assert count.sampling(stopping, 0.25) - base == pytest.approx((full - base) / 4)
    assert full == count.sampling(never)  # who never stops is never cheaper


@pytest.mark.parametrize(("build", "exact", "at_most"), [(cost.dit_xl, 5.2, 1.25), (cost.sd21_unclip, 5.0, 1.10)])
def test_the_fast_mode_costs_little_at_real_size(build: Any, exact: float, at_most: float) -> None:
    """The promise of the fast recipes, beside the paper's mode at what the literature's figures make it."""
    with torch.device("meta"):
        shapes = build(), cost.clip_l()
    count, settings = cost.Count(*shapes), cost.settings()
    base = count.sampling(None)
    assert count.sampling(settings["exact"]) / base == pytest.approx(exact, rel=0.02)
    assert count.sampling(settings["fast"]) / base < at_most
