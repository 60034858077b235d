"""CutMix and mixup of a batch; what is random is drawn first, as for `augment`."""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from concord.evaluation.augment import View, to_device


class Mixing(BaseModel):
    """How images of a batch are mixed: `alpha` of Beta(alpha, alpha), and the `probability` that a batch is mixed.

    RDED has CutMix with 1.0 and mixup with 0.8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["none", "cutmix", "mixup"] = "none"
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0


def draw_mix(settings: Mixing, n: int, height: int, width: int, generator: torch.Generator) -> View:
    """Draw how a batch of n augmented images of height x width is mixed; empty where it is not.

    `index`: (n,) the image that each is mixed with. `lam`: () the share drawn for the image itself. `box`, for CutMix
    alone: (4,) y1, x1, y2, x2.
    """
    if settings.kind == "none" or torch.rand((), generator=generator).item() >= settings.probability:
        return {}
    index = torch.randperm(n, generator=generator)
    # torch's Beta takes no generator: numpy's is seeded by it.
    rng = np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=generator)))
    lam = float(rng.beta(settings.alpha, settings.alpha))
    view = {"index": index.to(torch.int32), "lam": torch.tensor(lam, dtype=torch.float64)}
    if settings.kind == "cutmix":
        y, x = (int(rng.integers(side)) for side in (height, width))
        view["box"] = torch.tensor(cut_box(lam, y, x, height, width), dtype=torch.int32)
    return view


def cut_box(lam: float, y: int, x: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Return CutMix's box (y1, x1, y2, x2) of about the share 1 - lam about a centre, cut off at the border.

    In whole numbers as the authors' code has it, and RDED's and Minimax's after it (`rand_bbox`): a side is rounded
    down, then its half.
    """
    ratio = math.sqrt(1 - lam)
    half_y, half_x = int(height * ratio) // 2, int(width * ratio) // 2
    return max(y - half_y, 0), max(x - half_x, 0), min(y + half_y, height), min(x + half_x, width)


def mix(images: Tensor, view: View) -> Tensor:
    """Return the batch (N, 3, H, W) mixed as the view has it; the given one stays as it is (RDED's is edited)."""
    if "index" not in view:
        return images
    others = to_device(view["index"], images.device)
    if "box" not in view:
        lam = float(view["lam"])
        return lam * images + (1 - lam) * images[others]
    y1, x1, y2, x2 = view["box"].tolist()
    mixed = images.clone()
    mixed[:, :, y1:y2, x1:x2] = images[others, :, y1:y2, x1:x2]
    return mixed


def mixed_share(view: View, height: int, width: int) -> float:
    """Return the share of each image that is its own after `mix`: of the area, not lam, for CutMix; 1 unmixed."""
    if "index" not in view:
        return 1.0
    if "box" not in view:
        return float(view["lam"])
    y1, x1, y2, x2 = view["box"].tolist()
    return 1 - (y2 - y1) * (x2 - x1) / (height * width)
