"""Who measures the classes of a run, and on which machine, changes no figure; nor that they are measured one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from noisy_run import left, measuring, noisy_run

from concord.errors import ConcordError
from concord.metrics.class_images import ClassImages, ClassJob, Made
from concord.metrics.completeness import completeness, nuisance_diversity, teacher_accuracy
from concord.storage.processes import spread
from concord.workflows import executors

PERCENTILE = {"kind": "percentile", "model": "reef:clip-2"}
DETECTOR = {"kind": "detector", "model": "reef:detector", "encoder": "reef:clip-2"}


def flat(figures: Any, key: str = "") -> dict[str, float]:
    """Numbers by their place."""
    if not isinstance(figures, dict | list):
        return {key: float(figures)}
    inner = figures.items() if isinstance(figures, dict) else enumerate(figures)
    return {place: number for name, one in inner for place, number in flat(one, f"{key}.{name}").items()}


@pytest.mark.parametrize("scorer", [PERCENTILE, DETECTOR])
def test_class_by_class_is_as_all_at_once(tmp_path: Path, scorer: dict[str, str]) -> None:
    recipe = noisy_run(tmp_path, scorer)
    run = measuring(recipe, tmp_path / "run")
    found = run.results()
    assert list(found) == ["details", "near_copies", "completeness", "teacher_accuracy", "nuisance_diversity"]
    assert run.scorer is not None and run.teacher is not None and recipe.nuisance
    reader = run.models.classifier(recipe.nuisance, "nuisance")
    expected = completeness(run.scorer, run.vocabulary, run.sets)
    assert flat(found["completeness"]) == pytest.approx(flat(expected))
    assert 0 < expected["informed"]["mean"] < 1
    assert flat(found["teacher_accuracy"]) == pytest.approx(flat(teacher_accuracy(run.teacher, run.sets)))
    expected = nuisance_diversity(reader, run.sets)
    assert flat(found["nuisance_diversity"]) == pytest.approx(flat(expected), rel=1e-3, abs=1e-4)


def test_workers_give_the_figures_and_files_of_one_process(tmp_path: Path) -> None:
    recipe, out = noisy_run(tmp_path, PERCENTILE), tmp_path / "run"
    told: list[str] = []
    engine = executors.measure_by(spread, recipe, "cpu", 2, told.append)
    assert left(recipe, out, engine) == left(recipe, out)
    assert not told


def test_a_class_that_is_sent_needs_no_file(tmp_path: Path) -> None:
    recipe, out = noisy_run(tmp_path, PERCENTILE), tmp_path / "run"
    run = measuring(recipe, out)
    files = [Made(sample.file, sample.source, sample.path) for sample in run.stored.samples() if not sample.label]
    job = ClassJob(0, {"images": files})
    sent = job.packed()
    there, here = ClassImages(sent, run.data), ClassImages(job, run.data)
    digests = here.digests(files)
    for one in files:
        assert isinstance(one.content, Path)
        one.content.unlink()
    assert there.digests(sent.made["images"]) == digests
    with pytest.raises(ConcordError, match=r"images/coral perch/00000\.png"):
        there.digests([replace(files[0], content=b"no image")])


def test_an_image_is_read_once_and_embedded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the encoder that informs, three metrics look at the made images and at the same real ones."""
    recipe = noisy_run(tmp_path, {"kind": "percentile"})
    run = measuring(recipe, tmp_path / "run")
    reads: list[str] = []
    embedded = 0
    real, images = type(run.data).read, type(run.models.encoder).images

    def read(self: object, item: str) -> object:
        reads.append(item)
        return real(self, item)  # type: ignore[arg-type]

    def counted(self: object, pixels: object) -> object:
        nonlocal embedded
        embedded += len(pixels)  # type: ignore[arg-type]
        return images(self, pixels)  # type: ignore[arg-type]

    monkeypatch.setattr(type(run.data), "read", read)
    monkeypatch.setattr(type(run.models.encoder), "images", counted)
    run.results()
    assert len(reads) == len({*reads}) == 75
    assert embedded == 75 + 24
