"""What is exported must be read back by those it is for: the same pixels, the same labels, nothing told in secret."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_hub import FakeHub
from hostile import HOSTILE, photographs
from PIL import Image
from torchvision.datasets import ImageFolder
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import open_data
from concord.errors import ConcordError
from concord.export import export
from concord.recipe import validate
from concord.registry import LAYOUTS
from concord.runs.store import read_manifest
from concord.workflows.distill import distill

Key = tuple[int, bytes]


def pixels(picture: Image.Image) -> bytes:
    return np.asarray(picture.convert("RGB")).tobytes()


def truth(run: Path, variant: str = "images") -> list[Key]:
    """Labels and pixels as the run left them."""
    root = run / variant
    return sorted((row["label"], pixels(Image.open(root / row["file_name"]))) for row in read_manifest(root))


def sorted_folders(root: Path) -> list[Key]:
    """The rule of torchvision's ImageFolder: labels are the folders in sorted order; files beside them do not count."""
    folders = sorted(path.name for path in root.iterdir() if path.is_dir())
    return sorted(
        (label, pixels(Image.open(file))) for label, folder in enumerate(folders) for file in (root / folder).iterdir()
    )


def tree(root: Path) -> Mapping[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("variant", ["images", "uninformed"])
@pytest.mark.parametrize("layout", ["folder", "rded", "ddranking"])
def test_image_folders_hold_the_set_by_the_rule_of_image_folders(
    layout: str, variant: Any, finished: Path, tmp_path: Path
) -> None:
    export(finished, layout, tmp_path / "o", variant)
    assert sorted_folders(tmp_path / "o") == truth(finished, variant)
    rows = read_manifest(tmp_path / "o")
    assert sorted((row["label"], pixels(Image.open(tmp_path / "o" / row["file_name"]))) for row in rows) == truth(
        finished, variant
    )


@pytest.mark.parametrize("layout", ["folder", "rded", "ddranking"])
def test_torchvision_reads_it(layout: str, finished: Path, tmp_path: Path) -> None:
    export(finished, layout, tmp_path / "o")
    assert sorted((label, pixels(picture)) for picture, label in ImageFolder(str(tmp_path / "o"))) == truth(finished)


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    datasets = pytest.importorskip("datasets", reason="needs the extra hub")
    from datasets import config

    monkeypatch.setattr(config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def load(*arguments: str, **options: Any) -> Any:
        return datasets.load_dataset(*arguments, split="train", cache_dir=str(tmp_path / "cache"), **options)

    return load


@pytest.mark.parametrize("layout", ["folder", "rded", "ddranking", "parquet"])
def test_datasets_reads_it_by_its_directory_alone(
    layout: str, finished: Path, tmp_path: Path, load_dataset: Any
) -> None:
    """A class called "train" must not make a split of its own of the others."""
    export(finished, layout, tmp_path / "o")
    rows = load_dataset(str(tmp_path / "o"))
    assert sorted((row["label"], pixels(row["image"])) for row in rows) == truth(finished)
    seeds = {
        pixels(Image.open(finished / "images" / r["file_name"])): r["seed"] for r in read_manifest(finished / "images")
    }
    assert all(row["seed"] == seeds[pixels(row["image"])] for row in rows)
    assert rows.features["label"].names == ["<script>alert(1)<", "tail", "straße 東京", HOSTILE]


def test_datasets_reads_shards_with_the_names_of_the_classes(finished: Path, tmp_path: Path, load_dataset: Any) -> None:
    export(finished, "webdataset", tmp_path / "o")
    rows = load_dataset(str(tmp_path / "o"))
    assert sorted((row["cls"], pixels(row["png"])) for row in rows) == truth(finished)
    assert rows.features["cls"].names == ["<script>alert(1)<", "tail", "straße 東京", HOSTILE]
    assert [row["json"]["index"] for row in rows] == [0] * 4 + [1] * 4


@pytest.mark.parametrize("variant", ["images", "uninformed"])
def test_torchvision_reads_the_run_itself(variant: str, finished: Path) -> None:
    read = ImageFolder(str(finished / variant))
    assert sorted((label, pixels(picture)) for picture, label in read) == truth(finished, variant)
    assert read.classes == [entry.folder for entry in open_data(str(finished / variant)).classes]


def test_datasets_reads_the_run_itself(tmp_path: Path, load_dataset: Any) -> None:
    data = photographs(tmp_path / "photos", {"a cat": 3, "a dog": 3})
    distill(validate({"method": "random", "data": str(data), "ipc": 2}), tmp_path / "run")
    rows = load_dataset("imagefolder", data_dir=str(tmp_path / "run" / "images"))
    assert sorted((row["label"], pixels(row["image"])) for row in rows) == truth(tmp_path / "run")


def test_parquet_tells_the_hub_what_its_columns_are(finished: Path, tmp_path: Path, load_dataset: Any) -> None:
    datasets = pytest.importorskip("datasets")
    export(finished, "parquet", tmp_path / "o", shard_size=3)
    files = sorted(path.name for path in (tmp_path / "o" / "data").iterdir())
    assert files == [f"train-{i:05d}-of-00003.parquet" for i in range(3)]
    types = load_dataset(str(tmp_path / "o")).features
    assert isinstance(types["image"], datasets.Image)
    assert types["label"].names == ["<script>alert(1)<", "tail", "straße 東京", HOSTILE]


def test_webdataset_reads_it(finished: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the extra dev brings webdataset")
    export(finished, "webdataset", tmp_path / "o", shard_size=3)
    shards = str(tmp_path / "o" / "train-{000000..000002}.tar")
    samples = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls", "json")
    read = list(samples)
    assert sorted((label, pixels(picture)) for picture, label, _ in read) == truth(finished)
    assert {row["class_name"] for *_, row in read} >= {HOSTILE, "straße 東京"}


def test_shards_by_the_standard_alone(finished: Path, tmp_path: Path) -> None:
    """Members of a sample stand together, under a stem without dots; headers tell nothing of the machine."""
    export(finished, "webdataset", tmp_path / "o", shard_size=3)
    found, sizes = [], []
    for shard in sorted((tmp_path / "o").glob("*.tar")):
        with tarfile.open(shard) as tar:
            members = tar.getmembers()
            sizes.append(len(members) // 3)
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
            for picture, label, row in zip(*[iter(members)] * 3, strict=True):
                stem = picture.name.removesuffix(".png")
                assert (label.name, row.name) == (f"{stem}.cls", f"{stem}.json")
                number, data, text = (tar.extractfile(m).read() for m in (label, picture, row))  # type: ignore[union-attr]
                found.append((int(number), pixels(Image.open(io.BytesIO(data)))))
                assert json.loads(text)["label"] == int(number)
    assert sorted(found) == truth(finished)
    assert sizes == [3, 3, 2]
    assert [label for label, _ in found] == [0, 1, 2, 3] * 2, "a shard is nearly balanced"


def test_rded_finds_its_folders_and_files(finished: Path, tmp_path: Path) -> None:
    """Its evaluator lists the folder of each label in five digits, and opens every file in it as an image."""
    export(finished, "rded", tmp_path / "o")
    for label in range(4):
        names = sorted(path.name for path in (tmp_path / "o" / str(label).zfill(5)).iterdir())
        assert names == [f"class{label:05d}_id{index:05d}.png" for index in range(2)]
    lines = (tmp_path / "o" / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "00000\t<script>alert(1)<\t<script>alert(1)<"
    assert lines[3] == f"00003\ttrain\t{HOSTILE}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_set_gives_the_same_bytes_and_no_path_of_the_machine(
    layout: str, finished: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        export(finished, layout, tmp_path / name)
    first = tree(tmp_path / "one")
    assert first == tree(tmp_path / "two")
    assert first["README.md"]
    assert not [name for name, data in first.items() if b"secret-home" in data]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"], "nothing is left beside them"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_target_that_is_taken_is_left_alone(layout: str, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "mine.txt").write_text("mine")
    with pytest.raises(ConcordError, match="is there already"):
        export(finished, layout, tmp_path / "o")
    assert tree(tmp_path / "o") == {"mine.txt": b"mine"}
    (tmp_path / "empty").mkdir()
    export(finished, layout, tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").is_file()


def test_an_export_that_fails_leaves_nothing(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("concord.export.card", broken)
    with pytest.raises(KeyboardInterrupt):
        export(finished, "rded", tmp_path / "o")
    assert list(tmp_path.iterdir()) == []


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def change_manifest(run: Path, old: str, new: str) -> None:
    manifest = run / "images" / "metadata.jsonl"
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_wrong_is_said_in_one_line(finished: Path, tmp_path: Path) -> None:
    def refused(directory: Path, *more: object) -> str:
        code, said = run("export", directory, "--layout", "folder", "--out", tmp_path / "o", *more)
        assert code == 2
        assert not (tmp_path / "o").exists()
        assert said.count("\n") == 1
        return said

    assert "was not made by `concord distill`" in refused(tmp_path)
    assert "--shard-size is for webdataset and parquet" in refused(finished, "--shard-size", 5)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(finished, tmp_path / name))

    unfinished = copy("unfinished")
    (unfinished / "results.json").unlink()
    assert "is not finished" in refused(unfinished)
    lacking = copy("lacking")
    (lacking / "images" / "train" / "00001.png").unlink()
    assert "train/00001.png is missing" in refused(lacking)
    shutil.rmtree(lacking / "uninformed")
    assert "has no uninformed counterpart" in refused(lacking, "--variant", "uninformed")
    outside = copy("outside")
    change_manifest(outside, '"train/00001.png"', '"../results.json"')
    assert "expected a file_name such as" in refused(outside)
    linked = copy("linked")
    (linked / "images" / "train" / "00001.png").unlink()
    (linked / "images" / "train" / "00001.png").symlink_to(finished / "recipe.yaml")
    assert "is a link out of" in refused(linked)
    disordered = copy("disordered")
    change_manifest(disordered, '"label": 3', '"label": 4')
    assert "in sorted order" in refused(disordered)
    code, said = run("export", finished, "--layout", "folder", "--out", finished / "images" / "o")
    assert (code, "lies among the images" in said) == (2, True)


def test_the_command_says_how_it_is_read(finished: Path, tmp_path: Path) -> None:
    code, said = run("export", finished, "--layout", "rded", "--out", tmp_path / "o")
    assert code == 0
    assert "exported 8 images of 4 classes as rded" in said
    assert f'= "{tmp_path / "o"}", 2, 4' in said
    code, said = run("export", finished, "--layout", "parquet", "--out", tmp_path / "p", "--quiet")
    assert (code, said) == (0, "")


def test_a_layout_that_is_not_there_is_refused_with_those_that_are(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r'layout "foldr" \(did you mean "folder"\?\); there are folder, rded'):
        export(finished, "foldr", tmp_path / "o")
    code, said = run("export", finished, "--layout", "foldr", "--out", tmp_path / "o")
    assert (code, "'foldr' is not one of 'folder'" in " ".join(said.split())) == (2, True)


def test_every_command_of_the_page_runs(
    finished: Path, tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Path(__file__).parents[2] / "docs" / "export.md"
    commands = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("concord ")]
    assert {word for line in commands for word in line.split()} >= set(LAYOUTS)
    shutil.copytree(finished, tmp_path / "out" / "reef")
    monkeypatch.chdir(tmp_path)
    for line in commands:
        assert run(*line.split("#")[0].split()[1:])[0] == 0, line
    assert [*hub.repositories] == ["my-name/reef-10"]
