"""What of a folder is a class, and what only looks like one: a validation image in a training set is never noticed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import ImageSet, open_data, open_test
from concord.data.checks import held_out
from concord.errors import ConcordError
from concord.recipe import validate
from concord.workflows.distill import distill

Open = Callable[[str], ImageSet]


def laid_out(root: Path, layout: str) -> Path:
    """Make folders of two images each (``name:5`` has five), and a file for each name with a dot."""
    for word in layout.split():
        name, _, count = word.partition(":")
        place = root / name
        if "." in place.name:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("x")
            continue
        place.mkdir(parents=True, exist_ok=True)
        for i in range(int(count or 2)):
            Image.new("RGB", (4, 4), (i, len(name), 0)).save(place / f"{i:03d}.png")
    return root


def keys(data: ImageSet) -> list[str]:
    return [entry.key for entry in data.classes]


def where(root: Path, opened: Open = open_data) -> str:
    """The folder that was taken for the data, below the root."""
    return opened(str(root)).root.relative_to(root).as_posix()  # type: ignore[attr-defined]


def refused(root: Path, opened: Open = open_data) -> tuple[str, str]:
    """The error on a set, and the tree below it."""
    with pytest.raises(ConcordError) as caught:
        opened(str(root))
    return str(caught.value), "\n".join(getattr(caught.value, "__notes__", ()))


@pytest.mark.parametrize(
    ("layout", "train", "test"),
    [
        ("train/cat train/dog val/cat val/dog annotations/boxes", "train", "val"),
        ("train/cat train/dog test/cat test/dog .:1", "train", "test"),
        ("train/cat:5 train/dog:5 train:1 test/cat", "train", "test"),
        (
            "seg_train/seg_train/cat seg_train/seg_train/dog seg_test/seg_test/cat seg_pred/seg_pred",
            *("seg_train/seg_train", "seg_test/seg_test"),
        ),
        ("training_set/training_set/cat test_set/test_set/cat", "training_set/training_set", "test_set/test_set"),
        ("Training/cat Training/dog Testing/cat", "Training", "Testing"),
        ("TrainSet/cat TestSet/cat", "TrainSet", "TestSet"),
        ("train2017/cat val2017/cat", "train2017", "val2017"),
        ("xray/train/a xray/test/a __MACOSX/xray/train/a", "xray/train", "xray/test"),
        ("train/a train/b test/a val/a xray/train/a xray/train/b xray/test/a", "train", "test"),
        ("train/good test/good test/broken ground_truth/broken", "train", "test"),
        ("images/cat images/dog masks/cat masks/dog", "images", "images"),
        ("images/cat images/dog masks:4", "images", "images"),
        ("train/images/cat train/masks/cat val/images/cat val/masks/cat", "train/images", "val/images"),
        ("images_train/a images_val/a masks_train/a", "images_train", "images_val"),
        ("train/a train_extra/a test/a", "train", "test"),
        ("cat dog val/cat val/dog", ".", "val"),
        ("val/cat test/cat", "", "test"),
        ("train/cat", ".", ""),
        ("val/cat", ".", "val"),
    ],
)
def test_the_split_that_is_wanted_is_taken(tmp_path: Path, layout: str, train: str, test: str) -> None:
    root = laid_out(tmp_path, layout)
    for opened, expected in ((open_data, train), (open_test, test)):
        if not expected:
            refused(root, opened)
            continue
        assert where(root, opened) == expected
        if expected != "." and len(os.listdir(root)) > 1:
            said = "\n".join(opened(str(root)).notes)
            assert f"{expected.rpartition('/')[2]}/" in said or "masks of photographs" in said


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (
            "bottle/train/good bottle/test/good cable/train/good cable/test/bent",
            "splits within bottle/, cable/; name one",
        ),
        (
            "cat/train cat/test dog/train dog/test",
            "without class folders within cat/; put splits above classes, as in train/CLASS",
        ),
        ("cat dog pets/cat pets/dog", r"class folders (cat, dog) again in pets/; take one of the two away, or name"),
        ("cat dog owl pets/pets/cat pets/pets/dog pets/pets/owl", "again in pets/pets/"),
        ("val/cat test/cat", "no training split, only test, val; name one of them"),
        ("train1/a train2/a test/a", "several such splits"),
        (
            "train:5 test:3 sample.csv",
            "without class folders (labels are read from folders alone, not from sample.csv)",
        ),
        ("train:5 test:3 train/metadata.jsonl", "not from train/metadata.jsonl"),
        ("train:5 test:3 unlabeled:3", "without class folders"),
        (
            "train/images train/labels/0.txt valid/images valid/labels/0.txt",
            "splits (train, valid) without class folders",
        ),
        ("train_images:4 test_images:2 train.csv", "without class folders (labels are read from folders alone"),
        ("kaggle/train:5 kaggle/test:3", "without class folders within kaggle/"),
        (
            "images:4 labels.csv",
            "images/ and no class folders (labels are read from folders alone, not from labels.csv)",
        ),
        ("images:4 labels/0.txt", "images/ (beside labels/) and no class folders"),
        ("images:4 masks:4", "images/ (beside masks/) and no class folders"),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_tree(tmp_path: Path, layout: str, said: str) -> None:
    message, tree = refused(laid_out(tmp_path / "set", layout))
    assert said in message and "\n" not in message
    assert tree.startswith("  set/") and len(tree.splitlines()) <= 13


def test_the_tree_is_short_and_clean_on_the_terminal(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "many", " ".join(f"{n:02d}/train/a {n:02d}/test/a" for n in range(30)))
    (root / "00").rename(root / "00\x1b[31m\nred")
    said = CliRunner().invoke(app, ["init", str(root), "--out", str(tmp_path / "r.yaml")])
    assert said.exit_code == 2 and "\x1b" not in said.stderr
    first, *tree = said.stderr.splitlines()
    assert first.startswith("error: data: ") and len(tree) == 13 and tree[-1] == "  ..."
    assert tree[:4] == ["  many/", "    00 [31m red/", "      test/a/     2 images", "      train/a/    2 images"]
    assert not (tmp_path / "r.yaml").exists()


@pytest.mark.parametrize(
    "layout",
    [
        "airplane train boat",
        "bullet_train",
        "test_tube boat",
        "hat test",
        "button checkbox image label",
        "left/shoe right/shoe hat",
        "tomato/healthy tomato/blight apple/healthy apple/scab",
        "Fruit/Apple/a Fruit/Apple/b Vegetables/c",
        "train/steam train/diesel bus/city",
        "images:3",
        "mask/red mask/blue hat/red hat/green",
        "mask/red mask/blue red",
    ],
)
def test_classes_that_only_sound_like_something_else_are_classes(tmp_path: Path, layout: str) -> None:
    root = laid_out(tmp_path, layout)
    assert keys(open_data(str(root))) == sorted(
        (w.partition(":")[0] for w in layout.split()), key=lambda k: k.replace("/", " - ")
    )
    assert not open_data(str(root)).notes


def test_what_may_be_splits_or_not_is_said(tmp_path: Path) -> None:
    data = open_data(str(laid_out(tmp_path / "a", "fresh/apple fresh/pear rotten/apple rotten/pear")))
    assert len(data.classes) == 4
    assert "fresh/, rotten/ hold folders of the same names (apple, pear): each is a class of its own" in data.notes[0]
    data = open_data(str(laid_out(tmp_path / "b", "train test")))
    assert keys(data) == ["test", "train"]
    assert "they are taken for classes, though they look like splits" in data.notes[0]
    data = open_data(str(laid_out(tmp_path / "c", "bullet_train test_tube boat")))
    assert keys(data) == ["boat", "bullet_train", "test_tube"]
    assert data.notes[0].startswith("bullet_train/, test_tube/ hold images and no class folders")


def test_masks_in_each_class_are_left_out_and_images_is_no_name(tmp_path: Path) -> None:
    data = open_data(str(laid_out(tmp_path, "Covid/images Covid/masks Normal/images Normal/masks")))
    assert [entry.class_name for entry in data.classes] == ["Covid", "Normal"]
    assert data.notes == ["Covid/masks/ and 1 more left out: masks of photographs, no class"]
    data = open_data(str(laid_out(tmp_path / "tiny", "n01443537/images n01629819/images")))
    assert [entry.class_name for entry in data.classes] == ["goldfish", "European fire salamander"]


def test_init_names_what_is_held_out(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "seg_train/seg_train/cat seg_test/seg_test/cat seg_pred/seg_pred valid:1")
    found = held_out(open_data(str(root)), root)
    assert [(split.path.name, split.images, split.same) for split in found] == [
        ("seg_test", 2, True),
        ("valid", 0, False),
    ]


def test_bins_and_thumbnails_are_no_classes(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "cat dog $RECYCLE.BIN/S-1-5 #recycle/cat lost+found .Trash-1000/files")
    for name in ("cat", "dog"):
        laid_out(root / name, "@eaDir/000.png/x @eaDir/y")
        shutil.copy(root / name / "000.png", root / name / "@eaDir" / "SYNOFILE_THUMB_M.jpg")
    data = open_data(str(root))
    assert keys(data) == ["cat", "dog"] and len(data.items(0)) == 2
    assert data.notes == ["left out as no classes: #recycle, $RECYCLE.BIN, @eaDir (2 folders), lost+found"]


def test_a_set_made_within_its_data_is_no_class_and_grows(tmp_path: Path) -> None:
    root = laid_out(tmp_path, "cat:4 dog:4")
    for ipc in (1, 3):
        recipe = validate({"method": "random", "data": str(root), "ipc": ipc})
        assert distill(recipe, root / "out" / "mine")["images"] == 2 * ipc
    data = open_data(str(root))
    assert keys(data) == ["cat", "dog"]
    assert data.notes == ["left out as made by concord: out/mine"]
    with pytest.raises(ConcordError, match=r"no images in .*; left out as made by concord: mine"):
        open_data(str(root / "out"))


def test_links_are_bounded(tmp_path: Path) -> None:
    """A link to ``/``, to the set, to itself; links that lead to each other in more ways than can be walked."""
    root = laid_out(tmp_path / "set", "cat dog")
    maze = tmp_path / "maze"
    for i in range(25):
        laid_out(maze, f"{i:02d}")
        for j in range(25):
            os.symlink(maze / f"{j:02d}", maze / f"{i:02d}" / f"to{j:02d}")
    for name, target in {
        "all": "/",
        "up": tmp_path,
        "again": root / "cat",
        "self": root / "self",
        "maze": maze,
    }.items():
        os.symlink(target, root / name)
    os.symlink(root, root / "dog" / "round")
    data = open_data(str(root))
    assert {key for key in keys(data) if not key.startswith("maze")} == {"cat", "dog"}
    assert sum(len(data.items(entry.label)) for entry in data.classes) == 4 + 25 * 2
    note = next(note for note in data.notes if "links" in note)
    assert note.startswith("left out as links to where the set lies already: again, all, dog/round")


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    laid_out(tmp_path, "/".join(["a"] * 70))
    assert "more than 60 deep" in refused(tmp_path)[0]


_split = st.sampled_from(["train", "Train", "seg_train", "training_set", "train2017"])
_held = st.sampled_from(["val", "test", "Validation", "seg_test", "test_set", "val2017"])
_class = st.sampled_from(["cat", "dog", "owl", "train", "image", "n01440764", "große_Katze", "test"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    train=_split,
    held=st.sets(_held, min_size=1, max_size=3),
    classes=st.sets(_class, min_size=2, max_size=4),
    company=st.sets(st.sampled_from(["annotations/x", "README.png", "extra", "demo/cat", "@eaDir/x", "meta.csv"])),
    wrap=st.sampled_from(["", "set/", "set/set/"]),
    doubled=st.booleans(),
)
def test_no_held_out_image_is_ever_trained_on(
    tmp_path: Path, train: str, held: set[str], classes: set[str], company: set[str], wrap: str, doubled: bool
) -> None:
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    for split in (train, *held):
        inner = f"{split}/{split}" if doubled else split
        laid_out(root, " ".join(f"{wrap}{inner}/{name}" for name in classes))
    laid_out(root / wrap, " ".join(company))
    try:
        data = open_data(str(root))
    except ConcordError:
        assert {"train", "test"} <= classes, "nothing else is in doubt"
        return
    files = [(data.root / item).relative_to(root).as_posix() for e in data.classes for item in data.items(e.label)]  # type: ignore[attr-defined]
    assert files and all(file.removeprefix(wrap).startswith(f"{train}/") for file in files)
    assert len(data.classes) == len(classes)
