"""Informing a diffusion model's sampling by concepts: objectives, and the guide that descends them."""

from concord.choices import Between, Mode
from concord.guidance.attach import attach, inform
from concord.guidance.concept_guide import ConceptGuide
from concord.guidance.modes import Modes
from concord.guidance.objectives import ImageEncoder, Objective, class_name, classifier, contrastive, cosine, total
from concord.guidance.prototype import Prototype
from concord.guidance.repulsion import Repulsion
from concord.guidance.shifts import exact_shift, fast_shift, mean_shift

__all__ = ["Between", "ConceptGuide", "ImageEncoder", "Mode", "Modes", "Objective", "Prototype", "Repulsion"]
__all__ += ["attach", "class_name", "classifier", "contrastive", "cosine", "exact_shift", "fast_shift", "inform"]
__all__ += ["mean_shift", "total"]
