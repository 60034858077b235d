"""DiT (Peebles and Xie 2023) out of a diffusers pipeline: class labels in, predictions with guidance out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concord.diffusion.sampler import Denoise
from concord.errors import ConcordError
from concord.models.dit_checkpoint import restore_frequencies
from concord.pipelines.base import Family
from concord.pipelines.load import EXPECTED, load_pipeline, load_tiny_decoder

NULL_CLASS = 1000  # a constant in DiTPipeline, too, whatever the number of classes in use


GUIDED_CHANNELS = 3  # of 4, in the original DiT and in Minimax


class DiT(Family):
    """A frozen `DiTPipeline` as the functions that the sampler needs, see `Family`."""

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None) -> None:
        super().__init__(pipeline, pipeline.transformer, tiny_decoder)
        restore_frequencies(pipeline.transformer)
        self.labels: dict[str, int] = pipeline.labels  # class id by name, as the checkpoint's id2label has them

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        tiny_decoder: str | None = None,
        checkpoint: str | None = None,
    ) -> DiT:
        """Load a directory or model id of a `DiTPipeline`, and of an `AutoencoderTiny` if wanted.

        checkpoint: a directory whose transformer takes the place of the pipeline's, as `concord convert` writes it.

        Raises:
            ConcordError: one cannot be loaded; names the key `pipeline.model`, `.tiny_decoder` or `.checkpoints`.
        """
        pipeline = load_pipeline(model, EXPECTED["dit"], dtype=dtype, device=device, transformer=checkpoint)
        return cls(pipeline, load_tiny_decoder(tiny_decoder, dtype=dtype, device=device))

    def denoise(self, labels: Sequence[int], guidance_scale: float = 4.0, channels: int | None = None) -> Denoise:
        """The prediction for images of these classes, classifier-free guidance included.

        labels: B class ids. guidance_scale: at 1 or below the batch is not doubled and nothing is guided, as in the
        stock pipeline. channels: see `classifier_free`; 3 is what the original DiT and Minimax do.

        Raises:
            ConcordError: a label outside the model's classes, or guidance asked of a model without null class 1000.
        """
        transformer = self.denoiser
        classes = transformer.config.num_embeds_ada_norm
        wrong = [label for label in labels if not 0 <= label < classes]
        if wrong:
            raise ConcordError(f"class ids {wrong} are outside the diffusion model's 0 to {classes - 1}")
        guided = guidance_scale > 1
        if guided and classes != NULL_CLASS:
            raise ConcordError(
                f"guidance needs a model whose null class is {NULL_CLASS}, but this one has {classes} classes; "
                "set `pipeline.guidance_scale` to 1, or train with num_embeds_ada_norm=1000"
            )
        ids = torch.tensor([*labels, *([NULL_CLASS] * len(labels) if guided else [])], device=transformer.device)

        def network(x: Tensor, t: Tensor) -> Tensor:
            output: Tensor = transformer(x, timestep=t.reshape(1).expand(len(x)), class_labels=ids).sample
            return output

        return self.guided(network, guidance_scale, "cond_uncond", channels)  # [cond ; uncond]
