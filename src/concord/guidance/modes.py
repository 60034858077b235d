"""Mode guidance with its stop (MGD3, Chan-Santiago et al. 2025): each image is drawn towards a mode of its class."""

from pydantic import BaseModel, ConfigDict, PositiveInt

from concord.diffusion import Step, clean_weight, ddpm_variance, previous_level
from concord.diffusion.level import Scale, ratio
from concord.guidance.context import GuideContext
from concord.guidance.prototype import Prototype, check, class_prototypes
from concord.recipe import Fraction, Weight
from concord.registry import GuideSpec


class Settings(BaseModel):
    """What an entry `{name: modes, ...}` of a recipe's `guides` may say; the defaults are MGD3's."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    modes: PositiveInt = 10
    weight: Weight = 0.1
    window: tuple[Fraction, Fraction] = (0.0, 0.5)


class Modes(Prototype):
    """MGD3's update: by DDIM x0 moves by lambda (m - x0); by DDPM the mean of x_(t-1) does, by lambda sigma_t (m - x0).

    sigma_t is the standard deviation that DDPM draws with; other schedulers are moved as DDIM is. What `Prototype`
    takes: `targets` are the modes m, `weight` is lambda, and `window` ends where the guidance stops.
    """

    def share(self, step: Step) -> Scale:
        if not any(kind.__name__ == "DDPMScheduler" for kind in type(step.scheduler).__mro__):
            return self.weight
        previous = previous_level(step.scheduler, step.t)
        kind, learned = str(step.scheduler.config.variance_type), step.prediction.variance
        deviation = ddpm_variance(step.level, previous, kind, learned) ** 0.5
        return self.weight * ratio(deviation, clean_weight(step.level, previous))


def build(settings: Settings, context: GuideContext) -> Modes:
    return Modes(class_prototypes(context, settings.modes), settings.weight, settings.window)


MODES = GuideSpec(
    name="modes",
    build="concord.guidance.modes:build",
    settings=Settings,
    about="Images are drawn towards modes of their class, which are clusters of its latents (MGD3).",
    check=check,
)
