"""A class that is missed, doubled or mislabelled here is wrong in every number that follows."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from concord.choices import Unreadable
from concord.data import ClassSpec, class_table, open_data, open_test, restrict
from concord.data.checks import survey
from concord.data.folder import open_folder
from concord.data.splits import is_image
from concord.errors import ConcordError
from concord.recipe import validate
from concord.storage.files import passed_over
from concord.text import nearest
from concord.workflows.distill import distill


def fill(root: Path, files: dict[str, int]) -> Path:
    """Make class folders with so many images each."""
    for folder, count in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (4, 4), (i % 256, 0, 0)).save(root / folder / f"{i:03d}.png")
    return root


def test_classes_are_folders_in_sorted_order_whatever_their_names(tmp_path: Path) -> None:
    data = open_folder(fill(tmp_path, {"zebra": 1, "Äpfel und Birnen": 2, "golden_retriever": 1, "犬": 1, "a.b": 1}))
    assert [e.folder for e in data.classes] == sorted(["zebra", "Äpfel und Birnen", "golden_retriever", "犬", "a.b"])
    assert [e.label for e in data.classes] == list(range(5))
    entry = data.classes.find("golden_retriever")
    assert entry.class_name == "golden retriever"
    assert data.items(data.classes.find("Äpfel und Birnen").label) == [
        "Äpfel und Birnen/000.png",
        "Äpfel und Birnen/001.png",
    ]
    assert data.read("犬/000.png").size == (4, 4)


def test_any_depth_and_names_of_nested_classes(tmp_path: Path) -> None:
    data = open_folder(fill(tmp_path, {"pets/dog": 1, "pets/cat": 1, "left/shoe": 1, "right/shoe": 1, "x/y/z": 2}))
    names = {e.key: (e.folder, e.class_name) for e in data.classes}
    assert names["pets/dog"] == ("pets - dog", "dog")
    assert names["left/shoe"] == ("left - shoe", "left shoe")
    assert names["x/y/z"] == ("x - y - z", "z")


def test_hidden_files_and_other_files_are_no_images(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 1, ".cache": 1, "__MACOSX/a": 1, "notes": 0})
    (tmp_path / "a" / "._000.png").write_bytes(b"apple")
    (tmp_path / "a" / "readme.txt").write_text("x")
    (tmp_path / "classes.txt").write_text("what lies beside the class folders is no image that was passed over")
    (tmp_path / "a" / "B.JPG").write_bytes((tmp_path / "a" / "000.png").read_bytes())
    data = open_folder(tmp_path)
    assert [e.key for e in data.classes] == ["a"]
    assert data.items(0) == ["a/000.png", "a/B.JPG"]
    assert data.notes == ["1 folder without images left out: notes", "left out by their suffixes: 1 .txt"]


def test_what_is_left_out_by_its_suffix_is_counted_with_what_would_read_it(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 1, "b": 1})
    for i, name in enumerate(["{}.EPS", "{}.ps", "{}", "{}.mp4", "{}.CR2", "{}.xml", "{}.jpg_large", "{}.xml"]):
        for n in range(i + 1):
            (tmp_path / "ab"[n % 2] / name.format(f"{i}{n}")).write_bytes(b"x")
    assert open_folder(tmp_path).notes == [
        "left out by their suffixes: 3 without suffix (name images .jpg, .png, ...), 5 .cr2 (save it as PNG or JPEG),"
        " 3 .eps, .ps (save it as PNG or JPEG), 4 .mp4 (take frames out of it),"
        " 21 .xml, .jpg_large"
    ]


@given(st.dictionaries(st.text(st.characters(exclude_characters="/\0"), min_size=1), st.just(1), max_size=30))
def test_every_file_that_is_left_out_is_counted_once(names: dict[str, int]) -> None:
    left = [name for name in names if not is_image(name)]
    assert sum(map(int, re.findall(r"(?:^|, )(\d+) (?=without suffix|\.)", passed_over(left)))) == len(left)


@pytest.mark.parametrize("unreadable", ["error", "skip"])
def test_a_set_of_which_most_cannot_be_read_is_refused(tmp_path: Path, unreadable: Unreadable) -> None:
    fill(tmp_path, {"a": 40})
    for path in sorted((tmp_path / "a").iterdir())[:22]:
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n")
    said = (
        r"^data: \d+ of the \d+ images looked at cannot be read; cannot read the image \S+/a/000.png: it is a Git LFS"
    )
    for open_ in (lambda path: open_data(path, unreadable), open_test):
        with pytest.raises(ConcordError, match=said) as caught:
            open_(str(tmp_path))
        assert "unreadable=skip" not in str(caught.value)
    fill(tmp_path, {"a": 10})
    assert len(open_data(str(tmp_path), unreadable).items(0)) == 40  # a minority may be left out


def test_a_set_cut_off_in_copying_is_refused_when_it_is_surveyed(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 12, "b": 12})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ConcordError, match=r"2\d of the 24 images looked at cannot be read; .*truncated"):
        survey(open_data(str(tmp_path), "skip"))


def test_what_is_no_file_is_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 3, "b": 3})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    os.symlink("/dev/zero", tmp_path / "b" / "zero.png")
    os.symlink("/dev/zero", tmp_path / "b" / "metadata.jsonl")
    found = survey(open_data(str(tmp_path), "skip"))
    assert found.unreadable == ("a/pipe.png", "b/zero.png")
    for item in found.unreadable:
        with pytest.raises(ConcordError, match=r"it is a (pipe|device), where a file is expected; unreadable=skip"):
            open_data(str(tmp_path)).read(item)


def test_a_training_split_is_taken_and_said(tmp_path: Path) -> None:
    fill(tmp_path, {"train/a": 2, "train/b": 2, "validation/a": 1, "test/b": 1})
    data = open_folder(tmp_path)
    assert [e.key for e in data.classes] == ["a", "b"]
    assert "train/ is the data" in data.notes[0]


def test_a_held_out_split_is_tested_on_and_never_the_training_split(tmp_path: Path) -> None:
    fill(tmp_path / "a", {"train/a": 2, "Validation/a": 1, "test/a": 1})
    data = open_test(str(tmp_path / "a"))
    assert data.notes == [f"{tmp_path / 'a'} has splits (Validation, test, train): test/ is the data"]
    assert data.items(0) == ["a/000.png"]
    fill(tmp_path / "b", {"train/a": 2, "Validation/a": 3, "test": 1})  # unlabelled, as competitions have it
    assert len(open_test(str(tmp_path / "b")).items(0)) == 3
    for name, test in (("c", {"test": 3}), ("d", {"train/b": 1})):
        with pytest.raises(ConcordError, match="no held-out split with class folders"):
            open_test(str(fill(tmp_path / name, {"train/a": 2, **test})))
    assert [e.key for e in open_test(str(fill(tmp_path / "e", {"val/a": 1}))).classes] == ["a"]
    assert [e.key for e in open_test(str(fill(tmp_path / "f", {"train": 2, "test": 1}))).classes] == ["test", "train"]
    assert [e.key for e in open_test(str(fill(tmp_path / "g", {"hat": 2, "test": 1}))).classes] == ["hat", "test"]


def test_reef_has_a_test_set_of_its_own() -> None:
    train, test = open_data("reef"), open_data("reef-test")
    assert open_test("reef").fingerprint == open_test("reef-test").fingerprint == test.fingerprint
    assert test.fingerprint != train.fingerprint
    assert open_test("reef").notes and not test.notes
    assert [e.key for e in test.classes] == [e.key for e in train.classes]
    item = test.items(0)[0]
    assert not np.array_equal(test.read(item), train.read(item))
    assert test.size(item) == test.read(item).size
    assert validate({"method": "random", "data": "reef-test"}).data == "reef-test"


def test_folders_without_images_are_named(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 1, "b/c": 1, "lost": 0, "b/gone": 0})
    data = open_folder(tmp_path)
    assert data.empty == ["b/gone", "lost"]
    assert data.notes == ["2 folders without images left out: b/gone, lost"]


def test_a_made_set_calls_its_classes_as_its_manifest_does(tmp_path: Path) -> None:
    photos = fill(tmp_path / "photos", {"pets/dog": 2, "n02096294": 2, "train": 2})
    settings = {"method": "random", "data": str(photos), "ipc": 1, "class_names": {"train": 'a "train" / 車'}}
    distill(validate(settings), tmp_path / "run")
    with open(tmp_path / "run" / "images" / "metadata.jsonl", "a") as manifest:
        manifest.write('[1]\n{"file_name": 3, "class_name": "x"}\n{"file_name": "train/00001.png", "cla')
    made = open_data(str(tmp_path / "run"))
    assert {e.folder: (e.class_name, e.wnid) for e in made.classes} == {
        "n02096294": ("Australian terrier", "n02096294"),
        "pets - dog": ("dog", None),
        "train": ('a "train" / 車', None),
    }


def test_classes_called_train_and_test_are_classes(tmp_path: Path) -> None:
    assert [e.key for e in open_folder(fill(tmp_path, {"train": 2, "test": 1})).classes] == ["test", "train"]


def test_a_made_set_is_read_by_its_images_only(tmp_path: Path) -> None:
    fill(tmp_path, {"images/a": 1, "uninformed/a": 1})
    (tmp_path / "images" / "metadata.jsonl").write_text("")
    data = open_folder(tmp_path)
    assert [e.key for e in data.classes] == ["a"]
    assert "made by concord" in data.notes[0]


def test_loose_images_are_left_out_and_said(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 1, ".": 2})
    data = open_folder(tmp_path)
    assert len(data.classes) == 1
    assert "2 images directly in" in data.notes[0]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", {"x": 1})
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    os.symlink(store / "x" / "000.png", root / "a" / "0.png")
    os.symlink(store / "x", root / "b")
    os.symlink(root, root / "a" / "up")
    assert [e.key for e in open_folder(root).classes] == ["a", "b"]


def test_what_is_wrong_with_a_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="there is no folder"):
        open_folder(tmp_path / "gone")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConcordError, match="got the file"):
        open_folder(tmp_path / "file")
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(ConcordError, match="no images in"):
        open_folder(tmp_path / "empty")
    (tmp_path / "empty" / "a" / "b.jxl").write_text("x")
    with pytest.raises(ConcordError, match=r"found 1 \.jxl"):
        open_folder(tmp_path / "empty")
    with pytest.raises(ConcordError, match="2 images lie directly in"):
        open_folder(fill(tmp_path / "flat", {".": 2}))


def test_what_reads_a_phones_photographs_is_named() -> None:
    assert passed_over(["a.heic", "b.heif"]) == "2 .heic, .heif (pip install 'concord-distill[heif]' reads it)"


def test_two_classes_cannot_share_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="share the folder"):
        open_folder(fill(tmp_path, {"a/b": 1, "a - b": 1}))


def test_names_that_are_not_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    target = os.fsencode(tmp_path / "a") + b"/\xff.png"
    try:
        with open(target, "wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("this file system stores text names only")
    with pytest.raises(ConcordError, match="not valid UTF-8"):
        open_folder(tmp_path)


def test_the_fingerprint_tells_another_set_of_images(tmp_path: Path) -> None:
    fill(tmp_path, {"a": 2, "b": 1})
    before = open_folder(tmp_path).fingerprint
    assert open_folder(tmp_path).fingerprint == before
    fill(tmp_path, {"b": 2})
    assert open_folder(tmp_path).fingerprint != before


def test_some_classes_are_counted_anew_and_renamed(tmp_path: Path) -> None:
    whole = open_folder(fill(tmp_path, {"a": 1, "b": 2, "c_d": 3}))
    part = restrict(whole, ["c d", "b"], {"b": "bee"})
    assert [(e.label, e.key, e.class_name) for e in part.classes] == [(0, "b", "bee"), (1, "c_d", "c d")]
    assert [len(part.items(i)) for i in range(2)] == [2, 3]
    assert part.read(part.items(1)[0]).mode == "RGB"
    assert restrict(whole, None, {}) is whole


def test_an_unknown_class_names_the_nearest(tmp_path: Path) -> None:
    whole = open_folder(fill(tmp_path, {"dress": 1, "hat": 1}))
    with pytest.raises(ConcordError, match=r'unknown class "dres" \(did you mean "dress"\?\)'):
        restrict(whole, ["dres"], {})
    with pytest.raises(ConcordError, match='unknown class "cap"'):
        restrict(whole, None, {"cap": "hat"})
    with pytest.raises(ConcordError, match="classes is empty"):
        restrict(whole, [], {})


def test_an_ambiguous_name_is_no_answer() -> None:
    table = class_table([ClassSpec("a", "crane"), ClassSpec("b", "crane")])
    with pytest.raises(ConcordError, match="ambiguous; name one of the folders: a, b"):
        table.find("crane")
    assert table.find("b").key == "b"
    assert class_table([ClassSpec("n02115641")]).find("n02115641").wnid == "n02115641"


_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(st.sets(_names, min_size=1, max_size=8))
def test_every_class_is_found_under_its_key_and_labels_follow_folders(keys: set[str]) -> None:
    table = class_table(ClassSpec(key) for key in keys)
    assert [e.folder for e in table] == sorted(keys)
    assert all(table.find(key).key == key and table[table.find(key).label].key == key for key in keys)
    assert all(e.class_name for e in table)


@pytest.mark.parametrize(("unreadable", "suggests"), [("error", True), ("skip", False)])
def test_an_unreadable_image_is_named_with_the_way_out(tmp_path: Path, unreadable: str, suggests: bool) -> None:
    fill(tmp_path, {"a": 3})
    (tmp_path / "a" / "000.png").write_bytes(b"broken")
    data = open_data(str(tmp_path), unreadable)  # type: ignore[arg-type]
    with pytest.raises(ConcordError, match=r"a/000\.png") as caught:
        data.read("a/000.png")
    assert ("unreadable=skip" in str(caught.value)) is suggests


def test_a_class_is_found_whatever_its_case_and_unicode_form(tmp_path: Path) -> None:
    composed, apart = unicodedata.normalize("NFC", "Café au lait"), unicodedata.normalize("NFD", "Café au lait")
    data = open_folder(fill(tmp_path, {apart: 1, "Golden_Retriever": 1}))
    assert data.notes == []
    for word in (composed, apart, composed.upper(), apart.lower()):
        assert data.classes.find(word).key == apart
    kept = restrict(data, [composed, "golden retriever", "GOLDEN_RETRIEVER"], {"golden retriever": "dog"})
    assert [entry.class_name for entry in kept.classes] == [apart, "dog"]
    with pytest.raises(ConcordError, match="unknown class"):
        data.classes.find(composed, exactly=True)


def test_what_is_spelled_exactly_goes_first_and_two_spellings_are_said(tmp_path: Path) -> None:
    both = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
    data = open_folder(fill(tmp_path, {"Cat": 1, "cat": 1, both[0]: 1, both[1]: 1}))
    if len(data.classes) < 4:
        pytest.skip("this file system takes such names for one")
    assert [data.classes.find(word).key for word in ("Cat", "cat", *both)] == ["Cat", "cat", *both]
    with pytest.raises(ConcordError, match="ambiguous"):
        data.classes.find("CAT")
    assert data.notes[0] == '"Cat", "cat" are 2 spellings of one name: they are taken for 2 classes'
    assert "letters and marks in one character, and in two" in data.notes[1]


@given(st.text(max_size=8), st.sampled_from([str, str.upper, str.lower, str.swapcase]))
def test_no_name_is_asked_back_that_looks_as_it_was_given(name: str, change: Callable[[str], str]) -> None:
    for word in (name, unicodedata.normalize("NFD", name), change(name)):
        suggested = nearest(word, [name, unicodedata.normalize("NFC", name)])
        assert f'"{word}"' not in suggested
        assert unicodedata.normalize("NFC", f'"{word}"') not in unicodedata.normalize("NFC", suggested)
