"""A row under another row's label, or a split taken for another, is wrong in every number that follows."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pa = pytest.importorskip("pyarrow", reason="reading Parquet is in the extra hub")

import pyarrow.parquet as pq  # noqa: E402
from parquets import about, colour, encoded, write  # noqa: E402
from PIL import Image  # noqa: E402

from concord.data import ImageSet, open_data, open_test  # noqa: E402
from concord.data.checks import Split, held_out  # noqa: E402
from concord.errors import ConcordError  # noqa: E402
from concord.recipe import load as load_recipe  # noqa: E402
from concord.recipe import validate  # noqa: E402
from concord.runs.store import read_manifest  # noqa: E402
from concord.workflows.distill import distill  # noqa: E402

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10"


def contents(data: ImageSet) -> dict[str, list[int]]:
    """The colours of each class's images, by class name."""
    return {e.class_name: [colour(data.read(item)) for item in data.items(e.label)] for e in data.classes}


def table(path: Path, columns: dict[str, Any], metadata: dict[bytes, bytes] | None = None) -> str:
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return str(path)


def refused(data: Path | str, opened: Any = open_data) -> str:
    with pytest.raises(ConcordError) as caught:
        opened(str(data))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_rows_go_to_the_classes_that_the_file_names(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "a.parquet", [1, 0, 1, 1, 0, 1, 0], ["shoe", "fire_hat"])))
    assert [(e.label, e.key, e.folder, e.class_name) for e in data.classes] == [
        (0, "fire_hat", "fire_hat", "fire hat"),
        (1, "shoe", "shoe", "shoe"),
    ]
    assert contents(data) == {"fire hat": [0, 2, 3, 5], "shoe": [1, 4, 6]}
    assert data.items(1) == ["a.parquet/00001", "a.parquet/00004", "a.parquet/00006"]
    assert data.read("a.parquet/00004").mode == "RGB"
    assert data.size("a.parquet/00004") == (6, 4)
    assert list(data.notes) == []


def test_a_column_of_plain_bytes_and_string_labels(tmp_path: Path) -> None:
    labels = pa.array(["shoe", "hat", "shoe"]).dictionary_encode()
    path = table(tmp_path / "a.parquet", {"picture": [encoded(i) for i in range(3)], "sort": labels})
    data = open_data(path)
    assert contents(data) == {"hat": [1], "shoe": [0, 2]}
    assert data.notes == ['labels are those of the column "sort"']


def test_numbers_get_names_from_a_list_beside_the_file_or_stay_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [10, 2, 0], None)
    assert contents(open_data(str(path))) == {"00": [2], "02": [1], "10": [0]}
    names = [f"c{i}" for i in range(11)]
    (tmp_path / "classes.txt").write_text("\n".join(names) + "\n")
    assert contents(open_data(str(path))) == {"c0": [2], "c10": [0], "c2": [1]}
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert "a.parquet/00001 has the label 2; its 2 classes of" in refused(path)


def test_numbers_may_be_far_apart(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "a.parquet", [10**12, 7], None)))
    assert contents(data) == {"0000000000007": [1], "1000000000000": [0]}


def test_preferred_names_decide_between_columns(tmp_path: Path) -> None:
    both = {"fine_label": {"names": ["a", "b"], "_type": "ClassLabel"}}
    columns = {"img": [encoded(0)], "mask": [encoded(1)], "coarse_label": [0], "fine_label": [1], "width": [6]}
    metadata = about(["x"], image="img", label="coarse_label", **both)
    assert contents(open_data(table(tmp_path / "a.parquet", columns, metadata))) == {"b": [0]}
    plain = {"image": [encoded(0)], "mask": [encoded(1)], "id": [5], "label": [1]}
    assert contents(open_data(table(tmp_path / "b.parquet", plain))) == {"1": [0]}


def test_columns_that_cannot_be_told_apart_are_named(tmp_path: Path) -> None:
    picture = [encoded(0)]
    path = table(tmp_path / "a.parquet", {"left": picture, "right": picture, "label": [0]})
    assert 'more than one column that may hold images (left, right); call the right one "image"' in refused(path)
    path = table(tmp_path / "b.parquet", {"image": picture, "colour": [0], "shape": ["round"]})
    assert "may hold labels (colour, shape)" in refused(path)
    path = table(tmp_path / "c.parquet", {"image": ["a.jpg"], "label": [0]})
    assert "no column of images" in refused(path) and "image (string), label (int64)" in refused(path)
    path = table(tmp_path / "d.parquet", {"image": picture, "score": [0.5]})
    assert "no column of labels" in refused(path)


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_without_a_class_is_named_by_its_row(tmp_path: Path, label: int) -> None:
    path = write(tmp_path / "a.parquet", [0, 1, 1, label])
    assert f"a.parquet/00003 has the label {label}" in refused(path)
    assert "its 2 classes are 0 to 1" in refused(path)
    assert ("not labelled" in refused(path)) is (label < 0)


