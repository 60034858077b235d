"""Random pipelines of the real classes, two layers each: what `tiny` has for DiT, for every other family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    LCMScheduler,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from PIL import Image
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    T5Config,
    T5EncoderModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import tiny

_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
VOCABULARY = 4 + len(tiny.WORDS)


def _text_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tiny.TEXT_LENGTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=3,
        projection_dim=16,
    )


def _t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=16, num_layers=2, num_heads=2))


def _unet(**options: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=tiny.LATENT[1],
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        norm_num_groups=4,
        **({"cross_attention_dim": 16} | options),
    )


def _pndm(prediction_type: str) -> PNDMScheduler:
    return PNDMScheduler(
        **_BETAS, prediction_type=prediction_type, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1
    )


def _shifted_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        sample_size=tiny.PIXELS,
        scaling_factor=1.5,
        shift_factor=0.06,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def unclip() -> StableUnCLIPImg2ImgPipeline:
    """v-prediction, conditioned on a CLIP image embedding, as SD 2.1 unCLIP is."""
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=tiny.PIXELS,
        patch_size=4,
        projection_dim=12,
    )
    size = {"height": tiny.PIXELS, "width": tiny.PIXELS}
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessorPil(size={"shortest_edge": tiny.PIXELS}, crop_size=size),
        image_encoder=CLIPVisionModelWithProjection(vision),
        image_normalizer=StableUnCLIPImageNormalizer(12),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tiny.tokenizer(),
        text_encoder=CLIPTextModel(_text_config()),
        unet=_unet(class_embed_type="projection", projection_class_embeddings_input_dim=24),
        scheduler=_pndm("v_prediction"),
        vae=tiny.autoencoder(),
    )


def stable_diffusion(**unet: Any) -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=tiny.autoencoder(),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=tiny.tokenizer(),
        unet=_unet(**unet),
        scheduler=_pndm("epsilon"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def xl(**unet: Any) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=tiny.autoencoder(),
        text_encoder=CLIPTextModel(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        tokenizer=tiny.tokenizer(),
        tokenizer_2=tiny.tokenizer(),
        unet=_unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
            use_linear_projection=True,
            **unet,
        ),
        scheduler=EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading", steps_offset=1),
    )


def distilled(build: Callable[..., Any], scheduler: type[Any]) -> Any:
    """A pipeline whose UNet takes the guidance scale itself, as those of LCM do."""
    pipe = build(time_cond_proj_dim=8)
    pipe.scheduler = scheduler(**_BETAS)
    return pipe


def sd3() -> StableDiffusion3Pipeline:
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=tiny.LATENT[1],
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_projection_dim=16,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=8,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_shifted_vae(),
        text_encoder=CLIPTextModelWithProjection(_text_config()),
        text_encoder_2=CLIPTextModelWithProjection(_text_config()),
        text_encoder_3=_t5(),
        tokenizer=tiny.tokenizer(),
        tokenizer_2=tiny.tokenizer(),
        tokenizer_3=tiny.tokenizer(),
    )


def pixart() -> PixArtSigmaPipeline:
    """Learned variance and DPM-Solver++, as PixArt-Sigma has."""
    return PixArtSigmaPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=_t5(),
        vae=tiny.autoencoder(),
        transformer=PixArtTransformer2DModel(
            sample_size=tiny.LATENT[1],
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            caption_channels=32,
            in_channels=4,
            out_channels=8,
            cross_attention_dim=16,
            use_additional_conditions=False,
        ),
        scheduler=DPMSolverMultistepScheduler(),
    )


def flux() -> FluxPipeline:
    """Latents packed into tokens; its schedule is shifted by the image's size."""
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        text_encoder=CLIPTextModel(_text_config()),
        tokenizer=tiny.tokenizer(),
        text_encoder_2=_t5(),
        tokenizer_2=tiny.tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        ),
        vae=_shifted_vae(),
    )


def sana() -> SanaPipeline:
    """An AutoencoderDC, and flow prediction by DPM-Solver++."""
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        downsample_block_type="conv",
        upsample_block_type="interpolate",
        decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
        scaling_factor=0.41407,
    )
    return SanaPipeline(
        tokenizer=tiny.tokenizer(),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=VOCABULARY,
                hidden_size=8,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=4,
            )
        ),
        vae=vae,
        transformer=SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=tiny.LATENT[1],
            patch_size=1,
        ),
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, algorithm_type="dpmsolver++"
        ),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "dit": tiny.pipeline,
    "unclip": unclip,
    "sd": stable_diffusion,
    "xl": xl,
    "sd3": sd3,
    "pixart": pixart,
    "flux": flux,
    "sana": sana,
    "lcm": lambda: distilled(stable_diffusion, LCMScheduler),
}


def pipeline(name: str) -> Any:
    """A family's pipeline: seeded, in eval mode (T5 has dropout), without its progress bar."""
    torch.manual_seed(11)
    pipe = FAMILIES[name]()
    for network in pipe.components.values():
        if isinstance(network, torch.nn.Module):
            network.eval()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(colour: str, size: int = 10) -> Image.Image:
    """A condition image."""
    return Image.new("RGB", (size, size), colour)
