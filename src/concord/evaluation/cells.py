"""The cells of an evaluation: what each combination of student, protocol and IPC trains on, planned before any is."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Self

import torch

from concord.choices import TENSORS
from concord.data import ImageSet, open_data, open_test, restrict
from concord.data.align import align_classes
from concord.data.order import named_by_order
from concord.data.tensor_set import floats, load_floats
from concord.data.tensors import TensorSet, for_testing, for_training, load, training_side
from concord.errors import ConcordError
from concord.evaluation.floats import Read, facts, fitted, open_floats, own_channels, require_side, within
from concord.evaluation.protocols import Protocol, batch_size, num_epochs
from concord.evaluation.settings import ProtocolConfig, Settings, TensorSettings, Training
from concord.evaluation.soft_labels import open_labels
from concord.evaluation.training import Compute, Drawn
from concord.models.students import Student, build_student, canonical, default_size, has_norm
from concord.runs.directory import earlier
from concord.system import resolve_device, resolve_dtype


@dataclass(frozen=True)
class StudentConfig:
    """A student as it is built: its name, its images' side, and what the settings say of it."""

    student: str
    size: int
    norm: str | None
    pool: str | None
    width: int | None
    channels: int | None = None
    """Of float images, which have a space of their own and are not normalised; None of pictures."""

    @classmethod
    def of(
        cls,
        settings: Training,
        student: str,
        protocol: Protocol,
        side: Callable[[int], int],
        channels: int | None = None,
    ) -> Self:
        """By the settings; where they leave the size open it is the protocol's or the student's own.

        side: of the images, where a student sees so many pixels. Without a setting the size is never above it.
        """
        own = protocol.student_size or default_size(student)
        size = settings.size or min(own, side(own))
        return cls(student, size, settings.norm, settings.pool, settings.width, channels)

    def build(self, classes: int, protocol: Protocol, seed: int) -> Student:
        mean, std = protocol.mean_std if self.channels is None else ((0.0,) * self.channels, (1.0,) * self.channels)
        norm = self.norm or (protocol.norm if has_norm(self.student) else None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            choices: dict[str, Any] = {"norm": norm, "pool": self.pool, "width": self.width}
            return build_student(self.student, classes, self.size, **choices, mean=mean, std=std)


@dataclass(frozen=True)
class Cell:
    """One row of the table, before it is trained. ipc: None where the set is taken whole and its classes are uneven."""

    look: StudentConfig
    way: ProtocolConfig
    ipc: int | None
    train: TensorSet = field(repr=False)
    test: TensorSet = field(repr=False)
    classes: int
    epochs: int
    batch: int
    record: dict[str, Any]

    def drawn(self, seed: int) -> Drawn:
        return Drawn(self.way.protocol, len(self.train), self.train.side, self.look.size, self.batch, seed)


def compute_of(settings: Training) -> Compute:
    """Where and in what a student is computed. Raises ConcordError: the device is not there."""
    device = resolve_device(settings.device)
    return Compute(device, getattr(torch, resolve_dtype(settings.dtype, device)), settings.compile)


def open_sets(directory: Path, test: str | None, settings: Settings) -> tuple[ImageSet, ImageSet]:
    """Open the small set, and the test set (or the small set again) with its classes in its order."""
    grey, most = settings.grey_range, settings.max_pixels
    data = open_floats(directory, settings)
    if data is None:
        if settings.tensors != TensorSettings():
            what = f"expected {TENSORS}, images_best.pt or res_*.pt"
            raise ConcordError(f"tensors: {directory} holds no float images ({what}); leave it out")
        made = None
        with contextlib.suppress(ConcordError):  # of another version
            made = earlier(directory) if directory.is_dir() else None
        if made is not None:
            grey, most = grey or made.grey_range, most or made.max_pixels
        data = open_data(str(directory), grey_range=None if made else grey, max_pixels=most)
        data = named_by_order(data, settings.classes, directory) or restrict(data, settings.classes, {})
    return data, data if test is None else align_classes(open_test(test, grey_range=grey, max_pixels=most), data)


def held_at(test: ImageSet) -> Read:
    """Test images in memory by size, each read once."""
    return cache(lambda size, resize: load(test, for_testing(size, resize)))


def plan(
    data: ImageSet,
    test: ImageSet,
    settings: Settings,
    ways: Sequence[ProtocolConfig],
    teacher: str | None,
    tested_on: Read | None = None,
) -> list[Cell]:
    """Load what the cells need and say what each is, or why one cannot be; nothing is trained.

    teacher: its fingerprint, None without one. tested_on: gives the images of `test`, where some were read before.
    """
    classes = len(data.classes)
    counts = [len(data.items(entry.label)) for entry in data.classes]

    whole = floats(data)

    @cache
    def kept_at(least: int, ipc: int | None) -> int:
        return whole.side if whole else training_side(data, least, ipc)

    @cache
    def trained_on(side: int, ipc: int | None) -> TensorSet:
        return load_floats(data, whole, ipc, side) if whole else load(data, for_training(side), ipc)

    tested_on = within(tested_on or held_at(test), whole)
    chosen = {key: value for key in ("norm", "pool", "width") if (value := getattr(settings, key)) is not None}
    cells = []
    even = counts[0] if min(counts) == max(counts) else None
    ipcs: list[int | None] = [*settings.ipc] if settings.ipc else [even]
    for ipc in ipcs:
        for student in dict.fromkeys(map(canonical, settings.student)):
            for way in (fitted(way.among(classes), whole) for way in ways):
                side = partial(kept_at, ipc=ipc)
                look = StudentConfig.of(settings, student, way.protocol, side, own_channels(whole))
                require_side(whole, look.size)
                small = trained_on(look.size if way.protocol.resize_first else side(look.size), ipc)
                stored = len(small) / (whole.form.decode**2 if whole else 1)  # a protocol's tables go by these
                epochs = num_epochs(way.protocol, stored / classes, classes)
                batch = batch_size(way.protocol, stored / classes, classes, len(small))
                require_fit(look, classes, way.protocol, len(small), batch)
                held = tested_on(look.size, way.protocol.test_side(look.size))
                record = {
                    "student": student,
                    "protocol": way.protocol.name,
                    "ipc": ipc,
                    "changed": {**way.changed, **chosen},
                    "images": len(small),
                    "size": look.size,
                    "epochs": epochs,
                    "batch": batch,
                    "dtype": str(compute_of(settings).dtype).removeprefix("torch."),
                    "reports": way.protocol.reports,
                }
                if whole:
                    record["tensors"] = facts(whole)
                labels = _labels(way.protocol, settings, teacher, record, small)
                decides = [way.protocol.model_dump(mode="json"), record, small.digest, held.digest, *labels]
                record["settings"] = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]
                cells.append(Cell(look, way, ipc, small, held, classes, epochs, batch, record))
    return cells


