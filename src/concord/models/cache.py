"""The models of one recipe beside its diffusion model, each loaded once, at first need; so is torch, with the first."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from concord.models.hub import model_path
from concord.recipe import Recipe
from concord.system import resolve_device, resolve_dtype

if TYPE_CHECKING:
    import torch

    from concord.models.classifier import Classifier
    from concord.models.encoder import Encoder


class ModelCache:
    """What sampling and measuring share, on the recipe's device: whoever asks second gets the same object."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._classifiers: dict[tuple[str, torch.dtype], Classifier] = {}

    @cached_property
    def device(self) -> torch.device:
        import torch

        return torch.device(resolve_device(self._recipe.device))

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the networks that sample compute in."""
        import torch

        return getattr(torch, resolve_dtype(self._recipe.dtype, str(self.device)))

    @cached_property
    def encoder(self) -> Encoder:
        return self._encoder(self._recipe.encoder, "encoder")

    @cached_property
    def encoders(self) -> list[Encoder]:
        """All that inform: `encoder` first."""
        return [
            self.encoder,
            *(self._encoder(model, "informing.encoders") for model in self._recipe.informing.encoders),
        ]

    def _encoder(self, model: str, key: str) -> Encoder:
        encoder = self.load_encoder(model, key, self.dtype)
        self.hasten([getattr(encoder.model, "vision_model", encoder.model)])
        return encoder

    def load_encoder(self, model: str, key: str, dtype: torch.dtype | None = None) -> Encoder:
        """Another encoder, which is not kept, in float32 if nothing is given; `key`: the recipe's, for errors."""
        import torch

        from concord.models.encoder import Encoder

        return Encoder.from_pretrained(model_path(model), dtype=dtype or torch.float32, device=self.device, key=key)

    def classifier(self, model: str, key: str, dtype: torch.dtype | None = None) -> Classifier:
        """A classifier, detector or regressor, in float32 if nothing is given; `key`: the recipe's, for errors."""
        import torch

        from concord.models.classifier import Classifier

        dtype = dtype or torch.float32
        if (model, dtype) not in self._classifiers:
            loaded = Classifier.from_pretrained(model_path(model), dtype=dtype, device=self.device, key=key)
            self._classifiers[model, dtype] = loaded
        return self._classifiers[model, dtype]

    def hasten(self, networks: Sequence[torch.nn.Module | None]) -> None:
        """Lay out and compile networks in place, as `memory` says; what they compute stays, but for rounding."""
        import torch

        for network in networks:
            if network is not None and self._recipe.memory.channels_last:
                network.to(memory_format=torch.channels_last)
            if network is not None and self._recipe.memory.compile:
                network.compile()