def test_a_missing_label_is_named_by_its_row(tmp_path: Path) -> None:
    assert "a.parquet/00001 has no label" in refused(write(tmp_path / "a.parquet", [0, None, 1]))


def test_images_that_cannot_be_read_are_named_by_their_rows(tmp_path: Path) -> None:
    cut = encoded(2, "JPEG", (64, 64))[:-30]
    path = write(tmp_path / "a.parquet", [0, 0, 0, 0], images=[None, b"no image", cut, encoded(3)])
    data = open_data(str(path))
    for row, reason in enumerate(("holds no bytes", "not an image", "truncated")):
        with pytest.raises(ConcordError, match=rf"a\.parquet/0000{row}.*{reason}.*; unreadable=skip leaves it out"):
            data.read(f"a.parquet/0000{row}")
    assert colour(data.read("a.parquet/00003")) == 3
    results = distill(validate({"method": "full", "data": str(path), "unreadable": "skip"}), tmp_path / "run")
    assert (results["images"], results["unreadable"]) == (1, 3)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.parquet", [0, 1] * 20).read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.parquet").write_bytes(whole[:length])
        assert "a.parquet" in refused(tmp_path / "a.parquet")
    broken = bytearray(whole)
    broken[4 : len(whole) // 2] = bytes(len(whole) // 2 - 4)  # the footer is whole, the rows are not
    (tmp_path / "a.parquet").write_bytes(broken)
    data = None
    with pytest.raises(ConcordError, match=r"a\.parquet"):
        data = open_data(str(tmp_path / "a.parquet"))
        for row in range(40):
            data.read(f"a.parquet/{row:05d}")


def test_what_is_held_out_in_a_folder_of_files_is_found(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    assert held_out(open_data(str(tmp_path)), tmp_path) == []
    write(tmp_path / "test.parquet", [0, 1, 1])
    assert held_out(open_data(str(tmp_path)), tmp_path) == [Split(tmp_path, 3, True)]
    assert held_out(open_data(str(tmp_path / "train.parquet")), tmp_path / "train.parquet") == []


def test_files_of_splits(tmp_path: Path) -> None:
    for name, labels in {
        "train-00000-of-00002": [0, 1],
        "train-00001-of-00002": [1],
        "test-00000-of-00001": [1, 0, 0],
    }.items():
        write(tmp_path / "data" / f"{name}.parquet", labels)
    data = open_data(str(tmp_path))
    assert data.items(1) == ["data/train-00000-of-00002.parquet/00001", "data/train-00001-of-00002.parquet/00000"]
    assert data.notes == [f"{tmp_path} has splits (test, train): train is the data"]
    test = open_test(str(tmp_path))
    assert contents(test) == {"hat": [1, 2], "shoe": [0]}
    assert test.notes == [f"{tmp_path} has splits (test, train): test is the data"]
    one = open_data(str(tmp_path / "data" / "test-00000-of-00001.parquet"))
    assert contents(one) == contents(test) and not one.notes


def test_splits_as_folders_and_an_unlabelled_test_split(tmp_path: Path) -> None:
    for split, labels in {"train": [0, 1, 1], "validation": [1, 0], "test": [-1, -1]}.items():
        write(tmp_path / "default" / split / "0000.parquet", labels)
    test = open_test(str(tmp_path))
    assert contents(test) == {"hat": [1], "shoe": [0]}
    assert "not labelled" in test.notes[1] and "validation is the data" in test.notes[2]
    assert len(open_data(str(tmp_path)).items(1)) == 2


def test_the_training_split_is_never_tested_on(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", [0, 1])
    assert "no split held out from training" in refused(tmp_path, open_test)
    assert not open_data(str(tmp_path)).notes
    shutil.move(tmp_path / "train.parquet", tmp_path / "test.parquet")
    assert open_data(str(tmp_path)).notes == [f"{tmp_path} has the split test alone"]
    write(tmp_path / "validation.parquet", [0, 1])
    assert "no training split, only test, validation" in refused(tmp_path)


def test_shards_of_one_set_have_the_same_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1])
    write(tmp_path / "b.parquet", [0, 1], ["shoe", "hat"])
    assert "b.parquet has other columns or class names than a.parquet" in refused(tmp_path)


def test_what_makes_a_folder_a_parquet_set(tmp_path: Path) -> None:
    """Neither a stray table among photographs nor a picture beside the data changes what a folder is."""
    photos, hub = tmp_path / "photos", tmp_path / "hub"
    for place in (photos / "hat" / "0.png", hub / "assets" / "0.png", hub / "logo.png"):
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(place)
    table(photos / "embeddings.parquet", {"hat": [1.0]})
    table(photos / "metadata.parquet", {"file_name": ["hat/0.png"]})
    write(hub / "data" / "train.parquet", [0, 1])
    assert [e.key for e in open_data(str(photos)).classes] == ["hat"]
    assert [e.key for e in open_data(str(hub)).classes] == ["hat", "shoe"]


def test_classes_without_rows_are_left_out_and_said(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "a.parquet", [2, 2], ["a", "b", "c"])))
    assert contents(data) == {"c": [0, 1]}
    assert data.notes == ["2 of the 3 classes have no images and are left out: a, b"]
    assert "has no rows" in refused(write(tmp_path / "b.parquet", pa.array([], pa.int64())))


