"""What an evaluation says beside accuracy: how the set lies among real images, and DD-Ranking's scores."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data.sampling import spread
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.metrics.ddranking import augmentation_robust_score, label_robust_score
from concord.metrics.neighbours import MOST, coverage_report
from concord.models.teachers import Teacher

PIXELS = 32
"""Side of an image in the space of pixels, where there is no teacher."""
AT_ONCE = 200
_ALIKE = ("student", "protocol", "changed", "size", "teacher", "soft_labels")
"""What two cells have in common whose accuracies are compared."""
_LABEL = ("made_hard", "full_hard", "made_any", "random_any")
_AUGMENTED = ("made_augmented", "random_augmented", "made_plain", "random_plain")


def coverage(small: TensorSet, real: TensorSet, teacher: Teacher | None, device: str = "cpu") -> dict[str, Any]:
    """See `coverage_report`: in the space before the teacher's last layer, or of pixels without a teacher."""
    name = f"teacher {teacher.name}, before its last layer" if teacher else f"pixels at {PIXELS} px"
    notes = []
    if len(small) > MOST:  # a whole data set: each image is held against every other
        notes.append(f"Of the {len(small)} images of the set, {MOST} were taken, evenly spaced.")
        some = torch.tensor(spread(len(small), MOST))
        small = small.some(some)
    made, there = (_features(images, teacher, device) for images in (small, real))
    found = coverage_report(made, small.labels, there, real.labels, name)
    return {**found, "notes": [*found["notes"], *notes]}


@torch.no_grad()
def _features(images: TensorSet, teacher: Teacher | None, device: str) -> Tensor:
    starts = range(0, len(images), AT_ONCE)
    parts = (images.colours(images.pixels(slice(start, start + AT_ONCE))) for start in starts)
    if teacher is not None:
        return torch.cat([teacher.features(pixels.to(device)).cpu() for pixels in parts])
    small = (F.interpolate(pixels, (PIXELS, PIXELS), mode="bilinear", antialias=True) for pixels in parts)
    return torch.cat([pixels.flatten(1) for pixels in small])


def ranking(
    cells: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """DD-Ranking's scores for each student and IPC of a set, out of recorded cells; a ConcordError says what lacks for
    all.

    The label-robust score needs a cell with hard labels (`hard` or `dc`) of the set and of the full data, and one with
    soft labels (`rded` or `paper`; hard ones where there are none) of the set and of random real images. The
    augmentation-robust score needs `rded` and `plain` of the set and of random real images. Two accuracies are compared
    only where the protocol is the same, with the same settings. What lacks is None.
    """
    found = []
    for student, ipc in dict.fromkeys((cell["student"], cell["ipc"]) for cell in cells):
        mine = [cell for cell in cells if (cell["student"], cell["ipc"]) == (student, ipc)]
        chance = [cell for cell in random if cell["ipc"] == ipc]
        label = [*_both(mine, full, "hard", "dc"), *_both(mine, chance, "rded", "paper", "hard", "dc")]
        views = [*_both(mine, chance, "rded"), *_both(mine, chance, "plain")]
        lrs = label_robust_score(**dict(zip(_LABEL, label, strict=True))) if len(label) == 4 else None
        ars = augmentation_robust_score(**dict(zip(_AUGMENTED, views, strict=True))) if len(views) == 4 else None
        if lrs or ars:
            found.append({"student": student, "ipc": ipc, "lrs": lrs, "ars": ars})
    if not found:
        raise ConcordError(
            "DD-Ranking's scores lack accuracies: for the label-robust score evaluate the set with protocol=rded,hard,"
            " random images of the same IPC with protocol=rded and the full set with protocol=hard; for the"
            " augmentation-robust score the set and random images with protocol=rded,plain; with the same students"
        )
    return found


def _both(mine: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], *protocols: str) -> list[float]:
    """The accuracies of two sets under the first of some protocols that both have alike; none where there is none."""
    for protocol, one, other in product(protocols, mine, theirs):
        if one["protocol"] == protocol and all(one.get(key) == other.get(key) for key in _ALIKE):
            return [float(cell["top1"][cell["reports"]]["mean"]) for cell in (one, other)]
    return []
