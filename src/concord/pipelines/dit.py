"""DiT (Peebles and Xie 2023) out of a diffusers pipeline: class labels in, predictions with guidance out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from concord.data import ClassTable
from concord.errors import ConcordError
from concord.models.dit_checkpoint import restore_frequencies
from concord.pipelines.base import WHOLE, Conditioned, Family, fitting
from concord.pipelines.class_ids import class_ids
from concord.pipelines.load import load_family
from concord.pipelines.planned import Planned

NULL_CLASS = 1000  # a constant in DiTPipeline, too, whatever the number of classes in use
GUIDED_CHANNELS = 3  # of 4, in the original DiT and in Minimax


class DiT(Family):
    """A frozen `DiTPipeline` as the functions that the sampler needs, see `Family`."""

    def __init__(self, pipeline: Any, tiny_decoder: Any | None = None) -> None:
        super().__init__(pipeline, pipeline.transformer, tiny_decoder)
        restore_frequencies(pipeline.transformer)
        self.labels: dict[str, int] = pipeline.labels  # class id by name, as the checkpoint's id2label has them
        self._ids: tuple[ClassTable, list[int]] | None = None

    @classmethod
    def from_pretrained(cls, model: str, **options: Any) -> "DiT":
        """`load_family` of a `DiTPipeline`."""
        return load_family(model, among=("dit",), **options)

    def denoise(
        self,
        labels: Sequence[int],
        guidance_scale: float = 4.0,
        channels: int | None = None,
        window: tuple[float, float] = WHOLE,
    ) -> Conditioned:
        """The prediction for images of these classes, classifier-free guidance included.

        labels: B class ids. guidance_scale: at 1 or below the batch is not doubled and nothing is guided, as in the
        stock pipeline. channels: see `classifier_free`; 3 is what the original DiT and Minimax do. window: see
        `guided`.
        Raises ConcordError: a label outside the model's classes, or guidance asked of a model without null class 1000.
        """
        transformer, classes = self.denoiser, self.denoiser.config.num_embeds_ada_norm
        if wrong := [label for label in labels if not 0 <= label < classes]:
            raise ConcordError(f"class ids {wrong} are outside the diffusion model's 0 to {classes - 1}")
        guided = guidance_scale > 1
        if guided and classes != NULL_CLASS:
            raise ConcordError(
                f"guidance needs a model whose null class is {NULL_CLASS}, but this one has {classes} classes; "
                "set `pipeline.guidance_scale` to 1, or train with num_embeds_ada_norm=1000"
            )
        ids = torch.tensor([*labels, *([NULL_CLASS] * len(labels) if guided else [])], device=transformer.device)

        def network(x: Tensor, t: Tensor) -> Tensor:
            own = fitting(ids, x, "cond_uncond")
            output: Tensor = transformer(x, timestep=t.reshape(1).expand(len(x)), class_labels=own).sample
            return output

        return self.guided(network, guidance_scale, "cond_uncond", channels, window)  # [cond ; uncond]

    def denoise_samples(self, batch: Planned) -> Conditioned:
        classes, settings = batch.data.classes, batch.settings
        if self._ids is None or self._ids[0] is not classes:
            self._ids = classes, class_ids(self.labels, classes, str(settings.model))
        labels = [self._ids[1][sample.class_index] for sample in batch.samples]
        channels = settings.channels or (GUIDED_CHANNELS if settings.scheduler == "minimax" else None)
        return self.denoise(labels, self.guidance(settings), channels, settings.guidance.window)
