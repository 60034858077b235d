"""What an evaluation says beside accuracy: how the set lies among real images, and DD-Ranking's scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.evaluation.ranking import augmentation_robust_score, label_robust_score
from concord.models.teachers import Teacher
from concord.scoring.coverage import coverage_report

PIXELS = 32
"""Side of an image in the space of pixels, where there is no teacher."""
AT_ONCE = 200


def coverage(small: TensorSet, real: TensorSet, teacher: Teacher | None, device: str = "cpu") -> dict[str, Any]:
    """k-NN precision, recall, density and coverage of a set among real images; see `coverage_report`.

    The space is what the teacher has before its last layer, or the pixels at 32 px without a teacher.
    """
    name = f"teacher {teacher.name}, before its last layer" if teacher else f"pixels at {PIXELS} px"
    made, there = (_features(images, teacher, device) for images in (small, real))
    return coverage_report(made, small.labels, there, real.labels, name)


@torch.no_grad()
def _features(images: TensorSet, teacher: Teacher | None, device: str) -> Tensor:
    rows = []
    for start in range(0, len(images), AT_ONCE):
        pixels = images.pixels(slice(start, start + AT_ONCE))
        if teacher is not None:
            rows.append(teacher.features(pixels.to(device)).cpu())
        else:
            rows.append(F.interpolate(pixels, (PIXELS, PIXELS), mode="bilinear", antialias=True).flatten(1))
    return torch.cat(rows)


def ranking(
    cells: Sequence[Mapping[str, Any]], random: Sequence[Mapping[str, Any]], full: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """DD-Ranking's scores for each student and IPC of a set, out of recorded cells.

    The label-robust score needs a cell with hard labels of the set and of the full data, and one with soft labels
    (`rded` or `paper`) of the set and of random real images. The augmentation-robust score needs `rded` and `plain`
    of the set and of random real images. What lacks is None.

    Args:
        cells: of the set's evaluation.json. random: of as many random real images. full: of the full real set.

    Raises:
        ConcordError: no score has all that it needs; the message says what that is.
    """
    found = []
    for student, ipc in dict.fromkeys((cell["student"], cell["ipc"]) for cell in cells):

        def at(of: Sequence[Mapping[str, Any]], *protocols: str, whole: bool = False) -> float | None:
            for name in protocols:
                for cell in of:
                    if (cell["student"], cell["protocol"]) == (student, name) and (whole or cell["ipc"] == ipc):  # noqa: B023
                        return float(cell["top1"][cell["reports"]]["mean"])
            return None

        label = {
            "full_hard": at(full, "hard", "dc", whole=True),
            "made_hard": at(cells, "hard", "dc"),
            "made_any": at(cells, "rded", "paper", "hard", "dc"),
            "random_any": at(random, "rded", "paper", "hard", "dc"),
        }
        augmented = {
            "made_augmented": at(cells, "rded"),
            "random_augmented": at(random, "rded"),
            "made_plain": at(cells, "plain"),
            "random_plain": at(random, "plain"),
        }
        lrs = label_robust_score(**_whole(label)) if None not in label.values() else None
        ars = augmentation_robust_score(**_whole(augmented)) if None not in augmented.values() else None
        if lrs or ars:
            found.append({"student": student, "ipc": ipc, "lrs": lrs, "ars": ars})
    if not found:
        raise ConcordError(
            "DD-Ranking's scores lack accuracies: for the label-robust score evaluate the set with protocol=rded,hard,"
            " random images of the same IPC with protocol=rded and the full set with protocol=hard; for the"
            " augmentation-robust score the set and random images with protocol=rded,plain; with the same students"
        )
    return found


def _whole(values: Mapping[str, float | None]) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}
