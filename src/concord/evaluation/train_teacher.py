"""Training a teacher: a student on the whole real set, saved with its classes, and resumed where it was killed."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from concord.data import ImageSet, open_test
from concord.data.align import align_classes
from concord.data.tensors import for_testing, for_training, load, training_side
from concord.errors import ConcordError
from concord.evaluation.cells import StudentConfig, compute_of, require_fit
from concord.evaluation.protocols import TEACHER, Protocol, batch_size, num_epochs
from concord.evaluation.settings import Training, changed_protocol, read_values
from concord.evaluation.training import Drawn, Trainer, TrainingLog, train
from concord.events import Progress, Silent
from concord.models.classifier_file import save_classifier
from concord.models.students import canonical
from concord.storage.atomic import lock
from concord.storage.torch_file import read_checkpoint, write_checkpoint
from concord.system import slow_dtype

EVERY = 60.0
"""Seconds between two checkpoints, at least; one is taken at the end of an epoch."""


class TeacherSettings(Training):
    """What is trained, on what; keys of the protocol (`concord.evaluation.protocols.TEACHER`) go beside them."""

    student: str = "resnet-18"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0


@dataclass(frozen=True)
class TrainedTeacher:
    """A teacher that was trained. accuracy: top-1 in percent on the test images, None without any."""

    path: Path
    student: str
    images: int
    classes: int
    size: int
    epochs: int
    accuracy: float | None
    seconds: float
    course: TrainingLog = field(repr=False, default_factory=TrainingLog)


def read_teacher_settings(texts: Sequence[str]) -> tuple[TeacherSettings, Protocol]:
    """Read ``key=value`` texts. Raises ConcordError: an unknown key, a value that does not fit, or soft labels."""
    settings, of_protocol = read_values(TeacherSettings, texts)
    canonical(settings.student)
    protocol = changed_protocol(TEACHER, of_protocol).protocol
    if protocol.labels != "hard":
        raise ConcordError(
            f"labels: a teacher is trained with the set's own labels; leave out labels={protocol.labels}"
        )
    return settings, protocol


def held_out(
    data: str, test: str | None, whole: ImageSet, images: ImageSet, settings: TeacherSettings
) -> ImageSet | None:
    """Images to judge a teacher on: those that are named, else a split with labels beside the training split, or None.

    data, test: as they were given. whole: what `data` opens as. images: those of its classes that are trained on.
    """
    opened = partial(open_test, grey_range=settings.grey_range, max_pixels=settings.max_pixels)
    if test is not None:
        return align_classes(opened(test), images)
    try:
        beside = opened(data)
    except ConcordError:
        return None  # splits without class folders, as of a competition
    return align_classes(beside, images) if beside.fingerprint != whole.fingerprint else None


def state_of(out: Path) -> Path:
    """Where the training of a teacher that goes to `out` keeps its state."""
    return out.with_name(f".{out.name}.checkpoint")


def checkpoint_of(out: Path) -> Path:
    """Where a teacher's training keeps its state; a ConcordError where the teacher cannot be written to `out`."""
    if out.suffix != ".safetensors":
        raise ConcordError(f"{out}: give a name that ends in .safetensors")
    part = state_of(out)
    if out.exists() and not part.exists():  # with both, it was killed between writing one and removing the other
        raise ConcordError(f"{out} is there already; take it away, or give another --out")
    return part


def teach(
    data: ImageSet,
    test: ImageSet | None,
    settings: TeacherSettings,
    protocol: Protocol,
    out: Path,
    progress: Progress | None = None,
) -> TrainedTeacher:
    """Train a teacher on all images of `data` and write it to `out`, a safetensors file that names its classes.

    A checkpoint beside it (``.NAME.checkpoint``) lets the same call go on where it was killed; it goes at the end.
    test: images to read its accuracy on, with the same classes in the same order. progress: counts the epochs; of each
    it hears the `epoch`, how many `epochs` there are, and the `accuracy` where it was read, else None.
    """
    part = checkpoint_of(out)
    begun, hears = time.perf_counter(), progress or Silent()
    compute = compute_of(settings)
    for note in slow_dtype(settings.dtype, compute.device):
        hears.note(note)
    student = canonical(settings.student)
    side = partial(training_side, data)
    look = StudentConfig.of(settings, student, protocol, side)
    size, classes = look.size, len(data.classes)
    net = look.build(classes, protocol, settings.seed)
    with lock(out.parent, f".{out.name}.lock"):
        images = load(data, for_training(size if protocol.resize_first else side(size)))
        epochs = num_epochs(protocol, len(images) / classes, classes)
        batch = batch_size(protocol, len(images) / classes, classes, len(images))
        require_fit(look, classes, protocol, len(images), batch)
        held = load(test, for_testing(size, protocol.test_side(size))) if test is not None else None
        identity = json.dumps([protocol.model_dump(mode="json"), settings.model_dump(mode="json"), images.digest])
        anew: dict[str, Any] = {"epoch": 0, "state": None, "accuracies": {}}
        earlier = read_checkpoint(part, identity, *anew) or anew
        saved = time.monotonic()
        accuracies: dict[int, float] = earlier["accuracies"]

        def after(epoch: int, trainer: Trainer, course: TrainingLog) -> None:
            nonlocal saved
            accuracies.update(course.accuracies)
            if time.monotonic() - saved > EVERY and epoch < epochs - 1:
                state = trainer.state()
                write_checkpoint(part, identity, {"epoch": epoch + 1, "state": state, "accuracies": dict(accuracies)})
                saved = time.monotonic()
            hears.advance(1, [{"epoch": epoch + 1, "epochs": epochs, "accuracy": course.accuracies.get(epoch)}])

        hears.begin(epochs, earlier["epoch"])
        course = train(
            net,
            images,
            Drawn(protocol, len(images), images.side, size, batch, settings.seed),
            protocol,
            epochs,
            size,
            test=held,
            seed=settings.seed,
            compute=compute,
            start=earlier["epoch"],
            state=earlier["state"],
            after=after,
        )
        course.accuracies = accuracies
        accuracy = course.last if test is not None else None
        facts = {"epochs": epochs, "images": len(images), "seed": settings.seed}
        rounded = None if accuracy is None else round(accuracy, 2)
        save_classifier(out, net.to("cpu"), [entry.folder for entry in data.classes], **facts, accuracy=rounded)
        part.unlink(missing_ok=True)
        (out.parent / f".{out.name}.lock").unlink(missing_ok=True)
    seconds = time.perf_counter() - begun
    return TrainedTeacher(out, student, len(images), classes, size, epochs, accuracy, seconds, course)
