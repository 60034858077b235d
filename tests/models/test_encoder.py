"""The encoder: what it says of an image or a phrase must be what the library's own model says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers.models.siglip2.image_processing_siglip2 import Siglip2ImageProcessor

import tiny
from concord.errors import ConcordError
from concord.models.encoder import Encoder

PHRASES = ["a cat with long fur", "dog", "a dog with short tail"]


def pixels(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, tiny.PIXELS, tiny.PIXELS, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("make", [tiny.clip, tiny.siglip])
def test_embeddings_are_the_librarys_own_normalised(make: Any, tmp_path: Path) -> None:
    encoder = Encoder.from_pretrained(str(tiny.save_encoder(tmp_path, make())))
    model = make()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        image = model.get_image_features(pixel_values=((pixels() + 1) / 2 - mean) / std).pooler_output
        tokens = tiny.tokenizer()(PHRASES, padding="max_length", max_length=tiny.TEXT_LENGTH, return_tensors="pt")
        masked = {"attention_mask": tokens["attention_mask"]} if make is tiny.clip else {}
        text = model.get_text_features(input_ids=tokens["input_ids"], **masked).pooler_output
    torch.testing.assert_close(encoder.images(pixels()), F.normalize(image, dim=1))
    torch.testing.assert_close(encoder.texts(PHRASES), F.normalize(text, dim=1))
    assert encoder.temperature == pytest.approx(math.exp(-float(model.logit_scale.detach())))


def test_gradients_reach_the_pixels_and_no_weight() -> None:
    encoder = tiny.encoder()
    x = pixels().requires_grad_()
    (g,) = torch.autograd.grad(encoder.images(x)[:, 0].sum(), x)
    assert g.abs().amax(dim=(1, 2, 3)).min() > 0
    assert not any(p.requires_grad for p in encoder.model.parameters())
    assert not encoder.texts(PHRASES).requires_grad


def test_each_phrase_is_embedded_once_and_whatever_its_neighbours() -> None:
    encoder = tiny.encoder()
    calls = 0
    inner = encoder.model.get_text_features

    def counted(**inputs: torch.Tensor) -> Any:
        nonlocal calls
        calls += 1
        return inner(**inputs)

    encoder.model.get_text_features = counted
    together = encoder.texts([*PHRASES, PHRASES[0]])
    assert calls == 3
    assert torch.equal(together[0], together[3])
    assert torch.equal(tiny.encoder().texts(PHRASES[1:2])[0], together[1])  # bit by bit
    encoder.texts(PHRASES)
    assert calls == 3


def test_texts_that_are_embedded_together_are_those_that_are_embedded_alone() -> None:
    encoder, sizes = tiny.encoder(), list[int]()
    inner = encoder.model.get_text_features

    def counted(**inputs: torch.Tensor) -> Any:
        sizes.append(len(inputs["input_ids"]))
        return inner(**inputs)

    encoder.model.get_text_features = counted
    many = [f"{PHRASES[n % 3]} {n}" for n in range(70)]
    together = encoder.texts_together(many)
    assert sizes == [64, 6]
    assert torch.allclose(together, encoder.texts(many), atol=1e-6)
    assert len(sizes) == 2 + 70  # those were not kept for what needs each alone
    assert encoder.texts_together([]).shape == (0, together.shape[1])


def test_no_phrases_are_an_empty_table() -> None:
    assert tiny.encoder().texts([]).shape == (0, 12)


def test_a_long_phrase_is_cut_to_the_models_length() -> None:
    encoder = tiny.encoder()
    long = " ".join(["a cat with long fur"] * 5)
    assert encoder.texts([long]).isfinite().all()
    torch.testing.assert_close(encoder.texts([long]), encoder.texts([long + " dog dog dog"]))


def test_half_precision_gives_float32_embeddings() -> None:
    encoder = tiny.encoder(torch.bfloat16)
    for embedding in (encoder.images(pixels()), encoder.texts(PHRASES)):
        assert embedding.dtype == torch.float32
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(len(embedding)))
    assert tiny.encoder(torch.float64).images(pixels().double()).dtype == torch.float64


def test_what_is_missing_or_wrong_names_the_key(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="set `encoder`"):
        Encoder.from_pretrained(str(tmp_path / "none"))
    with pytest.raises(ConcordError, match=r"set `scorer\.model`"):
        Encoder.from_pretrained(str(tmp_path / "none"), key="scorer.model")
    with pytest.raises(ConcordError, match="embeds no images and texts"):
        folder = tiny.save_classifier(tmp_path / "resnet")
        tiny.tokenizer().save_pretrained(folder)
        Encoder.from_pretrained(str(folder))


def test_weights_that_leave_a_part_random_are_refused(tmp_path: Path) -> None:
    folder = tiny.save_encoder(tmp_path, tiny.clip())
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConcordError, match=r"visual_projection\.weight"):
        Encoder.from_pretrained(str(folder))


def test_the_temperature_is_the_checkpoints_own_also_in_bfloat16(tmp_path: Path) -> None:
    model = tiny.clip()
    with torch.no_grad():
        model.logit_scale.fill_(4.6052)  # CLIP's: a temperature of 0.01, which bfloat16 would round to 0.0101
    folder = tiny.save_encoder(tmp_path / "clip", model)
    encoder = Encoder.from_pretrained(str(folder), dtype=torch.bfloat16)
    assert encoder.model.dtype == torch.bfloat16
    assert encoder.temperature == pytest.approx(0.01, rel=1e-4)


TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = {"vocab_size": 4 + len(tiny.WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
TEXT = {**TOWER, **WORDS, "max_position_embeddings": tiny.TEXT_LENGTH + 1}
SIGHT = {**TOWER, "image_size": tiny.PIXELS, "patch_size": 4}


@pytest.mark.parametrize("name", ["ChineseCLIP", "AltCLIP", "Blip", "MetaClip2"])
def test_any_model_with_image_and_text_features_embeds_as_the_library_has_it(name: str, tmp_path: Path) -> None:
    torch.manual_seed(3)
    text = TEXT | ({"encoder_hidden_size": 16, "image_text_hidden_size": 12} if name == "Blip" else {"project_dim": 12})
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=SIGHT, projection_dim=12)
    model = getattr(transformers, f"{name}Model")(config).eval()
    encoder = Encoder.from_pretrained(str(tiny.save_encoder(tmp_path, model)))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    tokens = tiny.tokenizer()(PHRASES, padding="max_length", max_length=tiny.TEXT_LENGTH, return_tensors="pt")
    given = {key: tokens[key] for key in ("input_ids", "attention_mask")}
    x = pixels().requires_grad_()
    with torch.no_grad():
        image = model.get_image_features(pixel_values=((x + 1) / 2 - mean) / std).pooler_output
        words = model.get_text_features(**given).pooler_output
    torch.testing.assert_close(encoder.images(x), F.normalize(image, dim=1))
    torch.testing.assert_close(encoder.texts(PHRASES), F.normalize(words, dim=1), rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(encoder.images(x)[:, 0].sum(), x)
    assert float(gradient.abs().max()) > 0


def test_siglip_2_of_any_size_sees_the_patches_of_its_own_processor(tmp_path: Path) -> None:
    torch.manual_seed(3)
    vision = {**TOWER, "patch_size": 4, "num_patches": 16}
    config = transformers.Siglip2Config(text_config={**TEXT, "projection_size": 16}, vision_config=vision)
    model = transformers.Siglip2Model(config).eval()
    processor = Siglip2ImageProcessor(patch_size=4, max_num_patches=16)
    tiny.save_encoder(tmp_path, model)
    processor.save_pretrained(tmp_path)
    encoder = Encoder.from_pretrained(str(tmp_path))
    assert encoder.preprocess.side == 16
    bytes_ = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = processor(images=list(bytes_), return_tensors="pt")
        expected = model.get_image_features(**given).pooler_output
    torch.testing.assert_close(encoder.images(bytes_ / 127.5 - 1), F.normalize(expected, dim=1), rtol=1e-4, atol=1e-5)
