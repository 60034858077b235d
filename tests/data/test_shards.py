"""A folder of Parquet files of which one is missing, stale or a copy gives a set that nobody would take for wrong."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parquets import colour, encoded, write
from PIL import Image

from concord.data import ImageSet, open_data, open_test
from concord.errors import ConcordError
from concord.recipe import validate
from concord.workflows.distill import distill


def colours(data: ImageSet) -> list[int]:
    return sorted(colour(data.read(item)) for entry in data.classes for item in data.items(entry.label))


def put(root: Path, *names: str, same: bool = False) -> Path:
    """Write files of two rows each, whose images are of colours that no other file has."""
    for number, name in enumerate(names):
        images = [encoded(0 if same else 2 * number), encoded(1 if same else 2 * number + 1)]
        write(root / f"{name}.parquet", [0, 1], images=images)
    return root


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train-00000-of-00003", "train-00002-of-00003"), "has 2 of the 3 shards of train; fetch number 1, or take"),
        (("data/train-00001-of-00002",), "has 1 of the 2 shards of data/train; fetch number 0"),
        (("train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"), "one split in several forms"),
        (("train", "train-00000-of-00001"), "one split in several forms"),
        (("train-00000-of-00001-0123456789abcdef", "train-00000-of-00001-fedcba9876543210"), "has a shard twice"),
        (("plain/train", "augmented/train"), "has several configurations (augmented, plain); name one, as in"),
        (("small-train-00000-of-00001", "full-train-00000-of-00001"), "several configurations (full, small)"),
        (("en/train/0000", "de/train/0000", "en/test/0000"), "several configurations (de, en)"),
    ],
)
def test_what_is_no_whole_set_is_refused(tmp_path: Path, names: Sequence[str], said: str) -> None:
    with pytest.raises(ConcordError) as caught:
        open_data(str(put(tmp_path, *names)))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        (("default/train", "partial/train", "default/test", "partial/test"), [0, 1], [4, 5]),
        (("data/train-00000-of-00001", "extra/train-00000-of-00001"), [0, 1], None),
        (("train/a/0000", "train/b/0000", "test/0000"), [0, 1, 2, 3], [4, 5]),
        (("a/0000", "b/0000"), [0, 1, 2, 3], [0, 1, 2, 3]),
        (("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"), [0, 1, 2, 3], [4, 5]),
        (("plain/train-00000-of-00001", "plain/test-00000-of-00001"), [0, 1], [2, 3]),
        (("train_1", "train_2"), [0, 1, 2, 3], None),
    ],
)
def test_one_whole_set_is_taken(tmp_path: Path, names: Sequence[str], train: list[int], test: list[int] | None) -> None:
    root = str(put(tmp_path, *names))
    assert colours(open_data(root)) == train
    if test is not None:
        assert colours(open_test(root)) == test


def test_the_choice_of_a_configuration_is_said(tmp_path: Path) -> None:
    put(tmp_path, "default/train", "partial/train")
    note = f"{tmp_path} has configurations (default, partial): default is the data"
    assert open_data(str(tmp_path)).notes == [note]
    assert colours(open_data(str(tmp_path / "partial"))) == [2, 3]


def test_a_copy_under_another_name_is_refused_and_equal_labels_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"holds the rows of .* again; move one away"):
        open_data(str(put(tmp_path / "a", "one", "two", same=True)))
    write(tmp_path / "b" / "one.parquet", [0, 1], images=[encoded(0), encoded(1)])
    write(tmp_path / "b" / "two.parquet", [0, 1], images=[encoded(2, size=(9, 9)), encoded(3)])
    assert len(colours(open_data(str(tmp_path / "b")))) == 4


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("column", ["text", "id", "image_id"])
def test_captions_and_ids_are_no_labels(tmp_path: Path, rows: int, column: str) -> None:
    values = [f"a photograph of thing {i}" for i in range(rows)] if column == "text" else list(range(500, 500 + rows))
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array([encoded(i) for i in range(rows)])
    pq.write_table(pa.table({"image": images, column: pa.array(values)}), tmp_path / "a.parquet")
    with pytest.raises(ConcordError, match=f'no labels: its column "{column}" has {rows} values in {rows} rows'):
        open_data(str(tmp_path / "a.parquet"))
    few = [values[i % max(1, rows // 3)] for i in range(rows)]
    pq.write_table(pa.table({"image": images, column: pa.array(few)}), tmp_path / "a.parquet")
    assert len(open_data(str(tmp_path / "a.parquet")).classes) == len(set(few))


def test_labels_by_name_are_taken_and_doubted_where_each_is_another(tmp_path: Path) -> None:
    names = [f"name {i}" for i in range(12)]
    doubt = ["each of the 12 classes has a single image: are they classes, or names of images?"]
    assert open_data(str(write(tmp_path / "a.parquet", names, None))).notes == doubt
    assert open_data(str(write(tmp_path / "b.parquet", range(12), names))).notes == []
    assert open_data(str(write(tmp_path / "c.parquet", [*names, *names], None))).notes == []


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(total=st.integers(1, 5), data=st.data())
def test_shards_are_taken_whole_or_not_at_all(tmp_path: Path, total: int, data: st.DataObject) -> None:
    there = data.draw(st.sets(st.integers(0, total - 1), min_size=1))
    root = tmp_path / "hub"
    shutil.rmtree(root, ignore_errors=True)
    put(root, *(f"data/train-{i:05d}-of-{total:05d}" for i in sorted(there)))
    if len(there) < total:
        with pytest.raises(ConcordError, match=f"{len(there)} of the {total} shards"):
            open_data(str(root))
    else:
        assert colours(open_data(str(root))) == list(range(2 * total))


def test_a_set_does_not_grow_from_rows_that_changed(tmp_path: Path) -> None:
    def noise(seed: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)).save(file, "BMP")
        return file.getvalue()

    def grow(images: list[bytes], ipc: int) -> int:
        file = write(tmp_path / "a.parquet", [0, 1] * 10, images=images)
        recipe = validate({"method": "random", "data": str(file), "ipc": ipc})
        return int(distill(recipe, tmp_path / "out")["images"])

    images = [noise(i) for i in range(20)]
    assert (grow(images, 1), grow(images, 2)) == (2, 4)
    others = ([images[i], *images[1:i], images[0], *images[i + 1 :]] for i in range(2, 20, 2))
    said = []
    for changed in others:  # of which some take as many bytes on disk
        with pytest.raises(ConcordError, match="are not those that") as caught:
            grow(changed, 3)
        said.append("files of the same names hold something else now" in str(caught.value))
    assert any(said)
