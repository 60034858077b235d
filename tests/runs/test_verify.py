"""A set that was downloaded, copied or kept for years: whether all of it is there must not be a guess."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.export import export
from concord.recipe import validate
from concord.registry import LAYOUTS
from concord.runs.verify import verify
from concord.workflows.distill import distill


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two images of each of two classes."""
    place = tmp_path_factory.mktemp("verify")
    for number, name in enumerate(("cat", "dog")):
        (place / "data" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (6, 6), (40 * i, 90 * number, 7)).save(place / "data" / name / f"{i}.png")
    distill(validate({"method": "random", "data": str(place / "data"), "ipc": 2}), place / "run")
    return place / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def test_a_whole_set_is_whole(run: Path) -> None:
    found = verify(run)
    assert (found.faults, found.notes) == ((), ())
    assert dict(found.checked)["images"] == "4 images, 4 by SHA-256"
    result = CliRunner().invoke(app, ["verify", str(run)])
    assert (result.exit_code, "run: whole" in result.output) == (0, True)


IMAGE = "images/cat/00001.png"
SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda run: (run / IMAGE).unlink(), f"{IMAGE} is missing"),
    "cut": (lambda run: os.truncate(run / IMAGE, 9), f"{IMAGE} has 9 bytes, and "),
    "exchanged": (lambda run: flip(run / IMAGE), f"{IMAGE} is not the image of its row"),
    "a link": (lambda run: ((run / IMAGE).rename(run / "x"), (run / IMAGE).symlink_to(run / "x")), "is missing"),
    "a row less": (lambda run: cut_line(run / "images/metadata.jsonl"), "images/metadata.jsonl is missing or changed"),
    "a torn row": (lambda run: os.truncate(run / "images/metadata.jsonl", 20), "metadata.jsonl is missing or changed"),
    "no row": (lambda run: (run / "images/metadata.jsonl").write_text("[]\n"), "line 1 is no row of an image"),
    "no manifest": (lambda run: (run / "images/metadata.jsonl").unlink(), "metadata.jsonl is missing or changed"),
    "an image more": (lambda run: Image.new("L", (4, 4)).save(run / "images/cat/9.png"), "images/cat/9.png has no row"),
    "another recipe": (lambda run: flip(run / "recipe.yaml"), "recipe.yaml is missing or changed"),
    "no results": (lambda run: (run / "results.json").unlink(), "it is not finished"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1]))


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_missing_or_changed_is_named(name: str, run: Path) -> None:
    spoil, says = SPOILT[name]
    spoil(run)
    faults = verify(run).faults
    assert any(says in fault for fault in faults), faults
    result = CliRunner().invoke(app, ["verify", str(run)], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    assert says in result.output
    found = json.loads(CliRunner().invoke(app, ["verify", str(run), "--json"]).output)
    assert (found["whole"], found["faults"]) == (False, list(faults))


def test_many_faults_fit_one_screen(run: Path) -> None:
    for i in range(50):
        Image.new("L", (4, 4)).save(run / "images" / "cat" / f"more-{i}.png")
    lines = CliRunner().invoke(app, ["verify", str(run)]).output.splitlines()
    assert len(lines) < 20
    assert lines[-1] == "  and 38 more"


def test_a_set_of_an_earlier_version_is_checked_as_far_as_it_can_be(run: Path) -> None:
    (run / "checksums.json").unlink()
    rows = [json.loads(line) for line in (run / "images/metadata.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in row.items() if key not in ("bytes", "sha256")} for row in rows]
    (run / "images/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    found = verify(run)
    assert found.faults == ()
    assert "4 rows of images without a digest" in found.notes[0]
    assert "no checksums.json" in found.notes[1]
    os.truncate(run / IMAGE, 9)
    assert any("cannot read the image" in fault for fault in verify(run).faults)
    (run / "images/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old[:3]))
    (run / "details.json").write_text("{")
    faults = " ".join(verify(run).faults)
    assert "images has not as many rows as results.json says" in faults
    assert "details.json is damaged" in faults


@pytest.mark.parametrize("layout", LAYOUTS)
def test_exports_are_verified(layout: str, run: Path, tmp_path: Path) -> None:
    export(run, layout, tmp_path / "set")
    assert verify(tmp_path / "set").faults == ()
    largest = max((tmp_path / "set").rglob("*.*"), key=lambda path: ("README" not in path.name, path.stat().st_size))
    flip(largest)
    assert any(largest.name in fault for fault in verify(tmp_path / "set").faults)


def test_what_holds_no_set_is_refused_in_one_line(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere", Path(__file__)):
        result = CliRunner().invoke(app, ["verify", str(place)])
        assert result.exit_code == 2
        assert "holds no set that could be verified" in result.output


def test_draws_are_verified_together(run: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        shutil.copytree(run, tmp_path / "draws" / f"seed-{seed}")
    found = verify(tmp_path / "draws")
    assert found.faults == ()
    assert [name for name, _ in found.checked] == ["seed-0/images", "seed-0/files", "seed-1/images", "seed-1/files"]
    (tmp_path / "draws" / "seed-1" / IMAGE).unlink()
    assert verify(tmp_path / "draws").faults == (f"seed-1/{IMAGE} is missing",)
