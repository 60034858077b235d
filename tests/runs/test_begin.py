"""A set that grows from other photographs than it was begun with is two sets in one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from concord.errors import ConcordError
from concord.events import Silent
from concord.recipe import validate
from concord.workflows.distill import distill


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(pixels).save(path.with_suffix(".bmp"))  # of the same size whatever it shows


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(200):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number:03d}", number)
    return tmp_path / "photos"


def grow(photos: Path, ipc: int, out: Path, **settings: Any) -> Any:
    return distill(validate({"method": "random", "data": str(photos), "ipc": ipc, **settings}), out)


def stored(out: Path) -> Any:
    return json.loads((out / "environment.json").read_text())["data"]


def forget(out: Path, *keys: str) -> None:
    """Make a directory one of before: its environment.json lacks some keys."""
    values = json.loads((out / "environment.json").read_text())
    for key in keys:
        values["data"].pop(key, None)
    (out / "environment.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("fingerprint", "change"),
    [
        ("sample", lambda photos: photo(photos / "a" / "000", 999)),  # looked into, as the first of its class
        ("all", lambda photos: photo(photos / "b" / "101", 999)),
        ("sample", lambda photos: (photos / "b" / "101.bmp").write_bytes(b"cut")),  # by its size
        ("sample", lambda photos: (photos / "b" / "101.bmp").unlink()),
    ],
)
def test_changed_photographs_are_refused_and_the_same_go_on(
    photos: Path, tmp_path: Path, fingerprint: str, change: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    grow(photos, 1, out, fingerprint=fingerprint)
    assert grow(photos, 2, out, fingerprint=fingerprint)["images"] == 4
    before = stored(out)
    change(photos)
    with pytest.raises(ConcordError, match=r"are not those that .* was begun with .*; restore them, or give another"):
        grow(photos, 3, out, fingerprint=fingerprint)
    assert stored(out) == before


def test_a_sample_does_not_see_what_all_does(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grow(photos, 1, out, fingerprint="all")
    kept = stored(out)["content_of_all"]
    photo(photos / "b" / "101", 999)
    grow(photos, 2, out)
    assert stored(out)["content_of_all"] == kept, "what was asked for once is not forgotten"
    with pytest.raises(ConcordError, match="files of the same names hold something else now"):
        grow(photos, 3, out, fingerprint="all")


def test_a_directory_of_before_is_taken_up_by_names(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    grow(photos, 1, out)
    forget(out, "content", "content_of_all")
    photo(photos / "a" / "000", 999)
    assert grow(photos, 2, out)["images"] == 4
    photo(photos / "a" / "000", 998)
    with pytest.raises(ConcordError, match="hold something else now"):
        grow(photos, 3, out)
    forget(out, "fingerprint")
    with pytest.raises(ConcordError, match="are not those that"):
        grow(photos, 3, out)


def test_a_set_is_not_made_into_its_own_photographs(photos: Path) -> None:
    with pytest.raises(ConcordError, match="is where the real images lie; give another --out"):
        grow(photos, 1, photos)
    assert {path.name for path in photos.iterdir()} == {"a", "b"}


def test_where_unreadable_ones_are_passed_over_a_change_is_said(photos: Path, tmp_path: Path) -> None:
    said: list[str] = []

    class Hears(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    for ipc in (1, 2, 3):
        said.clear()
        recipe = validate({"method": "random", "data": str(photos), "unreadable": "skip", "ipc": ipc})
        distill(recipe, tmp_path / "out", Hears())
        assert any("files of the same names hold something else now" in note for note in said) is (ipc == 2)
        (photos / "a" / "000.bmp").write_bytes(b"broken")
