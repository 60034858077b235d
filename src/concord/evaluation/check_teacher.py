"""Which teacher gives soft labels, and whether it can be believed on these images."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concord.data import ImageSet
from concord.errors import ConcordError
from concord.evaluation.cells import compute_of
from concord.evaluation.floats import Read
from concord.evaluation.protocols import RDED
from concord.evaluation.settings import Settings
from concord.models.teachers import Teacher, check_teacher, load_teacher, remap, reordered, require_sound
from concord.runs.directory import earlier


def sound_teacher(
    directory: Path,
    data: ImageSet,
    tested_on: Read,
    settings: Settings,
    known: Mapping[str, Any] | None = None,
    of: str = "",
) -> tuple[Teacher, dict[str, Any]]:
    """Load the teacher and see that it recognises the test images; put its classes in order where asked for.

    It is the settings', or the one in the recipe of what `concord distill` left in `directory`. known: what this
    returned of it before: the same teacher is not tried again on the same images, of which `of` is a digest. A
    ConcordError: there is none, it does not fit the classes, or its accuracy is near chance.
    """
    spec = settings.teacher or None
    if spec is None and directory.is_dir() and (recipe := earlier(directory)):
        spec = recipe.teacher
    if spec is None:
        raise ConcordError(
            "soft labels need a teacher: give teacher=FILE (`concord teacher DATA --out FILE` trains one),"
            " teacher=torchvision:resnet18 or teacher=timm:NAME; or train with the set's own labels: protocol=hard"
        )
    compute = compute_of(settings)
    teacher = load_teacher(spec, data.classes, arch=settings.arch, size=settings.teacher_size, device=compute.device)
    compute.lay_out(teacher.network)
    checked = hashlib.sha256(f"{teacher.fingerprint} {settings.remap} {of}".encode()).hexdigest()[:16]
    if known and known.get("checked") == checked:
        order = known.get("remapped")
        return reordered(teacher, order) if order else teacher, {**known, "name": teacher.name}
    images = tested_on(size := teacher.size or settings.size or 224, RDED.test_side(size))
    check = check_teacher(teacher, images)
    if settings.remap:
        teacher = remap(teacher, check)
        check = check_teacher(teacher, images)
    require_sound(check, teacher)
    return teacher, {
        "name": teacher.name,
        "accuracy": round(100 * check.accuracy, 2),
        "images": len(images),
        "remapped": list(teacher.remapped) if teacher.remapped else None,
        "checked": checked,
    }
