"""RDED: other crops, another padding or another order of the cells would be another method under the same name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.stats import ks_2samp
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import open_data
from concord.errors import ConcordError
from concord.methods import build, needs_torch
from concord.methods.rded import cut, mosaic, on_canvas, random_square, ranks
from concord.models import teachers
from concord.models.students import Student, StudentForm
from concord.models.teachers import Teacher
from concord.plan import Crop
from concord.recipe import Recipe, models, validate
from concord.runs.store import read_manifest
from concord.storage import atomic
from concord.workflows.distill import distill
from concord.workflows.preview import preview

MEAN = (0.485, 0.456, 0.406)
SIDE = 12


@pytest.mark.parametrize("size", [(64, 64), (50, 37), (40, 200), (3, 5)])
def test_squares_are_drawn_as_torchvision_draws_them(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    ours = np.array([random_square(*size, rng) for _ in range(3000)])
    blank = torch.empty(3, size[1], size[0])
    torch.manual_seed(0)
    params = [RandomResizedCrop.get_params(blank, [0.08, 1.0], [1.0, 1.0]) for _ in range(3000)]
    theirs = np.array([(left, top, side) for top, left, side, _ in params])
    assert all(h == w for _, _, h, w in params)
    for column in range(3):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    left, top, side = ours.T
    assert (side > 0).all() and (left >= 0).all() and (top >= 0).all()
    assert (left + side <= size[0]).all() and (top + side <= size[1]).all()


def test_a_crop_is_cut_as_torchvision_cuts_it() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8))
    for crop in (Crop("", 3, 5, 30), Crop("", 0, 0, 7), Crop("", 21, 11, 29)):
        expected = TF.resized_crop(image, crop.top, crop.left, crop.side, crop.side, [16, 16])
        np.testing.assert_array_equal(cut(image, crop, 16), np.asarray(expected))


LOSSES = arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.sampled_from([0, 1, 2, 3.5]))


@settings(deadline=None)
@given(LOSSES)
def test_the_best_crop_of_each_image_goes_first_by_its_loss(losses: np.ndarray) -> None:
    images, crops = losses.shape
    order = ranks(losses)
    assert sorted(order) == [(n, m) for n in range(images) for m in range(crops)]
    best = losses.argmin(axis=1)
    first = np.argsort(losses.min(axis=1), kind="stable")
    assert order[:images] == [(n, best[n]) for n in first]
    for r in range(crops):  # then the second-best of each, and so on
        taken = [losses[place] for place in order[r * images : (r + 1) * images]]
        assert taken == sorted(np.sort(losses, axis=1)[:, r])


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("size", [12, 13, 14])
def test_crops_fill_their_cells_row_by_row(size: int, factor: int) -> None:
    rng = np.random.default_rng(size)
    crops = [rng.integers(0, 255, (size // factor,) * 2 + (3,), dtype=np.uint8) for _ in range(factor**2)]
    found = mosaic(crops, size)
    assert found.shape == (size, size, 3)
    edges = np.cumsum([0] + [size // factor + (i < size % factor) for i in range(factor)])
    for k, crop in enumerate(crops):
        i, j = divmod(k, factor)
        cell = found[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
        given = torch.from_numpy(crop).permute(2, 0, 1)[None].float()
        expected = F.interpolate(given, cell.shape[:2])[0].permute(1, 2, 0)  # nearest, torch's own
        np.testing.assert_array_equal(cell, expected.numpy())


def test_around_a_crop_the_normalised_image_is_zero() -> None:
    crops, mean = torch.rand(2, 3, 5, 5), torch.tensor(MEAN)
    normalised = TF.normalize(on_canvas(crops, 12, mean.view(1, 3, 1, 1)), MEAN, [0.2] * 3)
    expected = F.pad(TF.normalize(crops, MEAN, [0.2] * 3), (3, 4, 3, 4))  # the larger part right and below
    torch.testing.assert_close(normalised, expected)


# --- runs ------------------------------------------------------------------------------------------------------


class Colours(nn.Module):
    """Logits by how much red, green and blue there is."""

    def forward(self, x: Tensor) -> Tensor:
        return 4 * x.mean((2, 3))


def colours(order: tuple[int, ...] = (0, 1, 2), size: int = SIDE) -> Teacher:
    return Teacher(
        "colours", Student(Colours(), StudentForm("colours", 3, size, mean=MEAN, std=(0.2,) * 3)), order, size=size
    )


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Red, green and blue images: grey noise with a spot of the colour; the teacher that tells them apart."""
    draw = np.random.default_rng(1)
    for channel, (folder, count) in enumerate({"a red": 12, "b/green": 9, "c": 3}.items()):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(60, 120, (30 + i % 3, 40, 3), dtype=np.uint8)
            top, left = draw.integers(0, 18, 2)
            pixels[top : top + 12, left : left + 12, channel] = 255
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{i:02d} + {i}.png")
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: colours())
    return tmp_path / "photos"


