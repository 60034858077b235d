"""Sets whose samplings begin from images: which one is planned, and the sets grow, resume and report as others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_reef import PHOTOGRAPHED as CLASSES
from tiny_reef import reef_recipe

from concord.errors import ConcordError
from concord.methods.diffusion import Generate
from concord.methods.real import ImagePool, shuffled
from concord.pipelines.starts import image_latents
from concord.recipe import Recipe, identity, load
from concord.runs.store import read_manifest
from concord.storage.images import to_pil
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data
from concord.workflows.preview import preview


@pytest.fixture
def models(models: Path, photos: Path) -> Models:
    return Models(models, photos)


class Models(NamedTuple):
    """Where the models and the real images lie."""

    folder: Path
    photos: Path


def recipe(models: Models, start: str, **changes: Any) -> Recipe:
    pipeline = {"model": str(models.folder / "pipeline"), "steps": 4, "guidance_scale": 1.0, "start": start}
    values = {"classes": CLASSES, "uninformed": False, "informing": {"enabled": False}, "scorer": {"kind": "none"}}
    values |= {"pipeline": pipeline | changes.pop("pipeline", {}), "teacher": None, "nuisance": None}
    values["data"] = str(models.photos)
    return reef_recipe(models.folder, **values | changes)


def pixels(out: Path, variant: str = "images") -> list[np.ndarray]:
    rows = read_manifest(out / variant)
    return [np.asarray(Image.open(out / variant / row["file_name"])).astype(int) for row in rows]


def read(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in (out / "images").rglob("*.*")}


def test_real_images_start_in_the_order_of_the_pool_and_a_grown_set_is_the_one_made_at_once(
    models: Models, tmp_path: Path
) -> None:
    distill(recipe(models, "real", ipc=1), tmp_path / "grown")
    grown = distill(recipe(models, "real", ipc=3), tmp_path / "grown")
    once = distill(recipe(models, "real", ipc=3), tmp_path / "once")
    assert (grown["made"], grown["kept"]) == (6, 3)
    assert read(tmp_path / "grown") == read(tmp_path / "once")
    data = open_recipe_data(recipe(models, "real"))
    pool = ImagePool(data, shuffled(0), False)
    rows = read_manifest(tmp_path / "once" / "images")
    assert [row["source"] for row in rows] == [pool.first(c, 3)[i] for c in range(3) for i in range(3)]
    assert "start" not in rows[0]
    # Whoever begins from photographs is told of near copies, though nothing is informed.
    assert once["near_copies"]["of"] == 9
    page = (tmp_path / "once" / "report.html").read_text(encoding="utf-8")
    assert "began from a real image under noise" in page


def test_less_noise_leaves_an_image_nearer_to_its_start(models: Models) -> None:
    data = open_recipe_data(recipe(models, "real"))
    distances = []
    for strength in (0.25, 1.0):
        method = Generate(recipe(models, "real", pipeline={"image_strength": strength}), data)
        batch = [method.sample(c, 0) for c in range(3)]
        made = method.make(batch, "images")
        model = method.sampler.model("")
        start = image_latents(model, [data.read(sample.source) for sample in batch])
        with torch.no_grad():
            back = to_pil(model.decode(start))
        pairs = zip(made, back, strict=True)
        distances.append(np.mean([np.abs(np.asarray(a.image) * 1.0 - np.asarray(b)).mean() for a, b in pairs]))
    assert distances[0] < distances[1]


def test_prototypes_by_turns_and_another_number_is_another_identity(models: Models) -> None:
    few = recipe(models, "prototype", pipeline={"prototypes": 2})
    made = []
    for _ in range(2):  # two workers find the same ones
        method = Generate(few, open_recipe_data(few))
        batch = [method.sample(1, index) for index in range(3)]
        made.append([np.asarray(one.image) for one in method.make(batch, "images")])
    assert [(sample.start, sample.source) for sample in batch] == [(f"prototype {n}", "") for n in (0, 1, 0)]
    assert np.array_equal(*made)
    assert identity(few) != identity(recipe(models, "prototype", pipeline={"prototypes": 3}))


def test_the_images_of_another_set_and_no_more_than_it_has(models: Models, tmp_path: Path) -> None:
    chosen = load("photos", [f"data={models.photos}", "ipc=2", "size=null", f"classes={CLASSES}"])
    distill(chosen, tmp_path / "chosen")
    start = str(tmp_path / "chosen")
    distill(recipe(models, start, ipc=2), tmp_path / "out")
    rows = read_manifest(tmp_path / "out" / "images")
    assert [row["start"] for row in rows] == [f"images/{c}/0000{i}.png" for c in sorted(CLASSES) for i in range(2)]
    # Its images are those of the pool: the same samples as from the real images themselves, stored without loss.
    distill(recipe(models, "real", ipc=2), tmp_path / "real")
    assert all(np.array_equal(a, b) for a, b in zip(pixels(tmp_path / "out"), pixels(tmp_path / "real"), strict=True))
    with pytest.raises(ConcordError, match=r"has 2 images of coral perch, and ipc=3 asks for more"):
        distill(recipe(models, start, ipc=3), tmp_path / "out")
    with pytest.raises(ConcordError, match="no images of the class coral perch"):
        method = Generate(recipe(models, start), open_recipe_data(recipe(models, start)))
        assert method._start_set is not None
        method._start_set._files.pop("coral perch")
        method.sample(0, 0)
    (tmp_path / "empty").mkdir()
    for wrong, said in ((tmp_path / "empty", "holds no run"), (tmp_path / "reel", "expected noise, real, prototype")):
        with pytest.raises(ConcordError, match=said):
            preview(recipe(models, str(wrong)), tmp_path / "new")


def test_informing_acts_from_the_start_on_and_its_partner_begins_alike(models: Models, tmp_path: Path) -> None:
    informed = recipe(models, "real", uninformed=True, informing={"strength": 0.5})
    results = distill(informed, tmp_path / "a")
    assert results["near_copies"]["of"] == 6
    pairs = zip(pixels(tmp_path / "a"), pixels(tmp_path / "a", "uninformed"), strict=True)
    assert all((a != b).any() for a, b in pairs)
    distill(recipe(models, "real"), tmp_path / "b")
    assert all(
        np.array_equal(a, b) for a, b in zip(pixels(tmp_path / "a", "uninformed"), pixels(tmp_path / "b"), strict=True)
    )


def test_dry_run_times_the_steps_that_are_taken(models: Models, tmp_path: Path) -> None:
    assert (preview(recipe(models, "real"), tmp_path / "new").seconds or 0) > 0


def test_recipes_of_before_have_the_identity_that_they_had() -> None:
    before = identity(load("reef"))["pipeline"]
    assert not {"start", "prototypes"} & before.keys()
    after = identity(load("reef", ["pipeline.start=real"]))["pipeline"]
    assert {k: v for k, v in after.items() if k != "start"} == before


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["pipeline.image_strength=0.6"], "pipeline.start=real"),
        (["pipeline.start=noise", "pipeline.image_strength=0.6"], "start is noise"),
        (["pipeline.start=real", "pipeline.prototypes=3"], "it is of pipeline.start prototype"),
        (["pipeline.start=real", "pipeline.steps=1"], "less than one step"),
    ],
)
def test_what_cannot_act_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        load("reef", typed)
