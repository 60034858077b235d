"""One evaluation from directory to evaluation.json: data, teacher, checks, cells."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

from concord.data import ImageSet, open_data, open_test, restrict
from concord.data.matching import matched
from concord.data.overlap import shared_images
from concord.data.tensors import for_testing, load
from concord.errors import ConcordError
from concord.evaluation.beyond import coverage, ranking
from concord.evaluation.cells import Cell, compute_of, plan, run
from concord.evaluation.protocol import RDED
from concord.evaluation.record import FILE, find, read_record, write_record
from concord.evaluation.settings import Settings, Way
from concord.evaluation.soft_labels import store_facts
from concord.models.teachers import Check, Teacher, check_teacher, load_teacher, remap, require_sound
from concord.resources import package_version, version
from concord.runs.store import lock
from concord.runs.workspace import earlier


class Told(Interface):
    """Hears how an evaluation gets on."""

    def stage(self, text: str) -> None:
        """Something that takes a while begins."""
        ...

    def note(self, text: str) -> None:
        """Something that the user should know."""
        ...

    def begin(self, total: int, done: int) -> None:
        """So many trainings are to be had, of which `done` are there."""
        ...

    def training(self, total: int, seen: Callable[[], int]) -> None:
        """They will see so many images in all; `seen` says how many they have."""
        ...

    def trained(self, cell: dict[str, Any], seed: int) -> None:
        """Another one is."""
        ...


class Silent:
    """A `Told` that says nothing."""

    def stage(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...

    def begin(self, total: int, done: int) -> None: ...

    def training(self, total: int, seen: Callable[[], int]) -> None: ...

    def trained(self, cell: dict[str, Any], seed: int) -> None: ...


def evaluate(
    directory: Path,
    test: str,
    settings: Settings,
    ways: Sequence[Way],
    out: Path | None = None,
    told: Told | None = None,
    random: Path | None = None,
    full: Path | None = None,
) -> dict[str, Any]:
    """Train students on a small set and return what evaluation.json holds; cells that it has are not trained again.

    Args:
        directory: the small set, an image folder or Parquet; what `concord distill` left knows its teacher.
        test: real images, anything that `concord.data.open_test` opens.
        settings, ways: see `read_settings`.
        out: where the record goes instead of `directory`/evaluation.json.
        told: hears of it.
        random, full: directories of random real images and of the full real set, evaluated before with the same
            students; with them DD-Ranking's scores are computed.

    Raises:
        ConcordError: anything the user can put right; what is finished stays, and the same call goes on from there.
    """
    told = told or Silent()
    path = out or (directory if directory.is_dir() else directory.parent) / FILE
    told.stage(f"reading {directory} and {test}")
    data, held = open_sets(directory, test, settings)
    for note in [*data.notes, *held.notes]:
        told.note(note)
    warnings = shared_images(data, held)
    for note in warnings:
        told.note(note)
    with lock(path.parent):
        soft = any(way.protocol.labels == "soft" for way in ways)
        record = read_record(path)
        teacher, facts = None, None
        if soft and settings.soft_labels is None:
            told.stage("checking the teacher")
            teacher, check = sound_teacher(directory, data, held, settings)
            facts = {
                "name": teacher.name,
                "accuracy": round(100 * check.accuracy, 2),
                "images": int(check.confusion.sum()),
                "remapped": list(teacher.remapped) if teacher.remapped else None,
            }
            told.note(f"teacher {teacher.name}: {100 * check.accuracy:.1f} % on the test images")
            if teacher.remapped:
                told.note("its classes were put in order by its confusions on these test images")
        told.stage("reading images")
        cells = plan(data, held, settings, ways, teacher.fingerprint if teacher else None)
        record = _headed(record, directory, test, data, facts, warnings, settings)
        done = _done(record, cells, settings)
        told.begin(len(cells) * len(settings.seeds), done)
        record = run(cells, settings, record, lambda new: write_record(path, new), teacher, told.trained, told.training)
        told.stage("comparing with real images")
        largest = max(cells, key=lambda cell: len(cell.train))
        record["coverage"] = coverage(largest.train, largest.test, teacher, compute_of(settings).device)
        if settings.soft_labels is not None and soft:
            record["soft_labels"] = store_facts(Path(settings.soft_labels))
        if random is not None or full is not None:
            there = [read_record(place / FILE).get("cells", []) if place else [] for place in (random, full)]
            record["ranking"] = ranking(record["cells"], *there)
        write_record(path, record)
    if out is None and (directory / "images" / "metadata.jsonl").is_file():
        from concord.report.page import write_report

        told.stage("writing the report")
        write_report(directory)
    return record


def open_sets(directory: Path, test: str, settings: Settings) -> tuple[ImageSet, ImageSet]:
    """Open the small set, and the test set with its classes in its order.

    Raises:
        ConcordError: either cannot be opened, or the classes differ.
    """
    data = restrict(open_data(str(directory)), settings.classes, {})
    return data, matched(open_test(test), data)


def sound_teacher(directory: Path, data: ImageSet, test: ImageSet, settings: Settings) -> tuple[Teacher, Check]:
    """Load the teacher and see that it recognises the test images; put its classes in order where asked for.

    Raises:
        ConcordError: there is none, it does not fit the classes, or its accuracy is near chance.
    """
    spec = settings.teacher or _of_recipe(directory)
    if spec is None:
        raise ConcordError(
            "soft labels need a teacher: give teacher=FILE (`concord teacher DATA --out FILE` trains one),"
            " teacher=torchvision:resnet18 or teacher=timm:NAME; or train with the set's own labels: protocol=hard"
        )
    compute = compute_of(settings)
    teacher = load_teacher(spec, data.classes, arch=settings.arch, size=settings.teacher_size, device=compute.device)
    compute.lay_out(teacher.network)
    size = teacher.size or settings.size or 224
    images = load(test, for_testing(size, RDED.test_side(size)))
    check = check_teacher(teacher, images)
    if settings.remap:
        teacher = remap(teacher, check)
        check = check_teacher(teacher, images)
    require_sound(check, teacher)
    return teacher, check


def _of_recipe(directory: Path) -> str | None:
    """The teacher that the set's own recipe names."""
    recipe = earlier(directory) if directory.is_dir() else None
    return recipe.teacher if recipe else None


def _headed(
    record: dict[str, Any],
    directory: Path,
    test: str,
    data: ImageSet,
    teacher: dict[str, Any] | None,
    notes: Sequence[str],
    settings: Settings,
) -> dict[str, Any]:
    compute = compute_of(settings)
    return {
        "test": test,
        "classes": [entry.class_name for entry in data.classes],
        "teacher": teacher or record.get("teacher"),
        "notes": list(notes),
        "environment": {
            "concord": version(),
            "torch": package_version("torch"),
            "platform": platform.platform(),
            "device": compute.device,
            "dtype": str(compute.dtype).removeprefix("torch."),
        },
        "cells": record.get("cells", []),
    } | {key: record[key] for key in ("coverage", "ranking", "soft_labels") if key in record}


def _done(record: dict[str, Any], cells: Sequence[Cell], settings: Settings) -> int:
    earlier = (find(record, cell.record) for cell in cells)
    return sum(seed in cell["seeds"] for cell in earlier if cell for seed in settings.seeds)