def recipe(photos: Path, **values: Any) -> Recipe:
    plain = {"method": "rded", "data": str(photos), "teacher": "reef:teacher", "ipc": 1, "size": SIDE, "device": "cpu"}
    return validate({**plain, **values})


def rows(out: Path, label: int) -> list[dict[str, Any]]:
    return [row for row in read_manifest(out / "images") if row["label"] == label]


def losses(photos: Path, row: dict[str, Any], label: int) -> list[float]:
    """Of a row's crops, worked out anew, as RDED does it: cut, normalise, pad with zeros, cross entropy."""
    found = []
    for crop in row["crops"]:
        left, top, right, bottom = crop["box"]
        with Image.open(photos / crop["source"]) as image:
            pixels = TF.to_tensor(TF.resized_crop(image, top, left, bottom - top, right - left, [SIDE // 2] * 2))
        padded = F.pad(TF.normalize(pixels, MEAN, [0.2] * 3), [SIDE // 4] * 4)
        found.append(float(F.cross_entropy(Colours()(padded[None]), torch.tensor([label]))))
    return found


def test_an_image_is_its_four_crops_and_they_are_the_surest(tmp_path: Path, photos: Path) -> None:
    results = distill(recipe(photos, ipc=2), tmp_path / "o")
    everything = recipe(photos, ipc=3, classes=["a red"], rded={"crops": 1})
    distill(everything, tmp_path / "one crop each")
    all_losses = []
    for label in range(3):
        of_class = rows(tmp_path / "o", label)
        assert [row["index"] for row in of_class] == [0, 1]
        for row in of_class:
            with Image.open(tmp_path / "o" / "images" / row["file_name"]) as stored:
                pixels = np.asarray(stored)
            for k, crop in enumerate(row["crops"]):
                i, j = divmod(k, 2)
                with Image.open(photos / crop["source"]) as image:
                    expected = np.asarray(image.crop(crop["box"]).resize((6, 6), Image.Resampling.BILINEAR))
                np.testing.assert_array_equal(pixels[6 * i : 6 * i + 6, 6 * j : 6 * j + 6], expected)
            all_losses += losses(photos, row, label)
        in_order = [loss for row in of_class for loss in losses(photos, row, label)]
        if label < 2:  # the third class has three images only: the second round begins at the fourth crop
            assert in_order == pytest.approx(sorted(in_order), abs=1e-6)
            assert len({crop["source"] for row in of_class for crop in row["crops"]}) == 8, "one crop an image"
    assert results["teacher_loss"] == pytest.approx(np.mean(all_losses), abs=1e-3)
    # Five crops of each image hold a surer one than one crop does.
    first = [loss for row in rows(tmp_path / "one crop each", 0) for loss in losses(photos, row, 0)]
    assert len(first) == 12
    assert np.mean(first[:8]) > np.mean([loss for row in rows(tmp_path / "o", 0) for loss in losses(photos, row, 0)])


def test_a_class_with_few_images_gives_their_second_best_crops_too(tmp_path: Path, photos: Path) -> None:
    distill(recipe(photos, ipc=3), tmp_path / "o")
    crops = [(c["source"], tuple(c["box"])) for row in rows(tmp_path / "o", 2) for c in row["crops"]]
    assert len(set(crops)) == 12, "no crop twice"
    assert all(len({source for source, _ in crops[i : i + 3]}) == 3 for i in range(0, 12, 3))
    with pytest.raises(ConcordError, match=r'too few for ipc=4: "c" for 3; give ipc=3 or less, or more rded\.crops'):
        distill(recipe(photos, ipc=4), tmp_path / "more")
    assert not (tmp_path / "more").exists()
    assert distill(recipe(photos, ipc=4, rded={"crops": 6}), tmp_path / "more")["images"] == 12
    with pytest.raises(ConcordError, match=r"each of at most 2 real ones: too few for ipc=3"):
        distill(recipe(photos, ipc=3, rded={"images": 2}), tmp_path / "fewer")


def test_a_grown_set_equals_the_set_made_at_once_by_however_many_workers(tmp_path: Path, photos: Path) -> None:
    distill(recipe(photos), tmp_path / "grown")
    distill(recipe(photos, ipc=3), tmp_path / "grown")
    distill(recipe(photos, ipc=3, workers=2), tmp_path / "once")  # its workers know no such teacher, and need none
    files = [sorted((tmp_path / name / "images").rglob("*.*")) for name in ("grown", "once")]
    assert len(files[0]) == 10
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    # Other classes, and where the images of a class stand among them, change nothing.
    part = open_data(str(photos))
    alone = build(recipe(photos, ipc=3), part).sample(1, 2)
    assert [{"source": c.source, "box": list(c.box)} for c in alone.crops] == rows(tmp_path / "once", 1)[2]["crops"]


def test_the_seed_changes_the_crops(photos: Path) -> None:
    data = open_data(str(photos))
    first, second = (build(recipe(photos, seed=seed), data).sample(0, 0) for seed in (0, 1))
    assert first.crops != second.crops
    assert build(recipe(photos), data).sample(0, 0) == first


def test_broken_off_and_resumed(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distill(recipe(photos, ipc=2), tmp_path / "whole")
    calls = 0

    def stop(name: str) -> None:
        nonlocal calls
        calls += name == "row synced"
        if calls == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "failpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(recipe(photos, ipc=2), tmp_path / "o")
    results = distill(recipe(photos, ipc=2), tmp_path / "o")
    assert results["kept"] in (2, 3)
    assert read_manifest(tmp_path / "o" / "images") == read_manifest(tmp_path / "whole" / "images")


def test_unreadable_images_are_left_out(tmp_path: Path, photos: Path) -> None:
    bad = photos / "a red" / "03 + 3.png"
    bad.write_bytes(b"broken")
    with pytest.raises(ConcordError, match=r"cannot read the image .*unreadable=skip leaves it out"):
        distill(recipe(photos), tmp_path / "o")
    results = distill(recipe(photos, ipc=3, unreadable="skip"), tmp_path / "o")
    assert results["unreadable_files"] == ["a red/03 + 3.png"]
    assert results["images"] == 9


def test_dry_run_and_making_load_no_teacher(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = build(recipe(photos), open_data(str(photos))).sample(0, 0)
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: pytest.fail("the teacher was loaded"))
    plan = preview(recipe(photos), tmp_path / "o")
    assert (plan.images, plan.seconds, [m.key for m in plan.models]) == (3, None, ["teacher"])
    assert plan.disk is not None
    made = build(recipe(photos, size=None), open_data(str(photos))).make([sample], "images")
    assert made[0].image.size[0] in (30, 31, 32), "without a size, the shorter side of the first crop's image"


def test_a_teacher_in_another_class_order_is_refused(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teachers, "load_teacher", lambda *_, **__: colours((1, 2, 0)))
    with pytest.raises(ConcordError, match=r"class order is not that of|classes in another order"):
        distill(recipe(photos), tmp_path / "o")


def test_a_recipe_needs_a_teacher(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="teacher is missing: method rded needs a classifier of the data's classes"):
        recipe(photos, teacher=None)
    assert models(recipe(photos)) == {"teacher": "reef:teacher"}
    assert needs_torch(recipe(photos))
    with pytest.raises(ConcordError, match=r"needs a model that is missing here: .*gone\.pth .*there is no such file"):
        distill(recipe(photos, teacher="gone.pth"), tmp_path / "o")


def test_reef_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "o"
    result = CliRunner().invoke(app, f"distill reef method=rded ipc=1 rded.images=8 --json --out {out}".split())
    assert result.exit_code == 0, result.output
    row = read_manifest(out / "images")[9]
    with Image.open(out / "images" / row["file_name"]) as image:
        assert image.size == (64, 64)
    assert len(row["crops"]) == 4
    assert "teacher_loss" in json.loads((out / "results.json").read_text())


def test_the_image_folder_is_read_with_its_crops(tmp_path: Path, photos: Path) -> None:
    datasets = pytest.importorskip("datasets")
    distill(recipe(photos), tmp_path / "o")
    read = datasets.load_dataset(
        "imagefolder", data_dir=str(tmp_path / "o" / "images"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(read) == 3
    assert len(read[0]["crops"]) == 4
