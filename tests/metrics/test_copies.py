"""A made image that repeats a real one must be found; images that do not must be left in peace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from concord.data import ImageSet, open_data
from concord.data.folder import FolderSet
from concord.errors import ConcordError
from concord.metrics import copies
from concord.metrics.class_images import ClassImages, ClassJob, Made, pixel_digest
from concord.metrics.copies import compared, copies_summary
from concord.recipe import Format
from concord.storage import images
from concord.storage.images import PLAIN, encode

SIDE = tiny.PIXELS


def noise(count: int, seed: int) -> list[Image.Image]:
    draw = np.random.default_rng(seed)
    return [Image.fromarray(draw.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]


def retouched(picture: Image.Image) -> Image.Image:
    """A copy whose every pixel differs by one."""
    array = np.asarray(picture).astype(int)
    return Image.fromarray(np.where(array < 128, array + 1, array - 1).astype(np.uint8))


@pytest.fixture
def real(tmp_path: Path) -> FolderSet:
    for folder, seed in (("cat", 1), ("dog", 2)):
        (tmp_path / folder).mkdir()
        for i, picture in enumerate(noise(30, seed)):
            picture.save(tmp_path / folder / f"{i:03d}.png")
    return open_data(str(tmp_path))  # type: ignore[return-value]


def near_copies(
    made: list[tuple[str, Image.Image, int, str]], data: ImageSet, most: int | None = None, skip: bool = False
) -> dict[str, Any]:
    """The record of made images, (file, image, label, condition image) each, compared class by class."""
    found = {}
    for entry in data.classes:
        some = [Made(file, source, encode(one, Format())) for file, one, label, source in made if label == entry.label]
        of = ClassImages(ClassJob(entry.label, {"images": some}), data, skip)
        if (one := compared(tiny.encoder(), of, most)) is not None:
            found[entry.folder] = one
    return copies.near_copies(found, [file for file, *_ in made])


def embedded(pictures: list[Image.Image]) -> np.ndarray:
    with torch.no_grad():
        return torch.cat([tiny.encoder().images(pixels) for pixels in images.batches(pictures)]).double().numpy()


def test_copies_are_flagged_and_others_are_not(real: FolderSet) -> None:
    original, condition = real.read("cat/007.png"), real.read("dog/011.png")
    made = [
        ("images/cat/00000.png", original, 0, ""),
        ("images/cat/00001.png", retouched(original), 0, ""),
        ("images/dog/00000.png", condition, 1, "dog/011.png"),
        ("images/dog/00001.png", condition, 1, "dog/011.png"),
        ("uninformed/dog/00001.png", condition, 1, "dog/012.png"),
    ]
    fresh = noise(10, 9)
    made += [(f"images/dog/{i:05d}.png", picture, 1, "") for i, picture in enumerate(fresh, 2)]
    record = near_copies(made, real)
    said = record["images"]
    assert list(said) == [file for file, *_ in made]
    assert said["images/cat/00000.png"] == {
        "nearest": "cat/007.png",
        "similarity": 1.0,
        "same_pixels": True,
        "same_as_condition": False,
        "flagged": True,
    }
    near = said["images/cat/00001.png"]
    assert (near["nearest"], near["same_pixels"], near["flagged"]) == ("cat/007.png", False, True)
    assert near["similarity"] > record["threshold"]["cat"]
    assert said["images/dog/00000.png"]["same_as_condition"] is True
    assert said["uninformed/dog/00001.png"]["nearest"] == "dog/011.png"
    assert said["uninformed/dog/00001.png"]["same_as_condition"] is False
    assert not [file for file in list(said)[5:] if said[file]["same_pixels"]]
    assert sum(said[file]["flagged"] for file in list(said)[5:]) <= 1
    assert record["duplicates"] == [["images/dog/00000.png", "images/dog/00001.png"]]
    short = copies_summary(record)
    assert (short["identical"], short["duplicates"], short["of"]) == (4, 1, 15)
    assert short["flagged"] == sum(one["flagged"] for one in said.values()) >= 5


def test_similarities_and_thresholds_by_plain_arithmetic(real: FolderSet) -> None:
    made = noise(3, 4)
    record = near_copies([(f"images/cat/{i}.png", p, 0, "") for i, p in enumerate(made)], real)
    names = list(real.items(0))
    those = embedded([real.read(item) for item in names])
    gap = those @ those.T - 2 * np.eye(30)
    assert record["threshold"] == {"cat": pytest.approx(np.quantile(gap.max(1), 0.999), abs=1e-4)}
    for row, one in zip(embedded(made), record["images"].values(), strict=True):
        cosines = those @ row
        assert one["nearest"] == names[cosines.argmax()]
        assert one["similarity"] == pytest.approx(cosines.max(), abs=1e-4)


def test_images_of_the_same_kind_as_the_real_ones_are_hardly_ever_flagged(real: FolderSet) -> None:
    """Real images held back are the fairest made ones: about one in a thousand may be above the threshold."""
    made = [(f"images/cat/{i}.png", picture, 0, "") for i, picture in enumerate(noise(150, 77))]
    record = near_copies(made, real)
    assert copies_summary(record)["flagged"] <= 6


def test_only_some_real_images_are_looked_at_but_always_the_condition(real: FolderSet) -> None:
    asked: list[str] = []

    class Watched(FolderSet):
        def read(self, item: str) -> Image.Image:
            asked.append(item)
            return super().read(item)

    watched = Watched(real.root, real.classes, [real.items(0), real.items(1)], [], PLAIN)
    made = [("images/cat/00000.png", real.read("cat/001.png"), 0, "cat/001.png")]
    record = near_copies(made, watched, most=5)
    assert sorted(asked) == ["cat/000.png", "cat/001.png", "cat/006.png", "cat/012.png", "cat/018.png", "cat/024.png"]
    assert record["images"]["images/cat/00000.png"]["same_as_condition"] is True


def test_real_images_that_are_stored_twice_do_not_raise_the_threshold(real: FolderSet, tmp_path: Path) -> None:
    made = [("images/cat/00000.png", noise(1, 6)[0], 0, "")]
    before = near_copies(made, real)["threshold"]
    real.read("cat/003.png").save(tmp_path / "cat" / "again.png")
    after = near_copies(made, open_data(str(tmp_path)))["threshold"]
    assert after == before


def test_a_class_of_few_images_has_the_threshold_of_all(tmp_path: Path) -> None:
    for folder, count in (("cat", 1), ("dog", 25)):
        (tmp_path / folder).mkdir()
        for i, picture in enumerate(noise(count, count)):
            picture.save(tmp_path / folder / f"{i:03d}.png")
    data = open_data(str(tmp_path))
    cat = ("images/cat/0.png", noise(1, 8)[0], 0, "")
    dog = ("images/dog/0.png", noise(1, 9)[0], 1, "")
    both = near_copies([cat, dog], data)["threshold"]
    assert both["cat"] == both["dog"]
    alone = near_copies([cat], data)
    assert alone["threshold"] == {"cat": None}
    assert alone["images"]["images/cat/0.png"]["flagged"] is False


def test_what_cannot_be_read_is_said_or_skipped(real: FolderSet, tmp_path: Path) -> None:
    (tmp_path / "cat" / "003.png").write_bytes(b"broken")
    made = [("images/cat/00000.png", noise(1, 6)[0], 0, "cat/003.png")]
    with pytest.raises(ConcordError, match=r"cat/003\.png"):
        near_copies(made, real)
    record = near_copies(made, real, skip=True)
    assert record["images"]["images/cat/00000.png"]["same_as_condition"] is False
    for path in (tmp_path / "cat").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(ConcordError, match='no image of the class "cat" can be read'):
        near_copies(made, real, skip=True)


def test_nothing_made_is_no_error(real: FolderSet) -> None:
    record = near_copies([], real)
    assert copies_summary(record) == {"flagged": 0, "identical": 0, "duplicates": 0, "of": 0}


def test_the_digest_is_of_the_picture_not_of_its_file() -> None:
    picture = noise(1, 3)[0]
    assert pixel_digest(picture) == pixel_digest(picture.convert("RGBA"))
    assert pixel_digest(picture) != pixel_digest(retouched(picture))
    assert pixel_digest(Image.new("RGB", (2, 8))) != pixel_digest(Image.new("RGB", (8, 2)))
