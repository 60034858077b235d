"""The shapes of reef's small models: the same classes as the real thing, a thousandth of the size.

Nothing else in the package knows them: every model is loaded from its directory by its library's `from_pretrained`.
"""

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, DiTTransformer2DModel
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast, ResNetConfig, ResNetForImageClassification

from concord.reef.text import PHRASES, vocabulary
from concord.reef.world import DETAILS, NUISANCES, SIZE, SPECIES

LATENT_SIZE, TEXT_LENGTH = SIZE // 4, 32


def autoencoder() -> AutoencoderKL:
    """The full autoencoder: 64 x 64 pixels to latents of shape (4, 16, 16)."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=SIZE,
    )


def tiny_autoencoder() -> AutoencoderTiny:
    """The smaller decoder for gradients, beside the full one as TAESD stands beside the VAE of Stable Diffusion."""
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(24, 24, 24),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def transformer() -> DiTTransformer2DModel:
    """A DiT of 7 blocks of width 192 on 64 tokens.

    `num_embeds_ada_norm` is 1000 although there are ten classes: `DiTPipeline` hard-codes 1000 as its null class.
    """
    return DiTTransformer2DModel(
        num_attention_heads=3,
        attention_head_dim=64,
        in_channels=4,
        out_channels=4,
        num_layers=7,
        sample_size=LATENT_SIZE,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )


def scheduler() -> DDIMScheduler:
    """The training schedule of DiT; `clip_sample` is off because latents exceed [-1, 1]."""
    return DDIMScheduler(beta_start=1e-4, beta_end=2e-2, beta_schedule="linear", clip_sample=False)


def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over reef's vocabulary, framed by start and end tokens as CLIP's is."""
    special = ("<pad>", "<start>", "<unk>", "<end>")
    words = {word: i for i, word in enumerate((*special, *vocabulary()))}
    core = Tokenizer(WordLevel(words, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", words["<start>"]), ("<end>", words["<end>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=TEXT_LENGTH,
    )


def clip() -> CLIPModel:
    """An image-text encoder: vision 5 x 128 on patches of 8 pixels, text 3 x 128."""
    return _clip(width=128, heads=2, patch=8, vision_layers=5, text_layers=3)


def clip_2() -> CLIPModel:
    """Another one, to judge what the first has informed: vision 4 x 96 on patches of 4 pixels, text 2 x 96."""
    return _clip(width=96, heads=3, patch=4, vision_layers=4, text_layers=2)


def _clip(width: int, heads: int, patch: int, vision_layers: int, text_layers: int) -> CLIPModel:
    both = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
    text = {"vocab_size": 4 + len(vocabulary()), "num_hidden_layers": text_layers}
    text |= {"max_position_embeddings": TEXT_LENGTH}
    # An end token of 2 would pool as of old.
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 3}
    vision = {"num_hidden_layers": vision_layers, "image_size": SIZE, "patch_size": patch}
    return CLIPModel(CLIPConfig(text_config=both | text | tokens, vision_config=both | vision, projection_dim=width))


def _resnet(labels: tuple[str, ...], problem: str) -> ResNetForImageClassification:
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=32,
            hidden_sizes=[40, 80, 128],
            depths=[2, 2, 1],
            layer_type="basic",
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type=problem,
        )
    )


def detector() -> ResNetForImageClassification:
    """One logit a detail, labelled with its phrase, in the order of `DETAILS`."""
    return _resnet(tuple(PHRASES[d] for d in DETAILS), "multi_label_classification")


def teacher() -> ResNetForImageClassification:
    """One logit a species."""
    return _resnet(tuple(s.name for s in SPECIES), "single_label_classification")


def nuisance_regressor() -> ResNetForImageClassification:
    """Reads what varies without meaning, so that diversity is measured where it is wanted."""
    return _resnet(NUISANCES, "regression")


def preprocessor_config() -> dict[str, object]:
    """What an image goes through before any of these encoders: 64 pixels, mean and deviation one half."""
    resized = {"do_resize": True, "size": {"shortest_edge": SIZE}, "resample": 3}
    cropped = {"do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}}
    scaled = {"do_rescale": True, "rescale_factor": 1 / 255}
    normalised = {"do_normalize": True, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    return {"image_processor_type": "CLIPImageProcessor", **resized, **cropped, **scaled, **normalised}


def as_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 images (B, 64, 64, 3) as network input (B, 3, 64, 64) in [-1, 1]."""
    return images.permute(0, 3, 1, 2).float().div(127.5).sub(1)
