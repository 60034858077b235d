"""Networks of published shapes: as many parameters as their authors say, random weights that disturb no other draw."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from concord.models import untrained
from concord.models.configurations import configuration, published, published_models
from concord.models.encoder import Encoder
from concord.registry import METHODS

DIT, UNCLIP = "facebook/DiT-XL-2-256", "radames/stable-diffusion-2-1-unclip-img2img"
CLIP, SD = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K", "stable-diffusion-v1-5/stable-diffusion-v1-5"


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def dit_xl_by_hand() -> int:
    """675 M of the paper, and diffusers' embeddings of timestep and class in each block, which the original shares."""
    d, mlp = 1152, 4 * 1152
    attention = 4 * (d * d + d)
    block = attention + d * mlp + mlp + mlp * d + d + 6 * d * d + 6 * d
    embeddings = 256 * d + d + d * d + d + 1001 * d
    ends = 4 * 4 * d + d + 2 * d * d + 2 * d + d * 32 + 32
    whole = 28 * block + embeddings + ends
    # The paper's 675 M holds the fixed position embedding of 256 tokens, too, which is no parameter here.
    assert round((whole + 256 * d) / 1e6) == 675
    return whole + 27 * embeddings


@pytest.mark.parametrize(
    ("model", "part", "count"),
    [
        (DIT, "transformer", dit_xl_by_hand()),
        (DIT, "vae", 83_653_863),  # of Stable Diffusion's first stage
        (UNCLIP, "vae", 83_653_863),
        # Stable Diffusion 2's UNet, and a perceptron from 2 x 1024 numbers to the 1280 of its time embedding.
        (UNCLIP, "unet", 865_910_724 + 2048 * 1280 + 1280 + 1280 * 1280 + 1280),
        # OpenCLIP's ViT-H/14 has 986,109,441: its image tower, and 354,032,641 of text with the 24th layer, which has
        # 12 d^2 + 13 d of them, the projection (1024 x 1024) and the temperature.
        (UNCLIP, "image_encoder", 986_109_441 - 354_032_641),
        (UNCLIP, "text_encoder", 354_032_641 - (12 * 1024**2 + 13 * 1024) - 1024**2 - 1),
        (SD, "unet", 859_520_964),
        (SD, "text_encoder", 123_060_480),
    ],
)
def test_a_published_network_has_as_many_parameters_as_its_authors_say(model: str, part: str, count: int) -> None:
    files = configuration(model)
    assert files is not None
    with untrained.random_weights(device="meta"):
        network = getattr(untrained.pipeline(files, model), part)
    assert parameters(network) == count


def test_the_encoder_and_the_tiny_decoder_are_the_published_ones() -> None:
    with untrained.random_weights(device="meta"):
        encoder = untrained.encoder(configuration(CLIP) or {}, CLIP)
        taesd = untrained.network(configuration("madebyollin/taesd") or {})
    assert parameters(encoder.model) == 427_616_513  # OpenAI's and OpenCLIP's ViT-L/14
    # Convolutions by hand, 3 x 3: a block has three of 64 to 64, with biases; ten blocks a side.
    inner, block = 9 * 64 * 64, 3 * (9 * 64 * 64 + 64)
    coder = 10 * block + 3 * inner
    assert parameters(taesd) == 2 * coder + 2 * (9 * 3 * 64) + 64 + 3 + 2 * (9 * 4 * 64) + 64 + 4
    assert (encoder.preprocess.side, encoder.preprocess.mean) == (224, (0.5, 0.5, 0.5))


def test_every_published_record_says_where_its_numbers_are_from() -> None:
    assert {DIT, UNCLIP, CLIP, SD, "madebyollin/taesd"} == set(published_models())
    for model in published_models():
        record = published(model)
        assert record is not None
        assert (record["schema"], record["model"]) == (1, model)
        assert len(record["source"]) > 20
    own = {name: METHODS.get(name).pipeline.get("model") for name in ("dit", "unclip")}
    assert set(own.values()) <= set(published_models())  # what the methods take where a recipe names nothing
    assert published("nobody/nothing") is None
    assert configuration("nobody/nothing") is None


def test_random_weights_are_one_draw_and_leave_others_alone(tmp_path: Path) -> None:
    tiny.pipeline().save_pretrained(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    made = []
    for dtype in (torch.float32, torch.float32, torch.bfloat16):
        with untrained.random_weights(dtype):
            made.append(untrained.pipeline(configuration(str(tmp_path)) or {}, "tiny").transformer)
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_default_dtype() == torch.float32
    first, second, half = (dict(network.named_parameters()) for network in made)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {p.dtype for p in half.values()} == {torch.bfloat16}
    given = dict(tiny.transformer().named_parameters())
    assert {name: p.shape for name, p in first.items()} == {name: p.shape for name, p in given.items()}


def test_a_directory_is_read_as_a_published_model_is(tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path / "clip", tiny.clip())
    with untrained.random_weights():
        built = untrained.encoder(configuration(str(tmp_path / "clip")) or {}, "clip")
    loaded = Encoder.from_pretrained(str(tmp_path / "clip"))
    assert built.preprocess == loaded.preprocess
    pixels = torch.zeros(2, 3, 12, 12)
    assert built.images(pixels).shape == loaded.images(pixels).shape
    assert built.texts(["a cat with long fur", "a dog"]).shape == loaded.texts(["a", "b"]).shape


def test_the_stand_in_for_a_tokenizer_cuts_and_pads_as_the_real_one() -> None:
    tokens = untrained.tokenizer(8, 49408)
    found = tokens(["one two", "a b c d e f g h i j"], padding="max_length", truncation=True, return_tensors="pt")
    assert found.input_ids.shape == (2, 8)
    assert found.input_ids[0].tolist() == [49406, 0, 0, 49407, 49407, 49407, 49407, 49407]
    assert found.input_ids[1].tolist() == [49406, 0, 0, 0, 0, 0, 0, 49407]
    assert found.attention_mask[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert untrained.tokenizer(8, 13)(["one"]).input_ids == [[11, 0, 12]]  # of a small vocabulary
