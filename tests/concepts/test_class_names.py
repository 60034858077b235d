"""Where class names come from: whatever a user has must give the names that texts use, or say in a line why not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from concord.concepts.llm.class_names import class_names
from concord.data import open_data
from concord.data.class_lists import class_list
from concord.errors import ConcordError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def photos(root: Path, *folders: str) -> str:
    for folder in folders:
        (root / folder).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(root / folder / "0.png")
    return str(root)


TEXTS = {
    "names": ("beagle\nboxer\n", ["beagle", "boxer"]),
    "blank lines, comments, twice": ("\ufeff# dogs\n\n beagle \nboxer\nbeagle\n", ["beagle", "boxer"]),
    "other languages": ("ビーグル\nборзая\n", ["ビーグル", "борзая"]),
    "WordNet ids": ("n02096294\nn02093754\n", ["Australian terrier", "Border terrier"]),
    "ids with names": ("n01440764 tench, Tinca tinca\nn99999999 some beast, other\n", ["tench", "some beast"]),
    "ids that share a first name": ("n02012849\nn03126707\n", ["crane bird", "construction crane"]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_text_file_names_a_class_a_line(tmp_path: Path, case: str) -> None:
    text, names = TEXTS[case]
    assert class_names(write(tmp_path / "classes.txt", text)) == names


TABLES = {
    "class_name": ("file,class_name\na.jpg,boxer\nb.jpg,beagle\nc.jpg,boxer\n", ["boxer", "beagle"]),
    "names": ('id,names\n1,"bonnet, poke bonnet"\n2,green mamba\n', ["bonnet", "green mamba"]),
    "synset": (
        'index,synset,names\n134,n02012849,crane\n517,n03126707,"crane"\n',
        ["crane bird", "construction crane"],
    ),
    "other case": ("Names\nboxer\n", ["boxer"]),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_table_names_them_in_a_column(tmp_path: Path, case: str) -> None:
    text, names = TABLES[case]
    assert class_names(write(tmp_path / "classes.csv", text)) == names


def test_a_folder_gives_the_names_that_a_run_on_it_will_look_up(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "train/n02096294", "train/border_terrier", "test/n02096294")
    names = class_names(root)
    assert names == [entry.class_name for entry in open_data(root).classes]
    assert sorted(names) == ["Australian terrier", "border terrier"]


def test_a_folder_of_ids_needs_no_images(tmp_path: Path) -> None:
    for wnid in ("n02096294", "n02093754"):
        (tmp_path / "imagenet" / wnid).mkdir(parents=True)
    assert class_names(str(tmp_path / "imagenet")) == ["Border terrier", "Australian terrier"]


def test_a_bundled_list_is_taken_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert class_names("imagenet-100") == [listed.name for listed in class_list("imagenet-100")]
    assert class_names("food-101")[:2] == ["apple pie", "baby back ribs"]


def labelled(*columns: str) -> dict[str, Any]:
    """What the `datasets` library writes about such label columns."""
    label = {"names": ["fire_truck", "n02096294", "frog"], "_type": "ClassLabel"}
    return {"info": {"features": {"img": {"_type": "Image"}, **dict.fromkeys(columns, label)}}}


def parquet(path: Path, metadata: dict[str, Any] | None) -> str:
    pa = pytest.importorskip("pyarrow", reason="reading Parquet is in the extra hub")
    from pyarrow import parquet as pq

    table = pa.table({"label": [0, 1]})
    about = {b"huggingface": json.dumps(metadata).encode()} if metadata is not None else {b"other": b"1"}
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(about), path)
    return str(path)


def test_a_parquet_file_names_its_labels(tmp_path: Path) -> None:
    path = parquet(tmp_path / "hub" / "train.parquet", labelled("label"))
    assert class_names(path) == ["fire truck", "Australian terrier", "frog"]
    assert class_names(str(tmp_path / "hub")) == class_names(path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "does not name its labels"),
        ({"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}}, "does not name its labels"),
        ({"info": None}, "does not name its labels"),
        (labelled("fine", "coarse"), "more than one label column (fine, coarse)"),
    ],
)
def test_a_parquet_file_without_one_list_of_labels_is_refused(
    tmp_path: Path, metadata: dict[str, Any] | None, reason: str
) -> None:
    path = parquet(tmp_path / "train.parquet", metadata)
    with pytest.raises(ConcordError) as error:
        class_names(path)
    assert reason in str(error.value)
    assert "text file" in str(error.value)


@pytest.mark.shared
def test_the_labels_of_cifar_10() -> None:
    pytest.importorskip("pyarrow", reason="reading Parquet is in the extra hub")
    if not (SHARED / "cifar10" / "test.parquet").is_file():
        pytest.skip("the shared data is not here")
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert class_names(str(SHARED / "cifar10" / "test.parquet")) == names.split()


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConcordError, match=r"pip install 'concord-distill\[hub\]'"):
        class_names(write(tmp_path / "train.parquet", "PAR1"))


def test_what_names_no_classes_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Spürhund".encode("latin-1"))
    (tmp_path / "empty").mkdir()
    cases = {
        str(tmp_path / "nowhere.txt"): "expected a text, CSV or Parquet file",
        "imagenet100": 'did you mean "imagenet-100"?',
        write(tmp_path / "empty.txt", "\n# nothing\n"): "names no classes",
        write(tmp_path / "other.csv", "file,width\na,3\n"): "its columns are file, width",
        write(tmp_path / "empty.csv", ""): "its columns are none",
        write(tmp_path / "unknown.txt", "n00000000\n"): "n00000000 is no class of ImageNet-1K",
        str(tmp_path / "latin.txt"): "is not UTF-8",
        str(tmp_path / "empty"): "no images in",
    }
    for source, reason in cases.items():
        with pytest.raises(ConcordError) as error:
            class_names(source)
        assert reason in str(error.value)


def test_a_file_that_only_calls_itself_parquet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="reading Parquet is in the extra hub")
    with pytest.raises(ConcordError, match="cannot read"):
        class_names(write(tmp_path / "train.parquet", "no such thing"))
