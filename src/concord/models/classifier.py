"""An image classifier of the transformers library, differentiable from pixels."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from concord.errors import ConcordError
from concord.models.preprocess import Preprocess
from concord.models.pretrained import check_complete, loading
from concord.text import meant, nearest


class Classifier:
    """A frozen classifier with its own preprocessing; `labels`: class or attribute names in the order of the logits."""

    def __init__(self, model: Any, preprocess: Preprocess) -> None:
        self.model = model.eval().requires_grad_(False)
        self.preprocess = preprocess
        names = model.config.id2label
        self.labels: list[str] = [str(names[i]) for i in sorted(names)]

    @classmethod
    def from_pretrained(
        cls, model: str, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", key: str = "teacher"
    ) -> Self:
        """Load a directory or model id, safetensors alone; a ConcordError names the recipe's `key` for it."""
        from transformers import AutoModelForImageClassification

        with loading(model, key):
            choices = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
            network, info = AutoModelForImageClassification.from_pretrained(model, **choices)
        check_complete(info, model, key)
        return cls(network.to(device), Preprocess.from_pretrained(model, key=key))

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits (B, K), float32 or finer, of images (B, 3, H, W) in [-1, 1]; differentiable."""
        network_input = self.preprocess(pixels.to(self.model.device)).to(self.model.dtype)
        logits: Tensor = self.model(pixel_values=network_input).logits
        return logits if logits.dtype == torch.float64 else logits.float()


def label_ids(model: Classifier, names: Sequence[str], key: str) -> Tensor:
    """Positions of class names among a classifier's labels, (len(names),); `key`: the recipe's for it."""
    column = {label: i for i, label in enumerate(model.labels)}
    for name in names:
        if len(meant(name, column)) != 1:
            raise ConcordError(f'the classifier in {key} has no class "{name}"{nearest(name, column)}')
    return torch.tensor([column[meant(name, column)[0]] for name in names])