def test_names_of_imagenet_and_names_that_no_folder_can_have(tmp_path: Path) -> None:
    names = ["tench, Tinca tinca", "hay", "n02096294", ".hidden", "a/b_c", "x\ty"]
    data = open_data(str(write(tmp_path / "a.parquet", range(6), names)))
    found = {colour(data.read(data.items(e.label)[0])): e for e in data.classes}
    assert [(found[i].class_name, found[i].wnid) for i in range(3)] == [
        ("tench", "n01440764"),
        ("hay", "n07802026"),
        ("Australian terrier", "n02096294"),
    ]
    assert [found[i].folder for i in range(3, 6)] == ["_hidden", "a - b_c", "x_y"]
    assert found[4].class_name == "a/b c"


def test_the_fingerprint_tells_another_set(tmp_path: Path) -> None:
    def fingerprint(labels: list[int], **more: Any) -> str:
        return open_data(str(write(tmp_path / "a.parquet", labels, **more))).fingerprint

    first = fingerprint([0, 1, 1])
    assert fingerprint([0, 1, 1]) == first
    others = [fingerprint([1, 0, 1]), fingerprint([0, 1]), fingerprint([0, 1, 1], names=["x", "y"])]
    others.append(fingerprint([0, 1, 1], images=[encoded(i, "BMP") for i in range(3)]))
    assert len({first, *others}) == 5


def test_threads_and_processes_read_the_same_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", [0, 1] * 50, rows=7)
    data = open_data(str(path))
    order = np.random.default_rng(0).permutation(100).tolist()
    items = [f"a.parquet/{row:05d}" for row in order]
    with ThreadPoolExecutor(8) as pool:
        assert [colour(image) for image in pool.map(data.read, items)] == order
    again = pickle.loads(pickle.dumps(data))
    assert (contents(again), again.fingerprint) == (contents(data), data.fingerprint)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_process_reads_though_a_thread_of_its_parent_was_reading(tmp_path: Path) -> None:
    data: Any = open_data(str(write(tmp_path / "a.parquet", [0, 1] * 5)))
    assert colour(data.read("a.parquet/00003")) == 3

    def child() -> None:
        sys.exit(0 if colour(data.read("a.parquet/00003")) == 3 else 1)

    with data._rows._lock:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(20)
    process.kill()
    process.join()
    assert process.exitcode == 0