def require_students(data: ImageSet, settings: Settings, ways: Sequence[ProtocolConfig]) -> None:
    """Build every student, so that a name or choice that there is not is said before a teacher is loaded.

    Raises:
        ConcordError: an unknown student, a choice that it does not have, or a size that it cannot take.
    """
    whole = floats(data)
    for student in map(canonical, settings.student):
        for way in ways:
            side = (lambda _: whole.side) if whole else partial(training_side, data)
            look = StudentConfig.of(settings, student, way.protocol, side, own_channels(whole))
            look.build(len(data.classes), way.protocol, 0)


def as_trained(cell: Cell) -> dict[str, Any]:
    """A cell's record as it will be, with accuracies of nothing."""
    return {**cell.record, "top1": {which: {"mean": 0.0} for which in ("last", "best")}}


@cache
def require_fit(look: StudentConfig, classes: int, protocol: Protocol, images: int, batch: int) -> None:
    """Build a student, so that a ConcordError says before anything is trained what it does not take."""
    net = look.build(classes, protocol, 0)
    if (images - 1) % batch == 0:  # the last batch has one image
        try:
            net.train()(torch.zeros(1, look.channels or 3, look.size, look.size))
        except ValueError as error:
            raise ConcordError(
                f"{look.student} at {look.size} px cannot be trained on one image alone ({error}), and {images} images"
                f" in batches of {batch} come to one; give another batch=, or a larger size="
            ) from error


def _labels(
    protocol: Protocol, settings: Settings, teacher: str | None, cell: dict[str, Any], data: TensorSet
) -> tuple[str | None, str | None]:
    """Whose labels a cell is trained with: the teacher's fingerprint, or the digest of those that were stored."""
    if protocol.labels == "hard":
        return None, None
    if protocol.labels == "soft" and settings.soft_labels is not None:
        return None, open_labels(Path(settings.soft_labels), cell, protocol, data).digest
    if teacher is None:
        raise ConcordError(f"{protocol.name}: soft labels need a teacher, or a directory that holds them: soft_labels=")
    return teacher, None
