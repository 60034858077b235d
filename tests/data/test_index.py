"""A look that was kept is the look that would be taken now, or none: no image may be missing, or be there no more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from concord.data import index
from concord.data.folder import FolderSet
from concord.data.index import keep, open_indexed

BEFORE = time.time() - 3600


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A split with two classes, one without images, beside a held-out one; all was left alone for an hour."""
    monkeypatch.setattr(index, "LARGE", 1)
    root = tmp_path / "photos"
    for folder, count in {"train/n02096294": 3, "train/büro stuhl": 2, "train/none": 0, "test/n02096294": 1}.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (5, 4), (40 * i, 0, 0)).save(root / folder / f"ü {i}.png")
    (root / "train" / "notes.txt").touch()
    settle(root)
    return root


def settle(root: Path) -> None:
    for folder in (root, *root.rglob("*")):
        os.utime(folder, (BEFORE, BEFORE))


def opened(photos: Path, kept: Path) -> FolderSet:
    data = open_indexed(kept, str(photos))
    assert isinstance(data, FolderSet)
    return data


def facts(data: FolderSet) -> object:
    items = [list(data.items(entry.label)) for entry in data.classes]
    return (
        data.root,
        data.classes,
        items,
        data.notes,
        list(data.empty),
        list(data.held_out),
        data.fingerprint,
        data.content,
    )


def test_what_was_kept_is_what_is_found(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, kept = opened(photos, tmp_path / "index"), tmp_path / "index"
    keep(found, kept)
    expected = facts(found)
    with monkeypatch.context() as patch:
        patch.setattr("concord.data.look", None)
        patch.setattr(os, "scandir", None)
        again = opened(photos, kept)
        assert facts(again) == expected
        assert again.read(again.items(0)[0]).size == (5, 4)
        keep(again, kept)
        assert facts(opened(photos, kept)) == expected


CHANGES: dict[str, Callable[[Path], object]] = {
    "an image more": lambda root: Image.new("RGB", (5, 4)).save(root / "train" / "n02096294" / "new.png"),
    "an image less": lambda root: (root / "train" / "n02096294" / "ü 0.png").unlink(),
    "another name": lambda root: (root / "train" / "n02096294" / "ü 0.png").rename(
        root / "train" / "n02096294" / "x.png"
    ),
    "a class less": lambda root: (root / "train" / "büro stuhl").rename(root.parent / "gone"),
    "another class": lambda root: (root / "train" / "büro stuhl").rename(root / "train" / "sofa"),
    "another split": lambda root: (root / "test").rename(root.parent / "gone"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_folder_that_changed_is_looked_at_again(what: str, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "index"
    keep(opened(photos, kept), kept)
    CHANGES[what](photos)
    assert facts(opened(photos, kept)) == facts(opened(photos, tmp_path / "none"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"folder": 3}', "hostile"])
def test_what_is_no_index_is_passed_over(text: str, photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "index"
    keep(opened(photos, kept), kept)
    hostile = kept.read_text().replace("ü 0.png", "../../../secret.png")
    kept.write_text(hostile if text == "hostile" else text)
    assert facts(opened(photos, kept)) == facts(opened(photos, tmp_path / "none"))


def test_a_folder_that_is_being_filled_or_is_small_is_not_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that comes in the same tick of the clock as the look leaves no other time."""
    kept = tmp_path / "index"
    os.utime(photos / "train" / "n02096294")
    keep(opened(photos, kept), kept)
    assert not kept.exists()
    settle(photos)
    found = opened(photos, kept)
    Image.new("RGB", (5, 4)).save(photos / "train" / "n02096294" / "new.png")
    settle(photos / "train")
    os.utime(photos / "train" / "n02096294", (BEFORE + 5, BEFORE + 5))  # after the look
    keep(found, kept)
    assert not kept.exists()
    monkeypatch.setattr(index, "LARGE", 20_000)
    keep(opened(photos, kept), kept)
    assert not kept.exists()