def test_a_group_of_rows_is_decoded_once_and_let_go_where_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, read = write(tmp_path / "a.parquet", [0] * 12, rows=4), []
    whole = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        read.append(group)
        return whole(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    data = open_data(str(path))  # which looks at the first rows
    for row in (0, 11, 1, 10, 5, 0):
        assert colour(data.read(f"a.parquet/{row:05d}")) == row
    assert read == [0, 2, 1]
    monkeypatch.setattr("concord.data.parquet._HELD", 1)
    data = open_data(str(path))
    for row in range(12):
        data.read(f"a.parquet/{row:05d}")
    assert read == [0, 2, 1, 0, 1, 2]
    assert len(data._rows._groups) == 1  # type: ignore[attr-defined]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=30), rows=st.integers(1, 9))
def test_every_row_is_in_its_class_once_in_order(tmp_path: Path, labels: list[int], rows: int) -> None:
    names = ["e", "b", "d", "a", "c"]
    data = open_data(str(write(tmp_path / "a.parquet", labels, names, rows=rows)))
    expected = {names[k]: [row for row, label in enumerate(labels) if label == k] for k in set(labels)}
    assert contents(data) == expected
    assert all(list(data.items(e.label)) == sorted(data.items(e.label)) for e in data.classes)


def test_rows_are_loaded_under_their_labels(tmp_path: Path) -> None:
    from concord.data.tensors import for_training, load

    labels = [2, 0, 1, 0, 2, 2, 1]
    data = open_data(str(write(tmp_path / "a.parquet", labels, ["a", "b", "c"])))
    found = load(data, for_training(4))
    assert found.labels.tolist() == sorted(labels)
    order = sorted(range(len(labels)), key=lambda row: (labels[row], row))
    assert found.images[:, 0, 0, 0].tolist() == order
    assert load(data, for_training(4), per_class=1).images[:, 0, 0, 0].tolist() == [1, 2, 0]


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", [0])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for data in (path, tmp_path):
        assert "needs pyarrow: pip install 'concord-distill[hub]'" in refused(data)


def test_a_small_set_is_made_of_it_and_exported_and_opened_again(tmp_path: Path) -> None:
    path = write(tmp_path / "clothes.parquet", [0, 1, 1, 0, 0, 1])
    settings = load_recipe("photos", [f"data={path}", "method=random", "ipc=2"])
    distill(settings, tmp_path / "run")
    rows = read_manifest(tmp_path / "run" / "images")
    assert [(row["label"], row["class_name"]) for row in rows] == [(0, "hat"), (0, "hat"), (1, "shoe"), (1, "shoe")]
    sources = [int(row["source"].removeprefix("clothes.parquet/")) for row in rows]
    assert [[0, 1, 1, 0, 0, 1][row] for row in sources] == [0, 0, 1, 1]

    from concord.export import export

    export(tmp_path / "run", "parquet", tmp_path / "exported", shard_size=3)
    again = open_data(str(tmp_path / "exported"))
    assert [e.class_name for e in again.classes] == ["hat", "shoe"]
    made = open_data(str(tmp_path / "run"))
    for entry in made.classes:
        pairs = zip(made.items(entry.label), again.items(entry.label), strict=True)
        assert all(np.array_equal(made.read(a), again.read(b)) for a, b in pairs)


def test_the_command_line_takes_a_parquet_file(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from concord.cli.commands import app

    path = write(tmp_path / "X.parquet", [0, 1, 1, 0, 0, 1])
    arguments = ["distill", "photos", f"data={path}", "method=random", "ipc=2", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "run" / "images" / "shoe").glob("*.png"))) == 2


@pytest.mark.shared
@pytest.mark.skipif(not CIFAR.is_dir(), reason="../shared/data is not here")
def test_cifar_10() -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    for opened, file, each in ((open_data, "train", 5000), (open_test, "test", 1000)):
        data = opened(str(CIFAR))
        assert [(e.key, e.class_name) for e in data.classes] == [(name, name) for name in names]
        assert [len(data.items(e.label)) for e in data.classes] == [each] * 10
        item = data.items(4)[-1]
        row = pq.read_table(CIFAR / f"{file}.parquet").slice(int(item.partition("/")[2]), 1).to_pylist()[0]
        assert row["label"] == 4
        assert np.array_equal(data.read(item), Image.open(io.BytesIO(row["img"]["bytes"])).convert("RGB"))


def test_what_stands_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n")
    with pytest.raises(ConcordError, match=r"train\.parquet: it is a Git LFS pointer; git lfs pull"):
        open_data(str(tmp_path))
    file.unlink()
    os.mkfifo(file)
    for path in (tmp_path, file):
        with pytest.raises(ConcordError, match=r"train\.parquet: it is a pipe|there is no folder|got the file"):
            open_data(str(path))


def test_rows_of_which_most_hold_no_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", [0, 1] * 4, images=[b"<html>not found</html>"] * 8)
    with pytest.raises(ConcordError, match=r"images looked at cannot be read; .*a\.parquet/00000: it is HTML"):
        open_data(str(tmp_path), "skip")
