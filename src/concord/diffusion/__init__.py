"""The mathematics of diffusion: levels, predictions, the process, guidance and one sampling loop."""

from concord.diffusion.cfg import Order, classifier_free
from concord.diffusion.level import Level
from concord.diffusion.prediction import Kind, Prediction, clean_estimate, convert, noise_estimate, shift
from concord.diffusion.process import (
    add_noise,
    clean_weight,
    ddim_step,
    ddpm_mean,
    ddpm_step,
    ddpm_variance,
    noise_loss,
    previous_level,
    step_beta,
)
from concord.diffusion.sampler import Denoise, Guide, Step, generators, noise, sample

__all__ = ["Denoise", "Guide", "Kind", "Level", "Order", "Prediction", "Step", "add_noise", "classifier_free"]
__all__ += ["clean_estimate", "clean_weight", "convert", "ddim_step", "ddpm_mean", "ddpm_step", "ddpm_variance"]
__all__ += ["generators", "noise", "noise_estimate", "noise_loss", "previous_level", "sample", "shift", "step_beta"]
