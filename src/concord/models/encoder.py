"""An image-text encoder (CLIP, SigLIP and others), differentiable from pixels, with text embeddings computed once."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.errors import ConcordError
from concord.models.hub import model_path
from concord.models.preprocess import Preprocess
from concord.models.pretrained import check_complete, loading

TEXTS = 64
"""Texts that are embedded together where they need not be alone."""


class Encoder:
    """psi of Eq. 10 to 12: images and texts to unit vectors of one space. Frozen; images stay differentiable."""

    def __init__(self, model: Any, tokenizer: Any, preprocess: Preprocess) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        # SigLIP was trained on padding up to its full length and without an attention mask.
        self._masked = not str(model.config.model_type).startswith("siglip")
        text = getattr(model.config, "text_config", model.config)
        positions = int(getattr(text, "max_position_embeddings", tokenizer.model_max_length))
        if "roberta" in str(getattr(text, "model_type", "")):
            positions -= int(text.pad_token_id) + 1  # its positions begin after padding's
        self._length = min(int(tokenizer.model_max_length), positions)
        self._temperature: float | None = None
        self._texts: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        key: str = "encoder",
    ) -> Self:
        """Load a directory or model id with its tokenizer and processor config; safetensors only.

        dtype: bfloat16 halves the memory, float16 lets CLIP's gradients underflow. key: the recipe's for it, in errors.
        """
        from transformers import AutoModel, AutoTokenizer

        with loading(model, key):
            network, info = AutoModel.from_pretrained(
                model, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(model)
        if not all(hasattr(network, name) for name in ("get_image_features", "get_text_features")):
            raise ConcordError(
                f'"{model}" is a {type(network).__name__}, which embeds no images and texts in one space; '
                f"set `{key}` to a CLIP or SigLIP model"
            )
        if not any(hasattr(network, name) for name in ("logit_scale", "temperature")):
            raise ConcordError(
                f'"{model}" is a {type(network).__name__}, whose temperature is not known (neither logit_scale nor'
                f" temperature); set `{key}` to another"
            )
        check_complete(info, model, key)
        encoder = cls(network, tokenizer, Preprocess.from_pretrained(model, key=key))
        _ = encoder.temperature  # read before the cast: 0.0100 would be 0.0101 in bfloat16
        network.to(device, dtype)
        return encoder

    @property
    def temperature(self) -> float:
        """The temperature that the encoder was trained with, 1 / exp(logit_scale): about 0.01 for CLIP."""
        if self._temperature is None:
            scale = getattr(self.model, "logit_scale", None)
            own = self.model.temperature if scale is None else torch.exp(-scale.detach().double())  # ALIGN has it
            self._temperature = float(own.detach())
        return self._temperature

    def images(self, pixels: Tensor) -> Tensor:
        """Unit embeddings (B, D), float32 or finer, of images (B, 3, H, W) in [-1, 1]; differentiable."""
        network_input = self.preprocess(pixels.to(self.model.device)).to(self.model.dtype)
        return _unit(_features(self.model.get_image_features(**self._image(network_input))))

    def _image(self, images: Tensor) -> dict[str, Tensor]:
        """What the network takes of images (B, 3, h, w): themselves; for SigLIP 2 of any size their patches."""
        if str(self.model.config.model_type) != "siglip2":
            return {"pixel_values": images}
        side = int(self.model.config.vision_config.patch_size)
        batch, channels, height, width = images.shape
        grid = images.view(batch, channels, height // side, side, width // side, side).permute(0, 2, 4, 3, 5, 1)
        patches = grid.reshape(batch, -1, side * side * channels)  # rows, then columns, then the three colours
        shapes = torch.tensor([[height // side, width // side]] * batch, device=images.device)
        mask = torch.ones(patches.shape[:2], dtype=torch.int32, device=images.device)
        return {"pixel_values": patches, "pixel_attention_mask": mask, "spatial_shapes": shapes}

    def texts(self, strings: Sequence[str]) -> Tensor:
        """Unit embeddings (N, D), float32 or finer, of strings, each cut to the model's length.

        Each string is embedded once, alone and padded to full length: its vector never depends on its neighbours, so
        that a run's bytes do not depend on the order of its batches.
        """
        vectors = [self._text(string) for string in strings]
        return torch.stack(vectors) if vectors else self._text("").new_empty(0, len(self._text("")))

    def texts_together(self, strings: Sequence[str]) -> Tensor:
        """The same in batches of `TEXTS`, and none is kept: many times as fast on a GPU.

        Their last bits depend on their neighbours: for what rates texts in a fixed order, not for what makes images.
        """
        parts = [self._embed(list(strings[first : first + TEXTS])) for first in range(0, len(strings), TEXTS)]
        return torch.cat(parts) if parts else self.texts([])

    def _text(self, string: str) -> Tensor:
        if string not in self._texts:
            self._texts[string] = self._embed([string])[0]
        return self._texts[string]

    def _embed(self, strings: list[str]) -> Tensor:
        tokens = self.tokenizer(
            strings, padding="max_length", truncation=True, max_length=self._length, return_tensors="pt"
        ).to(self.model.device)
        inputs = {"input_ids": tokens["input_ids"]}
        if self._masked:
            inputs["attention_mask"] = tokens["attention_mask"]
        with torch.no_grad():
            return _unit(_features(self.model.get_text_features(**inputs)))


def load_encoder(
    model: str, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, key: str = "encoder"
) -> Encoder:
    """Load an encoder by directory, model id or a name of the package (``reef:clip``), as `Encoder.from_pretrained`."""
    return Encoder.from_pretrained(model_path(model), dtype=dtype, device=device, key=key)


def _features(output: Any) -> Tensor:
    """The embeddings (B, D) in what a model's `get_..._features` returns: a tensor, or an object with them."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _unit(features: Tensor) -> Tensor:
    """Unit length in float32 at least: similarities are not to be rounded to half precision."""
    return F.normalize(features if features.dtype == torch.float64 else features.float(), dim=-1)
