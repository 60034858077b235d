"""Made and real images in one set: shares by IPC, real ones chosen beside those that are there, a prefix of more."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from concord.errors import ConcordError
from concord.methods.settings import Mix, real_images
from concord.recipe import Recipe, identity, load, validate
from concord.runs.store import read_manifest
from concord.storage.images import square
from concord.workflows.distill import distill


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished set of four images a class, which need not be a diffusion model's."""
    out = tmp_path_factory.mktemp("made")
    distill(validate({"method": "random", "data": str(photos), "ipc": 4, "seed": 5}), out)
    return out


def recipe(photos: Path, made: Path, ipc: int = 4, **mix: Any) -> Recipe:
    return validate({"method": "mix", "data": str(photos), "ipc": ipc, "mix": {"made": str(made), **mix}})


def kinds(out: Path, label: int = 0) -> list[str]:
    return ["real" if row["source"] else "made" for row in read_manifest(out / "images") if row["label"] == label]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(square(image.convert("RGB"), 32)).astype(float).ravel() / 255


@pytest.mark.parametrize("choice", ["coverage", "herding", "kcenter", "random"])
def test_shares_by_ipc_and_a_prefix_of_a_larger_set(photos: Path, made: Path, tmp_path: Path, choice: str) -> None:
    shares = {"real": {2: 0.5, 6: 0.5}, "choice": choice}
    results = distill(recipe(photos, made, 6, **shares), tmp_path / "six")
    distill(recipe(photos, made, 2, **shares), tmp_path / "two")
    assert results["mix"] == {"made": 3, "real": 3}
    assert kinds(tmp_path / "six") == ["made", "real"] * 3
    six, two = (read_manifest(tmp_path / name / "images") for name in ("six", "two"))
    assert [row for row in six if row["index"] < 2] == two
    sources = [row["source"] for row in six if row["source"]]
    assert len(set(sources)) == 9
    for row in six:
        file = made / row["start"] if row.get("start") else photos / row["source"]
        with Image.open(file) as one, Image.open(tmp_path / "six" / "images" / row["file_name"]) as other:
            assert np.array_equal(np.asarray(one.convert("RGB")), np.asarray(other))
    starts = [row["start"] for row in six if row["label"] == 1 and row.get("start")]
    assert starts == [f"images/{row['file_name']}" for row in read_manifest(made / "images") if row["label"] == 1][:3]


def test_the_first_real_image_is_the_one_that_the_made_ones_lack(photos: Path, made: Path, tmp_path: Path) -> None:
    distill(recipe(photos, made, 3, real={3: 0.4}), tmp_path / "o")
    rows = [row for row in read_manifest(tmp_path / "o" / "images") if row["label"] == 0]
    assert kinds(tmp_path / "o") == ["made", "real", "made"]
    real = {row["source"].split("/")[0]: None for row in rows if row["source"]}
    folder = photos / next(iter(real))
    files = sorted(folder.iterdir())
    seen, first = np.stack([pixels(file) for file in files]), pixels(made / rows[0]["start"])
    before = ((seen - first) ** 2).sum(1)
    costs = [np.minimum(before, ((seen - one) ** 2).sum(1)).mean() for one in seen]
    chosen = [file.name for file in files].index(rows[1]["source"].split("/")[1])
    assert costs[chosen] == pytest.approx(min(costs))  # two may be as good


@given(st.dictionaries(st.integers(1, 60), st.floats(0, 1), min_size=1, max_size=3))
def test_a_set_only_grows_and_by_one_kind_at_a_time(shares: dict[int, float]) -> None:
    try:
        settings = Mix(real=shares)
    except ValueError as error:
        assert "would take images out" in str(error)
        return
    counts = [real_images(settings.real, ipc) for ipc in range(80)]
    assert counts[0] == 0
    assert {after - before for before, after in pairwise(counts)} <= {0, 1}
    for ipc, share in shares.items():
        assert abs(counts[ipc] - share * ipc) <= 0.51


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ({"real": {2: 1.0, 4: 0.2}}, "would take images out of the smaller set"),
        ({"real": {}}, "no share is given"),
        ({"real": 1.5}, "less than or equal to 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(photos: Path, made: Path, mix: dict[str, Any], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        recipe(photos, made, **mix)
    with pytest.raises(ConcordError, match=r"mix\.made is missing"):
        load("photos", [f"data={photos}", "method=mix"])


def test_too_few_images_of_either_kind_are_one_line(photos: Path, made: Path, tmp_path: Path) -> None:
    for wrong, said in (
        (recipe(photos, made, 6, real=0.0), "has 4 images of"),
        (recipe(photos, made, 9, real=1.0), "9"),
    ):
        with pytest.raises(ConcordError, match=said):
            distill(wrong, tmp_path / "o")
    with pytest.raises(ConcordError, match="holds no run"):
        distill(recipe(photos, photos), tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_another_share_is_another_set(photos: Path, made: Path) -> None:
    assert identity(recipe(photos, made, real=0.5)) != identity(recipe(photos, made, real=0.6))
    typed = load("photos", [f"data={photos}", "method=mix", f"mix.made={made}", "mix.real={1: 0.0, 4: 0.5}"])
    assert typed.of_method.real == {1: 0.0, 4: 0.5}
