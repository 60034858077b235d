"""`concord init`: what a person with a folder of photographs does first."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.evaluation.cells import open_sets
from concord.evaluation.settings import Settings
from concord.recipe import load


def photos(root: Path, counts: dict[str, int], size: tuple[int, int] = (300, 200)) -> Path:
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (i, 0, 0)).save(root / folder / f"{i}.png")
    return root


def run(*arguments: str, cwd: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.chdir(cwd)
    result = CliRunner().invoke(app, ["init", *arguments])
    return result.exit_code, result.output


def test_a_folder_becomes_a_recipe_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "my cats: no. 1", {"sphynx": 12, "maine coon": 90})
    code, output = run(str(root), "--ipc", "3", cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0, output
    assert "2 classes, 102 images" in output
    assert "uneven: 12 to 90" in output
    written = tmp_path / "my-cats-no.-1.yaml"
    recipe = load(str(written))
    assert (recipe.method, recipe.ipc, recipe.data) == ("unclip", 3, str(root))
    assert (recipe.informing.objective.contrastive, recipe.informing.objective.class_name) == (0, 1)
    assert "concord concepts retrieve" in output
    assert "concord distill" in output
    assert "200 px (median" in written.read_text()


def test_the_recipe_and_the_photographs_move_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "here" / "pets", {"cat": 8, "dog": 8})
    (tmp_path / "here" / "recipes").mkdir()
    code, output = run("pets", "--out", "recipes/a.yaml", cwd=tmp_path / "here", monkeypatch=monkeypatch)
    assert code == 0, output
    assert "data: ../pets\n" in (tmp_path / "here" / "recipes" / "a.yaml").read_text()
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    assert Path(load("there/recipes/a.yaml").data).resolve() == tmp_path / "there" / "pets"
    assert load("there/recipes/a.yaml", ["data=pets"]).data == str(tmp_path / "pets"), "what is typed is from here"
    (tmp_path / "there" / "old.yaml").write_text("method: random\ndata: there/pets\n")
    assert load("there/old.yaml").data == str(tmp_path / "there" / "pets"), "as recipes of before are read"


def test_a_machine_without_models_is_told_what_works_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    photos(tmp_path / "my pets", {"cat": 8, "dog": 8}, size=(40, 40))
    code, output = run("my pets", cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0
    said = CliRunner().invoke(app, ["distill", "my-pets.yaml", "--dry-run"]).output
    for text in (output, said):
        lines = [shlex.split(found[0], comments=True) for found in re.finditer(r"concord d.*", text)]
        now = [line[1:] for line in lines if "photos" in line]
        assert [line[3] for line in now] == ["method=random", "method=herding", "method=rded"]
        assert lines.index(["concord", "download", "my-pets.yaml"]) > lines.index(["concord", *now[-1]])
        assert "3 models of this recipe to fetch" in text
    for arguments in now[:2]:
        done = CliRunner().invoke(app, [*arguments, "ipc=2", "size=16"])
        assert done.exit_code == 0, done.output


def test_a_bundled_bank_with_all_classes_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "wardrobe", {"dress": 10, "t-shirt": 10, "hat": 10})
    assert run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)[0] == 0
    recipe = load(str(tmp_path / "wardrobe.yaml"))
    assert recipe.concepts.bank == "clothing"
    assert recipe.informing.objective.contrastive == 1
    dogs = photos(tmp_path / "dogs", {"n02096294": 10, "n02088364": 10})
    assert run(str(dogs), cwd=tmp_path, monkeypatch=monkeypatch)[0] == 0
    assert load(str(tmp_path / "dogs.yaml")).concepts.bank == "imagewoof"


def test_nothing_is_written_over_and_a_bank_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "wardrobe", {"dress": 10, "sock": 10})
    assert run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)[0] == 0
    code, output = run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)
    assert (code, "is there already" in output) == (2, True)
    code, output = run(str(root), "--bank", "clothing", "--force", cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 2
    assert 'no phrases for "sock"' in output
    assert run(str(root), "--force", cwd=tmp_path, monkeypatch=monkeypatch)[0] == 0
    code, output = run(str(tmp_path / "none"), cwd=tmp_path, monkeypatch=monkeypatch)
    assert (code, "there is no folder" in output) == (2, True)


def test_what_might_surprise_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "few", {"a": 3, "b": 10}, size=(50, 40))
    (root / "a" / "broken.jpg").write_bytes(b"not an image")
    code, output = run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0
    assert "few images to go by in a (4)" in output
    assert "1 of the images looked at cannot be read: a/broken.jpg" in output
    assert "smaller than 128 pixels" in output


def test_sizes_and_what_is_held_out_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "pets"
    photos(root / "train", {"cat": 10, "dog": 10})
    photos(root / "test", {"cat": 2, "dog": 3}, size=(90, 400))
    photos(root / "val", {"cat": 2})
    Image.new("RGB", (160, 640)).save(root / "train" / "cat" / "0.png")
    code, output = run("pets", cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0
    assert "2 classes, 20 images in pets (10 a class)" in output
    assert "160 to 200 px, median 200 (the shorter ones; 20 of 20 images looked at)" in output
    assert f"{root / 'test'} (5 images, the same classes): held out" in output
    assert f"{root / 'val'} (2 images, other classes): held out" in output
    assert "train/ is the data" in output
    written = (tmp_path / "pets.yaml").read_text()
    assert "#   pets/test (5 images, the same classes)\n" in written
    code, output = run("pets/train", cwd=tmp_path, monkeypatch=monkeypatch)
    assert "none: keep some images in another folder" in output


def test_a_name_from_outside_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "[bold]x", {"[red]dog": 10, "no": 10, "12": 10})
    code, output = run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0
    assert "[red]dog" in output
    (written,) = tmp_path.glob("*.yaml")
    assert load(str(written)).data == str(root)


def test_the_settings_are_those_of_the_custom_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "wardrobe", {"dress": 10, "t-shirt": 10})
    assert run(str(root), cwd=tmp_path, monkeypatch=monkeypatch)[0] == 0
    written, custom = load(str(tmp_path / "wardrobe.yaml")), load("custom", [f"data={root}"])
    for part in ("informing", "pipeline", "scorer", "encoder", "method", "size", "batch_size"):
        assert getattr(written, part) == getattr(custom, part), part


def test_photographs_do_not_hang_on_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = photos(tmp_path / "wardrobe", {"dress": 10, "t-shirt": 10})
    bundled = load("custom-ip", [f"data={root}"])
    for way in ("ip-adapter", "start-real"):
        code, output = run(str(root), "--pipeline", way, "--force", cwd=tmp_path, monkeypatch=monkeypatch)
        assert code == 0, output
        written = load(str(tmp_path / "wardrobe.yaml"))
        for part in ("informing", "scorer", "encoder", "method", "size", "batch_size"):
            assert getattr(written, part) == getattr(bundled, part), part
        assert written.pipeline.model == bundled.pipeline.model
        assert (written.pipeline.ip_adapter, written.pipeline.start) == (
            (bundled.pipeline.ip_adapter, None) if way == "ip-adapter" else (None, "real")
        )


def test_scans_of_12_bits_are_scaled_by_the_recipe_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(8):
        path = tmp_path / "xray" / ("ill", "normal")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(i).integers(0, 4096, (64, 64)).astype(np.uint16)
        Image.fromarray(grey).save(path)
    code, output = run(str(tmp_path / "xray"), cwd=tmp_path, monkeypatch=monkeypatch)
    assert code == 0 and "nearly black" in output and "with grey_range=[0, 4095]" in output
    assert load(str(tmp_path / "xray.yaml")).grey_range == (0, 4095)
    for key, top in (("null", 16), ("[0, 4095]", 255)):
        settings = [f"data={tmp_path / 'xray'}", "method=random", "size=64", "ipc=2", f"grey_range={key}"]
        out = tmp_path / f"made{top}"
        assert CliRunner().invoke(app, ["distill", "photos", *settings, "--out", str(out), "-q"]).exit_code == 0
        assert max(np.asarray(Image.open(p)).max() for p in (out / "images").rglob("*.png")) in (top - 1, top)
    grown = ["distill", "photos", *settings[:3], "ipc=3", "--out", str(out), "-q"]
    assert "grey_range" in (done := CliRunner().invoke(app, grown)).output and done.exit_code == 2
    tests = open_sets(out, str(tmp_path / "xray"), Settings())[1]
    assert np.asarray(tests.read(tests.items(0)[0])).max() > 250, "tested on what it was made from"
