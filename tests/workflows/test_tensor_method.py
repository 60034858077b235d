"""A method whose set is its tensors, from the recipe to a student: as one of another package would be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import ImageSet, open_data
from concord.data.space import Space
from concord.data.tensor_set import TensorForm, open_tensors
from concord.errors import ConcordError
from concord.events import Progress
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe, validate
from concord.registry import METHODS, MethodSpec
from concord.runs import tensors as runs_tensors
from concord.runs.verify import verify
from concord.workflows.distill import distill

SPACE = Space.normalised((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
SIDE = 8
called: list[str] = []


class Stretched:
    """Real images, their values twice as far from the mean as eight bits hold; `Fits` and `InTensors`."""

    batch_size, variants = 2, ("images",)

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data, self._scale = recipe, data, 0.0

    def count(self, class_index: int, ipc: int) -> int:
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        key = self._data.classes[class_index].key
        return Sample(class_index, index, sample_seed(self._recipe.seed, key, index))

    def fit(self, folder: Path, progress: Progress) -> None:
        called.append("fit")
        self._scale = 2.0

    def form(self) -> TensorForm:
        called.append("form")
        return TensorForm(SPACE, decode=2, rate=0.02 * self._scale)

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        return [self._image(sample) for sample in batch]

    def _image(self, sample: Sample) -> GeneratedImage:
        picture = self._data.read(self._data.items(sample.class_index)[sample.index])
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
        values = self._scale * SPACE.of_pixels(pixels)[0]
        soft = np.full(3, 0.1, np.float32)
        soft[sample.class_index] = 0.8
        return GeneratedImage(SPACE.picture(values), tensor=values.numpy(), soft=soft)

    def cost(self) -> Cost:
        return Cost()


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Of ten-times-ten-coloured noise, three classes whose order another tool counts otherwise."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cat")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 150, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., label] += 80
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    spec = MethodSpec("stretched", f"{__name__}:Stretched", "real", "Real images, stretched.", ipc="joint")
    monkeypatch.setitem(METHODS.added, "stretched", spec)
    called.clear()
    return validate({"method": "stretched", "data": str(tmp_path / "photos"), "ipc": 2})


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.stderr
    return result.stdout


def expected(photos: Path) -> torch.Tensor:
    data = open_data(str(photos))
    pixels = [np.array(data.read(item)) for entry in data.classes for item in data.items(entry.label)[:2]]
    return 2 * SPACE.of_pixels(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) / 255)


def test_its_set_is_written_evaluated_and_exported(recipe: Recipe, tmp_path: Path) -> None:
    out, photos = tmp_path / "out", Path(recipe.data)
    distill(recipe, out)
    assert called == ["fit", "form"]
    found = open_tensors(out / "tensors.safetensors")
    assert torch.equal(found.images, expected(photos))
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert (found.form.decode, found.form.rate) == (2, 0.04)
    assert found.soft is not None and found.soft[3].tolist() == pytest.approx([0.1, 0.8, 0.1])
    for item in found.places:
        preview = np.asarray(Image.open(out / "images" / f"{item}.png"))
        assert np.array_equal(preview, np.asarray(found.read(item)))
    assert verify(out).faults == ()

    quick = ("--test", photos, "student=convnet-1", "width=4", "workers=1", "epochs=2", "protocol=dc", "seeds=1")
    run("evaluate", out, *quick)
    [cell] = json.loads((out / "evaluation.json").read_text())["cells"]
    assert (cell["ipc"], cell["images"], cell["changed"]["lr"]) == (2, 24, 0.04)
    assert cell["tensors"] == {"space": "normalised", "channels": 3, "decode": 2, "rate": 0.04, "soft": True}

    run("export", out, "--layout", "folder", "--out", tmp_path / "export")
    assert "tensors.safetensors" in (tmp_path / "export" / "README.md").read_text()
    assert verify(tmp_path / "export").faults == ()
    run("evaluate", tmp_path / "export", *quick)
    [again] = json.loads((tmp_path / "export" / "evaluation.json").read_text())["cells"]
    assert {**again, "seconds": 0} == {**cell, "seconds": 0}
    run("evaluate", out / "images", *quick, "lr=0.04")
    [rounded] = json.loads((out / "images" / "evaluation.json").read_text())["cells"]
    assert rounded["images"] == 6 and rounded["settings"] != cell["settings"], "the previews are another set"


def test_an_export_for_ddranking_has_the_tensors_in_its_order(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concord.export import ddranking

    out = tmp_path / "out"
    distill(recipe, out)
    monkeypatch.setattr(ddranking, "its_order", lambda classes: ("Odd", [classes[2], classes[0], classes[1]]))
    said = run("export", out, "--layout", "ddranking", "--out", tmp_path / "export")
    made = load_file(tmp_path / "export" / "ddranking.safetensors")
    values = expected(Path(recipe.data))
    assert torch.equal(made["images"], values[[4, 5, 0, 1, 2, 3]])
    assert made["soft_labels"][0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    assert 'image_tensor=made["images"], soft_labels=made.get("soft_labels"), syn_lr=0.04' in said


def test_a_run_that_stops_before_its_file_ends_without_fitting_anew(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def full(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched, pytest.raises(ConcordError, match="no space left"):
        patched.setattr(runs_tensors, "save_tensors", full)
        distill(recipe, out)
    result = CliRunner().invoke(app, ["evaluate", str(out), "--test", recipe.data])
    assert result.exit_code == 2 and "no tensors.safetensors yet: it is not finished" in result.stderr
    called.clear()
    distill(recipe, out)
    assert called == []
    whole = (out / "tensors.safetensors").read_bytes()
    (out / "tensors.safetensors").write_bytes(whole[:-9] + b"elsewhere")
    with pytest.raises(ConcordError, match="is another file than the run left"):
        from concord.export import export

        export(out, "folder", tmp_path / "export")
    distill(recipe, out)
    assert (out / "tensors.safetensors").read_bytes() == whole and called == []


def test_tensors_that_are_no_squares_of_one_size_are_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter(range(4, 10))
    monkeypatch.setattr(
        Stretched,
        "_image",
        lambda self, sample: GeneratedImage(Image.new("RGB", (4, 4)), tensor=np.zeros((3, next(sizes), 4), np.float32)),
    )
    with pytest.raises(ConcordError, match="of 6 sizes, where squares of one are expected"):
        distill(recipe, tmp_path / "out")
