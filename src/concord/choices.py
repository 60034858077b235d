"""The words of settings that several rooms know: what takes a setting and what acts on it name the same type."""

from typing import Literal

Between = Literal["none", "hold", "extrapolate"]
Mode = Literal["fast", "exact", "mean"]
NegativeKind = Literal["weighted", "random", "similar"]
Norm = Literal["batch", "instance", "layer", "group", "none"]
Pool = Literal["avg", "max", "none"]
SchedulerName = Literal["ddim", "ddpm", "minimax", "stock", "dpm++", "unipc", "euler", "heun", "deis", "lcm", "tcd"]
INITS = ("real", "noise", "herding")
"""What an optimisation of pixels may begin from, beside the images of another set."""
STARTS = ("noise", "real", "prototype")
"""What a sampling may begin from, beside the images of another set."""
SelectKind = Literal["none", "best", "coverage", "herding", "kcenter", "groups"]
SpaceName = Literal["cifar10", "cifar100", "mnist", "fashionmnist", "svhn", "tiny", "imagenet", "pixels"]
"""Data sets whose means and deviations are known, and pixels as they are."""
Supply = Literal["random", "herding", "kmeans", "medoid"]
Unreadable = Literal["error", "skip"]
VaeMode = Literal["plain", "sliced", "tiled"]
Weights = Literal["ema", "model"]

PROTOCOL_GROUPS = {
    "regimes": ("rded", "fixed", "hard"),
    "all-soft": ("rded", "paper", "rd3", "sre2l"),
    "all-hard": ("hard", "dc"),
}
"""Names for several protocols of an evaluation at once. regimes: a teacher online, its labels fixed, and none."""

TENSORS = "tensors.safetensors"
"""Where float images lie in the directory of a run or of an export."""

DSA = ("color", "crop", "cutout", "flip", "scale", "rotate")
"""The families of differentiable Siamese augmentation."""


def dsa_strategy(text: str) -> str:
    """Families joined by "_", or none; a ValueError names one that is not known."""
    unknown = [name for name in text.split("_") if name not in DSA] if text else []
    if unknown:
        raise ValueError(f'unknown operation "{unknown[0]}"; join some of {", ".join(DSA)} by "_"')
    return text
