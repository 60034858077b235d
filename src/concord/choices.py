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
