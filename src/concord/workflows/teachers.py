"""A sweep of teachers: several values of some settings, a training and a file for each combination of them.

Trainings are dealt to processes of this machine or to a cluster's nodes. Each keeps its state beside its file, as one
alone does (`concord.evaluation.train_teacher`), so that what is lost with a worker is what it did since then.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch

from concord.data import ImageSet, open_data, restrict
from concord.errors import ConcordError
from concord.evaluation.cells import compute_of
from concord.evaluation.train_teacher import TeacherSettings, held_out, read_teacher_settings, state_of, teach
from concord.events import Progress, Silent
from concord.models.classifier_file import load_classifier
from concord.storage.atomic import make_directories, read_json, write_json
from concord.storage.cluster import Cluster
from concord.storage.processes import spread
from concord.system import cores, package_version, version
from concord.text import file_name

RECORD = "teachers.json"
"""What each file of a sweep's directory is trained by."""


@dataclass(frozen=True)
class Taught:
    """One teacher of a sweep, as the command's JSON has it.

    accuracy: top-1 in percent on the test images, None without any. seconds: of its training in this call, None where
    it was there before.
    """

    file: str
    student: str
    images: int
    size: int
    epochs: int
    accuracy: float | None
    seconds: float | None = None


@dataclass(frozen=True)
class Teaching:
    """A training of a sweep: where it goes, and its settings as texts. data, test: as they were given."""

    out: Path
    texts: tuple[str, ...]
    data: str
    test: str | None

    def __str__(self) -> str:
        return f"the teacher {self.out.stem}"


def trainings(texts: Sequence[str]) -> dict[str, list[str]]:
    """The ``key=value`` texts of each training, by a name of what varies; of one alone the name is empty.

    A key with several values, as in ``student=resnet-18,convnet-3``, is one that does not take a list.
    Raises ConcordError: a value does not fit.
    """
    choices = [_choices(text) for text in texts]
    found = {}
    for chosen in product(*choices):
        varied = [text for text, some in zip(chosen, choices, strict=True) if len(some) > 1]
        found["-".join(file_name(_short(text)) for text in varied)] = [*chosen]
    for some in found.values():
        read_teacher_settings(some)
    return found


def _choices(text: str) -> list[str]:
    key, _, value = text.partition("=")
    if "," not in value:
        return [text]
    try:
        read_teacher_settings([text])
    except ConcordError:
        return [f"{key}={one.strip()}" for one in dict.fromkeys(value.split(","))]
    return [text]


def _short(text: str) -> str:
    key, _, value = text.partition("=")
    return value if key.strip() == "student" else f"{key.strip()}-{value}"


