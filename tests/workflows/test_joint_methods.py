"""A method that fits all images together: a checkpointed optimisation, images at the end, IPC in the identity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concord.data import ImageSet
from concord.errors import ConcordError
from concord.events import Progress
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample
from concord.recipe import Recipe, validate
from concord.registry import METHODS, MethodSpec
from concord.workflows.distill import distill

STEPS = 6


class Means:
    """Pixels that descend towards the mean image of their class, a step at a time; a `Fits`."""

    batch_size, variants = 2, ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data = recipe, data
        self._pixels = np.zeros((0,))
        self.steps = 0

    def count(self, class_index: int, ipc: int) -> int:
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        return Sample(class_index, index, index)

    def fit(self, folder: Path, progress: Progress) -> None:
        folder.mkdir(exist_ok=True)
        target = np.stack(
            [
                np.mean([np.asarray(self._data.read(item), float) for item in self._data.items(c)], axis=0)
                for c in range(len(self._data.classes))
            ]
        )
        done = sorted(folder.glob("*.npy"))
        self._pixels = np.load(done[-1]) if done else np.zeros_like(target)
        for step in range(len(done), STEPS):
            self._pixels = self._pixels + (target - self._pixels) / 2
            self.steps += 1
            np.save(folder / f"{step}.npy", self._pixels)
            if step == 2 and self._recipe.seed == 1 and not done:
                raise ConcordError("stopped in the middle")

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        made = []
        for sample in batch:
            pixels = self._pixels[sample.class_index]
            tensor = (pixels / 127.5 - 1).astype(np.float32).transpose(2, 0, 1)
            made.append(GeneratedImage(Image.fromarray(pixels.round().astype(np.uint8)), tensor=tensor))
        return made

    def cost(self) -> Cost:
        return Cost()


@pytest.fixture
def means(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    made: list[Means] = []

    def build(recipe: Recipe, data: ImageSet) -> Means:
        made.append(Means(recipe, data))
        return made[-1]

    monkeypatch.setitem(METHODS.added, "means", MethodSpec("means", "unused", "real", "means", ipc="joint"))
    monkeypatch.setattr("concord.workflows.distill.build", build)
    return lambda **values: (validate({"method": "means", "data": str(photos), "ipc": 2, **values}), made)


def test_it_is_fitted_once_and_its_tensors_lie_beside_the_pictures(means: Any, tmp_path: Path) -> None:
    recipe, made = means()
    distill(recipe, tmp_path / "o")
    assert made[-1].steps == STEPS
    assert not (tmp_path / "o" / "fit").exists()
    tensors = sorted((tmp_path / "o" / "tensors").rglob("*.npy"))
    pictures = sorted((tmp_path / "o" / "images").rglob("*.png"))
    assert len(tensors) == len(pictures) == 6
    for tensor, picture in zip(tensors, pictures, strict=True):
        exact = (np.load(tensor).transpose(1, 2, 0) + 1) * 127.5
        assert np.load(tensor).dtype == np.float32
        assert np.abs(exact - np.asarray(Image.open(picture), float)).max() <= 0.5 + 1e-4
    built = len(made)
    distill(recipe, tmp_path / "o")
    assert len(made) == built  # nothing is missing: no method is even built


def test_what_was_fitted_before_a_stop_is_taken_up_again(means: Any, tmp_path: Path) -> None:
    recipe, made = means(seed=1)
    with pytest.raises(ConcordError, match="in the middle"):
        distill(recipe, tmp_path / "o")
    distill(recipe, tmp_path / "o")
    assert made[-1].steps == STEPS - 3
    rows = (tmp_path / "o" / "images" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(row)["index"] for row in rows] == [0, 1] * 3


def test_another_ipc_is_another_set(means: Any, tmp_path: Path) -> None:
    distill(means()[0], tmp_path / "o")
    with pytest.raises(ConcordError, match="ipc was 2, now 3"):
        distill(means(ipc=3)[0], tmp_path / "o")
