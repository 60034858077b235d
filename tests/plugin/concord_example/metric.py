"""Two metrics: how colourful a run's images are, and how sure a student is of what it says."""

import numpy as np
from torch import Tensor

from concord.metrics.measure_run import Measuring
from concord.registry import Measure, MetricSpec


def colourfulness(run: Measuring) -> dict[str, float]:
    """The mean difference between the largest and the smallest of a pixel's three values, in [0, 1], of each set."""
    sets = {name: np.stack([np.asarray(image) / 255 for image in found.images]) for name, found in run.sets.items()}
    return {name: float((pixels.max(-1) - pixels.min(-1)).mean()) for name, pixels in sets.items()}


def confidence(logits: Tensor, labels: Tensor) -> float:
    return float(logits.softmax(dim=1).amax(dim=1).mean())


METRIC = MetricSpec(
    name="colourfulness",
    of="run",
    compute="concord_example.metric:colourfulness",
    about="How colourful the images are.",
    rows=(Measure("colourfulness.{}", "colourfulness", "number", 0),),
)
CONFIDENCE = MetricSpec(
    name="confidence",
    of="predictions",
    compute="concord_example.metric:confidence",
    about="The mean probability of the class that a student names.",
    rows=(Measure("confidence", "confidence", "number", 0),),
)
