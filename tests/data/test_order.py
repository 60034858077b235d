"""Folders that are numbers: RDED's and SRe2L's sets are scored at chance where a number is taken for another class."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from concord.data import open_data
from concord.data.class_lists import class_list
from concord.data.order import named_by_order, names_in_order
from concord.errors import ConcordError
from concord.evaluation.cells import open_sets
from concord.evaluation.settings import Settings

NAMES = ("zebra", "ape", "moose")


def folders(root: Path, names: list[str]) -> Path:
    """A folder a name, whose image's red tells how many came before."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(root / name / "0.png")
    return root


@pytest.mark.parametrize("pattern", ["{:05d}", "new{:03d}"])
def test_a_number_is_the_place_among_the_names(tmp_path: Path, pattern: str) -> None:
    made = folders(tmp_path / "made", [pattern.format(label) for label in range(3)])
    test = folders(tmp_path / "test", [*NAMES])
    data, held = open_sets(made, str(test), Settings(classes=[*NAMES]))
    assert [entry.folder for entry in data.classes] == ["ape", "moose", "zebra"]
    for entry in data.classes:
        number = NAMES.index(entry.folder)
        for images in (data, held):
            assert images.read(images.items(entry.label)[0]).getpixel((0, 0)) == (10 * number, 0, 0)
    (made / "classes.txt").write_text("\n".join(NAMES))
    assert [entry.folder for entry in open_sets(made, None, Settings())[0].classes] == ["ape", "moose", "zebra"]
    chosen = open_sets(made, None, Settings(classes=[pattern.format(1)]))[0]
    assert [entry.folder for entry in chosen.classes] == [pattern.format(1)], "a folder's own name chooses, as ever"


def test_some_of_imagenets_thousand_folders_keep_their_numbers(tmp_path: Path) -> None:
    """SRe2L names a class by its place in ImageNet-1K, whichever of them there are."""
    made = folders(tmp_path, ["new000", "new207", "new999"])
    data = named_by_order(open_data(str(made)), ["imagenet-1k"], made)
    listed = class_list("imagenet-1k")
    assert data is not None
    assert {e.wnid for e in data.classes} == {listed[label].wnid for label in (0, 207, 999)}
    assert [e.wnid for e in data.classes] == sorted(e.wnid or "" for e in data.classes)


def test_lines_may_be_names_wordnet_ids_or_what_an_export_has(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n02086240 Shih-Tzu\nn02088364\n00002\tthe folder\tthe name\nplain\n\n")
    found = names_in_order(None, tmp_path)
    assert found is not None
    keys = [(spec.key, spec.class_name, spec.wnid) for spec in found]
    assert keys[:2] == [("n02086240", "", "n02086240"), ("n02088364", "", "n02088364")]
    assert keys[2:] == [("the folder", "the name", None), ("plain", "", None)]


def test_too_few_names_and_a_name_twice_are_refused(tmp_path: Path) -> None:
    made = folders(tmp_path, ["00000", "00001", "00002"])
    with pytest.raises(ConcordError, match=r"00002, and only 2 classes are named \(0 to 1\).*classes\.txt"):
        open_sets(made, None, Settings(classes=["ape", "moose"]))
    with pytest.raises(ConcordError, match='"ape" is named twice'):
        open_sets(made, None, Settings(classes=["ape", "moose", "ape"]))
    (made / "classes.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConcordError, match="not UTF-8"):
        open_sets(made, None, Settings())
