"""A student is scored by label: one that means another class in each set would look like chance, or like nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from concord.data import ClassSpec, ImageSet, class_table, open_data, open_test, restrict
from concord.data.align import align_classes
from concord.errors import ConcordError
from concord.export import export
from concord.recipe import validate
from concord.workflows.distill import distill


class OneEach:
    """A set of classes with one image each, which tells its class."""

    known_details = None
    fingerprint = "x"
    notes = ("a note",)

    def __init__(self, *classes: ClassSpec | str, empty: str = "") -> None:
        self.classes = class_table(ClassSpec(c) if isinstance(c, str) else c for c in classes)
        self._empty = empty

    def items(self, class_index: int) -> list[str]:
        key = self.classes[class_index].key
        return [] if key == self._empty else [f"{key}/0"]

    def read(self, item: str) -> Image.Image:
        return Image.new("RGB", (3, 2))

    def size(self, item: str) -> tuple[int, int]:
        return 3, 2


def pairs(test: ImageSet, train: ImageSet) -> dict[str, str]:
    """Training class -> the test class whose images it is tested on."""
    found = align_classes(test, train)
    assert found.classes == train.classes
    return {entry.key: found.items(entry.label)[0].rpartition("/")[0] for entry in found.classes}


def refused(test: ImageSet, train: ImageSet) -> str:
    with pytest.raises(ConcordError) as caught:
        align_classes(test, train)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def photos(root: Path, *folders: str) -> Path:
    for number, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (4, 4), (number, i, 0)).save(root / folder / f"{i}.png")
    return root


def test_folders_names_and_wordnet_ids_are_one_class() -> None:
    train = OneEach("n02096294", "Border_Terrier", "hat", ClassSpec("x", "T-Shirt"), "fish - eel")
    test = OneEach("Australian terrier", "n02093754", ClassSpec("hat", "bonnet"), "t-shirt", "fish/eel")
    assert pairs(test, train) == {
        "n02096294": "Australian terrier",
        "Border_Terrier": "n02093754",
        "hat": "hat",
        "x": "t-shirt",
        "fish - eel": "fish/eel",
    }


def test_labels_are_the_training_sets_whatever_the_test_sets() -> None:
    train = OneEach(ClassSpec("0", "zebra"), ClassSpec("1", "ape"))
    test = OneEach("ape", "zebra")
    assert [e.label for e in test.classes if e.key == "zebra"] == [1]
    found = align_classes(test, train)
    assert [list(found.items(label)) for label in (0, 1)] == [["zebra/0"], ["ape/0"]]
    assert found.read("ape/0").size == found.size("ape/0") == (3, 2)
    assert found.fingerprint != align_classes(test, OneEach(ClassSpec("0", "ape"), ClassSpec("1", "zebra"))).fingerprint


def test_more_classes_in_the_test_set_are_left_out_and_said() -> None:
    found = align_classes(OneEach("a", "b", "c", "d"), OneEach("d", "b"))
    assert [list(found.items(label)) for label in (0, 1)] == [["b/0"], ["d/0"]]
    assert list(found.notes) == ["a note", "of the 4 classes of the test set, the 2 of the training set are tested"]
    assert list(align_classes(OneEach("a"), OneEach("a")).notes) == ["a note"]


def test_classes_that_the_test_set_lacks_are_named() -> None:
    said = refused(OneEach("a", "b"), OneEach("b", *"hijklmn"))
    assert 'the test set lacks 7 of the 8 classes of the training set: "h", "i", "j", "k", "l" and 2 more' in said
    assert "it has a, b" in said


def test_numbers_are_not_matched_to_names_by_their_order() -> None:
    numbers, names = OneEach("00000", "00001"), OneEach("ape", "zebra")
    assert "the training set's classes are mere numbers (00000, 00001)" in refused(names, numbers)
    assert "the test set's classes are mere numbers (00000, 00001)" in refused(numbers, names)
    assert pairs(OneEach("1", "0"), numbers) == {"00000": "0", "00001": "1"}


def test_what_a_number_is_called_goes_before_the_number() -> None:
    """RDED's and DD-Ranking's exports may number the same classes in another order."""
    train = OneEach(ClassSpec("00000", "zebra"), ClassSpec("00001", "ape"))
    test = OneEach(ClassSpec("00000", "ape"), ClassSpec("00001", "zebra"))
    assert pairs(test, train) == {"00000": "00001", "00001": "00000"}


def test_what_is_ambiguous_is_no_match() -> None:
    said = refused(OneEach(ClassSpec("left/x", "shoe"), ClassSpec("right/x", "shoe")), OneEach("shoe"))
    assert 'the class "shoe" of the training set may be any of "left/x", "right/x" of the test set' in said
    assert 'are both "shoe" of the test set' in refused(OneEach("shoe", "b"), OneEach(ClassSpec("b1", "shoe"), "shoe"))


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    full = OneEach("a", "b")
    assert "the training set has no images in b" in refused(full, OneEach("a", "b", empty="b"))
    assert 'the test set has no images of the class "b"' in refused(OneEach("a", "b", empty="b"), full)
    for name in ("train", "test"):
        photos(tmp_path / name, "a", "b")
    for file in (tmp_path / "train" / "b").iterdir():
        file.unlink()
    train, test = (open_data(str(tmp_path / name)) for name in ("train", "test"))
    assert "the training set has no images in b" in refused(test, train)
    assert 'lacks 1 of the 2 classes of the training set: "b" (no images in its b)' in refused(train, test)


def test_a_set_made_of_some_classes_is_tested_on_all_of_them(tmp_path: Path) -> None:
    """As ImageWoof is on ImageNet's validation images: by id, in a run's own folder and in every export of it."""
    root = tmp_path / "imagenet"
    for split in ("train", "val"):
        photos(root / split, "n02096294", "n02093754", "n01440764", "shoes/hat", "left/t-shirt")
    settings: dict[str, Any] = {"method": "random", "data": str(root), "ipc": 1}
    classes = ["n02093754", "n02096294", "hat"]
    distill(validate({**settings, "classes": classes, "class_names": {"n02093754": "my terrier"}}), tmp_path / "run")
    export(tmp_path / "run", "rded", tmp_path / "rded")
    test = open_test(str(root))
    assert pairs(test, open_data(str(tmp_path / "run"))) == {
        "n02093754": "n02093754",
        "n02096294": "n02096294",
        "shoes - hat": "shoes/hat",
    }
    said = refused(test, open_data(str(tmp_path / "rded")))
    assert 'lacks 1 of the 3 classes of the training set: "my terrier"' in said
    shutil.rmtree(tmp_path / "run")
    distill(validate({**settings, "classes": classes}), tmp_path / "run")
    export(tmp_path / "run", "rded", tmp_path / "again")
    found = pairs(test, open_data(str(tmp_path / "again")))
    assert list(found.values()) == ["n02093754", "n02096294", "shoes/hat"]
    (tmp_path / "again" / "metadata.jsonl").unlink()
    assert "mere numbers (00000, 00001 and 1 more)" in refused(test, open_data(str(tmp_path / "again")))


def test_known_details_follow_the_training_sets_folders() -> None:
    reef = open_data("reef-test")
    assert reef.known_details is not None
    names = [e.key for e in reef.classes]
    train = OneEach(*(ClassSpec(f"{i:05d}", name) for i, name in enumerate(reversed(names))))
    found = align_classes(reef, train)
    assert found.known_details == {f"{i:05d}": reef.known_details[n] for i, n in enumerate(reversed(names))}
    part = restrict(reef, names[2:4], {})
    assert align_classes(part, part).known_details == {name: reef.known_details[name] for name in names[2:4]}


_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@example({"1", "01", "001", "a", "A", "a_a", "a a"}, Random(0))
@given(st.sets(_names, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_every_class_is_matched_to_itself(keys: set[str], random: Random) -> None:
    some = random.sample(sorted(keys), random.randint(1, len(keys)))
    assert pairs(OneEach(*keys), OneEach(*some)) == {key: key for key in some}


def test_case_and_unicode_form_do_not_part_classes() -> None:
    composed, apart = "caf\u00e9 - cr\u00e8me", "cafe\u0301 - cre\u0300me"
    assert pairs(OneEach(apart, "DOG"), OneEach(composed, "dog")) == {composed: apart, "dog": "DOG"}
    assert pairs(OneEach("Dog", "dog"), OneEach("dog", "Dog")) == {"dog": "dog", "Dog": "Dog"}
    assert "may be any of" in refused(OneEach("Dog", "DOG"), OneEach("dog"))
