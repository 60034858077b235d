"""What a denoiser says, read as noise or as a clean image, and one edit that fits every parametrisation."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from torch import Tensor

from concord.diffusion.level import Level, ratio
from concord.errors import ConcordError

Kind = Literal["epsilon", "v_prediction", "flow_prediction"]


@dataclass(frozen=True)
class Prediction:
    """A denoiser's output at one x_t.

    value: (B, C, h, w) eps; v = alpha eps - sigma x0 of the variance-preserving level; or the flow eps - x0.
    variance: (B, C, h, w) the raw learned-variance half of the network's output, where it has one (as DiT), else None.
    Raises ConcordError: `kind` is none of the three (diffusers' `sample` is not supported).
    """

    value: Tensor
    kind: Kind = "epsilon"
    variance: Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConcordError(f'prediction type "{self.kind}" is not supported; expected one of {get_args(Kind)}')


def clean_estimate(prediction: Prediction, x_t: Tensor, level: Level) -> Tensor:
    """Eq. 8: the estimate of x0, (B, C, h, w), for any kind of prediction and any convention of `Level`.

    An eps prediction says nothing of x0 at alpha = 0 (pure noise); the estimate is not finite there.
    """
    alpha, sigma = level.alpha, level.sigma
    if prediction.kind == "epsilon":
        return (x_t - sigma * prediction.value) / alpha
    if prediction.kind == "v_prediction":
        vp = level.normalised()
        return vp.alpha * (x_t / level.norm) - vp.sigma * prediction.value
    return (x_t - sigma * prediction.value) / (alpha + sigma)


def noise_estimate(prediction: Prediction, x_t: Tensor, level: Level) -> Tensor:
    """The estimate of eps, (B, C, h, w), for any kind of prediction and any convention of `Level`."""
    alpha, sigma = level.alpha, level.sigma
    if prediction.kind == "epsilon":
        return prediction.value
    if prediction.kind == "v_prediction":
        vp = level.normalised()
        return vp.alpha * prediction.value + vp.sigma * (x_t / level.norm)
    return (x_t + alpha * prediction.value) / (alpha + sigma)


def convert(prediction: Prediction, x_t: Tensor, level: Level, kind: Kind) -> Prediction:
    """The same prediction in another parametrisation; the learned variance comes along."""
    if kind == prediction.kind:
        return prediction
    eps = noise_estimate(prediction, x_t, level)
    x0 = clean_estimate(prediction, x_t, level)
    if kind == "epsilon":
        value = eps
    elif kind == "v_prediction":
        vp = level.normalised()
        value = vp.alpha * eps - vp.sigma * x0
    else:
        value = eps - x0
    return Prediction(value, kind, prediction.variance)


def shift(prediction: Prediction, dx0: Tensor, level: Level) -> Prediction:
    """The prediction whose clean estimate is `dx0` (B, C, h, w) further, at the same x_t.

    x_t = alpha x0 + sigma eps holds before and after, so d_eps = -(alpha / sigma) dx0, and for variance-preserving and
    flow levels d_v = -dx0 / sigma. In sigma space v belongs to the normalised level: d_v = -dx0 / sigma_vp. Nothing
    changes where sigma = 0, where nothing is predicted, and in an eps prediction where alpha = 0.
    """
    if prediction.kind == "epsilon":
        scale = ratio(level.alpha, level.sigma)
    elif prediction.kind == "v_prediction":
        scale = ratio(level.norm, level.sigma)
    else:
        scale = ratio(level.alpha + level.sigma, level.sigma)
    return replace(prediction, value=prediction.value - scale * dx0)
