"""Names from outside are text: no markup, no terminal command and no path in them does anything, in any command."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.text import Text
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.cli.console import Console, print_json
from concord.recipe import load
from concord.runs.store import read_manifest
from concord.text import plain

NAME = "<script>alert(1)</script>/../x"
FOLDERS = (
    "<script>alert(1)<",  # its slash makes a folder in it
    "<script>alert(1)</script>",
    "[red]dog[",
    '\'; rm -rf "$HOME" #',
    "a\nb: evil",
    "esc\x1b[31mred\x1b]0;title\x07",
    "one byte \x9b31m",
    "\u202ebackwards",
    "plain",
)
STEERING = ("\x1b", "\x9b", "\x07", "\u202e", "\r")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Classes with names as bad as a file system takes, and hidden folders that no class may come of."""
    for n, folder in enumerate([*FOLDERS, "nested/..x"]):
        place = tmp_path / "here" / "photos" / folder
        place.mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (9, 8), (20 * n, 90 * i, 0)).save(place / f"{i}.png")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here" / "photos"


def run(*arguments: object, code: int = 0) -> str:
    """Run a command as in a narrow terminal; nothing that it says may steer a terminal."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "80"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    for steering in STEERING:
        assert steering not in result.output
    return result.stdout if not code else result.stderr


def inside(root: Path) -> set[str]:
    return {p.relative_to(root).as_posix() for p in root.rglob("*")}


def test_a_set_of_hostile_names_stays_in_its_directory(photos: Path) -> None:
    root, out = photos.parent.parent, photos.parent / "out"
    before = inside(root)
    renamed = f"class_names={json.dumps({'plain': NAME})}"
    arguments = ("distill", "photos", f"data={photos}", renamed, "ipc=2", "size=null")
    said = run(*arguments, "--out", out, "--dry-run")
    assert "a b: evil" in said, "a line break in a name must not begin a line of its own"
    assert json.loads(run(*arguments, "--out", out, "--dry-run", "--json"))["images"] == 18
    assert inside(root) == before
    run(*arguments, "--out", out)
    run(*arguments, "seed=1", "--out", photos.parent / "other")
    new = inside(root) - before
    assert all(name.split("/")[:2] in (["here", "out"], ["here", "other"]) for name in new)
    rows = read_manifest(out / "images")
    assert len(rows) == 18, "two of each of nine classes; the hidden folder is none"
    assert all((out / "images" / row["file_name"]).is_file() for row in rows)
    assert NAME in {row["class_name"] for row in rows}

    page = photos.parent / "compare.html"
    run("compare", out, photos.parent / "other", "--out", page)
    compared = json.loads(run("compare", out, photos.parent / "other", "--json"))
    assert NAME in {pair["class_name"] for pair in compared["pairs"]}
    html = page.read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>alert" not in html
    assert not any(steering in html for steering in STEERING)
    assert inside(root) - before - new == {"here/compare.html"}


def test_init_writes_no_key_that_a_name_asks_for(photos: Path) -> None:
    said = run("init", photos)
    assert "[red]dog[" in said
    assert plain("a\nb: evil") in said
    recipe = load("photos.yaml")
    assert (recipe.method, recipe.data) == ("unclip", str(photos))
    evil = photos.rename(photos.parent / "a\nmethod: full\n#")
    run("init", evil, "--out", "evil.yaml")
    recipe = load("evil.yaml")
    assert (recipe.method, recipe.data) == ("unclip", str(evil))


def test_a_recipes_name_is_no_path(photos: Path) -> None:
    for name in ("../../evil", "/etc/evil", ".."):
        (photos.parent / "r.yaml").write_text(json.dumps({"name": name, "method": "random", "data": str(photos)}))
        run("distill", "r.yaml", "ipc=1")
    assert {p.name for p in (photos.parent / "out").iterdir()} == {"evil", "etc-evil", "unnamed"}
    assert not (photos.parent.parent / "evil").exists()


def test_errors_and_the_other_commands_say_names_as_text(photos: Path) -> None:
    for arguments in (["doctor"], ["recipes"], ["doctor", "--json"], ["recipes", "--json"]):
        run(*arguments)
    bad = "no\x1b[31m such\nclass [bold]"
    for arguments in (
        ["distill", "photos", f"data={photos}", f"classes=[{json.dumps(bad)}]"],
        ["distill", bad, "--dry-run"],
        ["distill", "photos", f"data=/{bad}"],
        ["compare", bad, "out"],
        ["concepts", "show", bad],
        ["init", bad],
    ):
        said = run(*arguments, code=2)
        assert said.count("\n") == 1
        assert "[bold]" in said


def test_a_hostile_bank_is_shown_and_linted_as_text(tmp_path: Path) -> None:
    classes = {
        name: {"phrases": [f"{name} tail", "[red]fin", "a\nb\x1b[2J"], "look_alikes": [NAME]} for name in FOLDERS
    }
    bank = {"schema": 1, "name": "\x1b]0;x\x07[bold]bank", "provenance": {"from\n": "\x9bx"}, "classes": classes}
    (tmp_path / "bank.json").write_text(json.dumps(bank))
    for name in FOLDERS:
        said = run("concepts", "show", name, "--bank", tmp_path / "bank.json")
        assert "[red]fin" in said
        assert NAME in said
    faults = CliRunner().invoke(app, ["concepts", "lint", str(tmp_path / "bank.json")]).output
    assert not any(steering in faults for steering in STEERING)
    assert "[bold]bank" in faults


@given(st.text())
def test_the_console_writes_nothing_that_steers_a_terminal(text: str) -> None:
    written = io.StringIO()
    Console(file=written, width=10_000).print(Text(text), soft_wrap=True)
    assert all(c.isprintable() or c == "\n" for c in written.getvalue())
    assert plain(text) == " ".join(plain(text).split())
    assert plain(text).isprintable()


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=[]))))
def test_json_is_whole_and_printable_whatever_is_in_it(values: dict[str, str]) -> None:
    values.pop("schema", None)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        print_json({"values": values})
    assert all(c.isprintable() or c == "\n" for c in written.getvalue())
    assert json.loads(written.getvalue())["values"] == values
