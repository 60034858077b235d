"""Random models a second's work away: the real classes, two layers each, seeded."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    CLIPConfig,
    CLIPModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    SiglipConfig,
    SiglipModel,
)

from concord.models.encoder import Encoder
from concord.models.preprocess import Preprocess

torch.set_num_threads(1)

LATENT = (4, 4, 4)
PIXELS = 8
WORDS = ("a", "cat", "dog", "with", "long", "short", "tail", "fur", "ears")
TEXT_LENGTH = 8


def transformer(learned_variance: bool = True) -> DiTTransformer2DModel:
    torch.manual_seed(1)
    return DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8 if learned_variance else 4,
        num_layers=2,
        sample_size=LATENT[1],
        patch_size=2,
        num_embeds_ada_norm=1000,
    ).eval()


def autoencoder() -> AutoencoderKL:
    torch.manual_seed(2)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=PIXELS,
        scaling_factor=0.7,
    ).eval()


def tiny_autoencoder() -> AutoencoderTiny:
    torch.manual_seed(3)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()


def scheduler() -> DDIMScheduler:
    return DDIMScheduler(beta_start=1e-4, beta_end=2e-2, clip_sample=False)


def pipeline(learned_variance: bool = True) -> DiTPipeline:
    """A DiTPipeline on latents (4, 4, 4) and images of 8 x 8 pixels."""
    names = {0: "cat, tabby", 1: "dog"}
    pipe = DiTPipeline(transformer(learned_variance), autoencoder(), scheduler(), id2label=names)
    pipe.register_to_config(id2label=names)  # or a saved pipeline forgets them
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tokenizer() -> PreTrainedTokenizerFast:
    special = ("<pad>", "<start>", "<unk>", "<end>")
    words = {word: i for i, word in enumerate((*special, *WORDS))}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=TEXT_LENGTH,
    )


def _towers() -> dict[str, dict[str, int]]:
    common = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 4 + len(WORDS), "max_position_embeddings": TEXT_LENGTH, "pad_token_id": 0}
    return {
        # With eos_token_id 2, transformers would fall back to a legacy pooling.
        "text_config": {**common, **text, "bos_token_id": 1, "eos_token_id": 3},
        "vision_config": {**common, "image_size": PIXELS, "patch_size": 4},
    }


def clip() -> CLIPModel:
    torch.manual_seed(4)
    # Larger than default weights: the default ones make all embeddings nearly alike.
    config = CLIPConfig(**_towers(), projection_dim=12, initializer_factor=8.0)
    return CLIPModel(config).eval()


def siglip() -> SiglipModel:
    torch.manual_seed(5)
    towers = _towers()
    towers["text_config"]["projection_size"] = 16
    return SiglipModel(SiglipConfig(**towers)).eval()


def preprocessor_config() -> dict[str, object]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": PIXELS},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": PIXELS, "width": PIXELS},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.4, 0.5, 0.6],
        "image_std": [0.2, 0.3, 0.4],
    }


def cached(cache: Path, model: str) -> Path:
    """Where the hub's cache keeps the files of a model, by its id; a reference leads there."""
    folder = cache / f"models--{model.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1234")
    return folder / "snapshots" / "1234"


def encoder(dtype: torch.dtype = torch.float32) -> Encoder:
    return Encoder(clip().to(dtype), tokenizer(), Preprocess.from_config(preprocessor_config()))


def save_encoder(folder: Path, model: CLIPModel | SiglipModel) -> Path:
    """A directory as `from_pretrained` wants it: weights, tokenizer, processor config."""
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))
    return folder


def resnet() -> ResNetForImageClassification:
    torch.manual_seed(6)
    names = {0: "cat", 1: "dog", 2: "eel"}
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=4,
            hidden_sizes=[4, 8],
            depths=[1, 1],
            layer_type="basic",
            id2label=names,
            label2id={name: i for i, name in names.items()},
        )
    ).eval()


def save_classifier(folder: Path) -> Path:
    resnet().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor_config()))
    return folder