def teach_all(
    data: str,
    test: str | None,
    swept: Mapping[str, Sequence[str]],
    out: Path,
    progress: Progress | None = None,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> list[Taught]:
    """Train the teachers that are not in `out` yet, each in a file of its name; return what all came to, in order.

    data, test: as `concord teacher` takes them. swept: see `trainings`. workers: as many as cores, or one on a GPU, if
    None; on a cluster as many as there is room for. cluster: its nodes need `data`, `test` and `out` under the same
    paths. progress: counts trainings, and hears of each its `name` and `accuracy`.
    Raises ConcordError: a file is there that was trained otherwise; anything that a training raises.
    """
    hears = progress or Silent()
    _images.cache_clear()  # what an earlier call saw may have changed
    out = out.absolute() if cluster else out
    jobs = [Teaching(out / f"{name}.safetensors", tuple(texts), data, test) for name, texts in swept.items()]
    record = _record(jobs, out)
    there = [job for job in jobs if _finished(job.out)]
    make_directories(out)
    write_json(out / RECORD, record)
    found = {job.out: _trained(job.out) for job in there}
    hears.begin(len(jobs), len(there))
    lacking = [job for job in jobs if job not in there]
    for one in _shared(lacking, record, workers, cluster, hears) if lacking else ():
        found[Path(one.file)] = one
        hears.advance(1, [{"name": Path(one.file).stem, "accuracy": one.accuracy}])
    return [found[job.out] for job in jobs]


def _record(jobs: Sequence[Teaching], out: Path) -> dict[str, Any]:
    """What RECORD shall hold: what is there, and these trainings.

    Raises:
        ConcordError: one of their files is there, or begun, by other settings or from other images.
    """
    known: dict[str, Any] = read_json(out / RECORD).get("teachers", {})
    for job in jobs:
        settings, protocol = read_teacher_settings(job.texts)
        images, _ = _opened(job)
        choices = {"settings": settings.model_dump(mode="json"), "protocol": protocol.model_dump(mode="json")}
        how = {**choices, "data": images.fingerprint}
        begun = job.out.exists() or state_of(job.out).exists()
        if begun and known.get(job.out.name) != how:
            raise ConcordError(
                f"{job.out} is there already, trained by other settings or from other images than this command's; take"
                " it away, or give another --out"
            )
        known = {**known, job.out.name: how}
    return {"teachers": known}


def _versions() -> dict[str, str | None]:
    return {"concord": version(), "torch": package_version("torch")}


def _opened(job: Teaching) -> tuple[ImageSet, ImageSet | None]:
    """What a training is of, and the images that judge it."""
    settings, _ = read_teacher_settings(job.texts)
    classes = None if settings.classes is None else tuple(settings.classes)
    return _images(job.data, job.test, classes, settings.grey_range, settings.max_pixels)


@cache
def _images(
    data: str,
    test: str | None,
    classes: tuple[str, ...] | None,
    grey_range: tuple[int, int] | None,
    max_pixels: int | None,
) -> tuple[ImageSet, ImageSet | None]:
    whole = open_data(data, grey_range=grey_range, max_pixels=max_pixels)
    images = restrict(whole, None if classes is None else list(classes), {})
    return images, held_out(data, test, whole, images, TeacherSettings(grey_range=grey_range, max_pixels=max_pixels))


def _finished(path: Path) -> bool:
    return path.exists() and not state_of(path).exists()


def _trained(path: Path) -> Taught:
    """What a finished file says of itself."""
    saved = load_classifier(path)
    facts = {key: saved.facts[key] for key in ("images", "epochs", "accuracy")}
    return Taught(str(path), saved.student.name, size=saved.student.form.size, **facts)


def _shared(
    jobs: Sequence[Teaching], record: Mapping[str, Any], workers: int | None, cluster: Cluster | None, hears: Progress
) -> Iterator[Taught]:
    """Train, where there is room, and yield what comes of each."""
    on_gpu = [compute_of(read_teacher_settings(job.texts)[0]).device.startswith("cuda") for job in jobs]
    asked = workers or (1 if any(on_gpu) else cores())
    here = max(1, min(asked, len(jobs)))
    threads = torch.get_num_threads() if here < 2 else max(1, cores() // here)
    given = threads, record, jobs[0].out.parent, _versions()
    if cluster is not None:
        near, many = cluster.sized(len(jobs), threads, any(on_gpu), hears.note, workers)
        return near.spread(_teach, jobs, many, _begin, given, hears.note)
    if here < 2:
        return map(_teach, jobs)
    return spread(_teach, jobs, here, _begin, given, hears.note)


def _begin(rank: int, threads: int, record: Mapping[str, Any], out: Path, versions: Mapping[str, str | None]) -> None:
    """Begin a worker. Raises ConcordError: its teachers would be others, or go elsewhere."""
    torch.set_num_threads(threads)
    if (found := _versions()) != versions:
        raise ConcordError(f"it has {found}, expected {versions}: every node needs the same packages")
    if read_json(out / RECORD).get("teachers") != record["teachers"]:
        raise ConcordError(
            f"{out} is not that of the command here: teachers are written there, so that it must be shared"
        )


def _teach(job: Teaching) -> Taught:
    if _finished(job.out):  # by a worker that ended before it said so
        return _trained(job.out)
    images, held = _opened(job)
    if read_json(job.out.parent / RECORD)["teachers"][job.out.name]["data"] != images.fingerprint:
        raise ConcordError(f"{job.data} holds other images here than where the command runs: every node needs the same")
    made = teach(images, held, *read_teacher_settings(job.texts), job.out)
    facts = {key: getattr(made, key) for key in ("student", "images", "size", "epochs")}
    accuracy = None if made.accuracy is None else round(made.accuracy, 2)
    return Taught(str(job.out), **facts, accuracy=accuracy, seconds=round(made.seconds, 1))
