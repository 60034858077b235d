"""The command line is what a newcomer meets: it must be quick, and say what is wrong in one line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.cli.completion import complete_key, complete_recipe
from concord.recipe import bundled
from concord.runs import store
from concord.storage import atomic


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for folder in ("cat [big]", "dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(tmp_path / "photos" / folder / f"{i}.png")
    return tmp_path / "photos"


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def command(*arguments: object, code: str = "") -> list[str]:
    return [sys.executable, "-c", f"{code}\nfrom concord.cli import main; main()", *(str(a) for a in arguments)]


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--help"], ["--version"], ["distill", "--help"], ["distill", "photos"]),
        *(["evaluate", "--help"], ["teacher", "--help"], ["labels", "--help"], ["evaluate"]),
    ],
)
def test_no_heavy_library_is_imported_before_it_is_needed(arguments: Sequence[str]) -> None:
    check = (
        "import atexit, sys\n"
        "heavy = ('torch', 'diffusers', 'transformers', 'numpy', 'huggingface_hub')\n"
        "atexit.register(lambda: print('HEAVY', [m for m in heavy if m in sys.modules]))"
    )
    result = subprocess.run(command(*arguments, code=check), capture_output=True, text=True, env=ENVIRONMENT)
    assert "HEAVY []" in result.stdout, result.stdout


def test_a_copy_of_photographs_needs_no_torch(photos: Path, tmp_path: Path) -> None:
    check = "import atexit, sys\natexit.register(lambda: print('TORCH', 'torch' in sys.modules))"
    arguments = command("distill", "photos", f"data={photos}", "ipc=2", "--out", tmp_path / "o", code=check)
    result = subprocess.run(arguments, capture_output=True, text=True, env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    assert "TORCH False" in result.stdout


@pytest.mark.parametrize("recipe", ["imagenet-1k-dit", "imagenet-1k-unclip", "custom-ip", "custom-best"])
def test_a_dry_run_of_a_set_whose_models_are_missing_needs_no_torch(recipe: str, photos: Path, tmp_path: Path) -> None:
    """To import it takes longer than to plan, and half a gigabyte."""
    check = "import atexit, sys\natexit.register(lambda: print('TORCH', 'torch' in sys.modules))"
    settings = ["concepts={bank: null, pinned: {cat: [whiskers], dog: [a snout]}}", "device=cpu", f"data={photos}"]
    words = ["distill", recipe, "classes=null", *settings, "--out", tmp_path / "o", "--dry-run", "--json"]
    environment = {**ENVIRONMENT, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run(command(*words, code=check), capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert '"missing": ' in result.stdout and '"present": false' in result.stdout
    assert "TORCH False" in result.stdout


def test_distill_says_what_it_made_and_where(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    code, said, _ = run("distill", "photos", f"data={photos}", "ipc=2", "size=null", "--out", out)
    assert code == 0
    assert "4 images of 2 classes (4 made now)" in said
    assert str(out / "images") in said
    assert str(out / "results.json") in said
    assert "samples.png" not in said, "what is not there is not shown"
    code, said, _ = run("distill", "photos", f"data={photos}", "ipc=3", "size=null", "--out", out)
    assert code == 0
    assert "6 images of 2 classes (2 made now, 4 kept)" in said
    code, said, _ = run("distill", "photos", f"data={photos}", "ipc=3", "size=null", "--out", out)
    assert "nothing to do: all there already" in said


def test_method_full_and_options_after_overrides(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    code, said, _ = run("distill", "--out", out, "photos", "--workers", "1", "method=full", f"data={photos}")
    assert code == 0
    assert "8 images of 2 classes" in said
    assert json.loads((out / "results.json").read_text())["images"] == 8


def test_quiet_says_nothing_but_errors(photos: Path, tmp_path: Path) -> None:
    assert run("distill", "photos", f"data={photos}", "ipc=1", "--out", tmp_path / "o", "--quiet") == (0, "", "")
    code, said, error = run("distill", "photos", f"data={photos}", "ipc=9", "--out", tmp_path / "p", "-q")
    assert (code, said) == (2, "")
    assert error.startswith("error: fewer images")


def test_json_alone_stands_on_stdout(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    arguments = ("distill", "photos", f"data={photos}", "ipc=3", "--out", out, "--json")
    code, text, said = run(*arguments, "--dry-run")
    plan = json.loads(text)
    assert (code, plan["images"], plan["missing"], plan["models"], said) == (0, 6, 6, [], "")
    assert plan["classes"] == [{"class_name": "cat [big]", "images": 3}, {"class_name": "dog", "images": 3}]
    low, high = plan["seconds_range"]
    assert 0 < low <= plan["seconds"] <= high < 60
    assert not out.exists()
    code, text, said = run(*arguments)
    assert code == 0
    assert json.loads(text) == {**json.loads((out / "results.json").read_text()), "made": 6, "kept": 0}
    assert "6 of 6 images (100 %)" in said
    code, text, said = run(*arguments, "--quiet")
    assert (json.loads(text)["kept"], said) == (6, "")
    code, text, error = run("distill", "photos", "--json")
    assert (code, text, error.count("\n")) == (2, "", 1)


def test_dry_run_plans_and_writes_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    code, said, _ = run("distill", "photos", f"data={photos}", "ipc=3", "--out", out, "--dry-run")
    assert code == 0
    assert not out.exists()
    for part in ("2 classes x 3 = 6 images", "cat [big]", "6 of 1", "none needed", "disk", "memory", "time"):
        assert part in said


def test_dry_run_names_models_that_are_missing(photos: Path, tmp_path: Path) -> None:
    code, said, _ = run(
        *("distill", "photos", "method=dit", f"data={photos}", "--dry-run", "--out", tmp_path / "o"),
        *("informing.enabled=false", "pipeline.model=nobody/nothing"),
    )
    assert code == 0
    assert re.search(r"pipeline\.model +nobody/nothing \(missing", said)


def test_doctor_says_device_packages_and_recipes() -> None:
    code, said, _ = run("doctor")
    assert code == 0
    for part in ("concord", "device", "torch", "Pillow", "photos", "reef"):
        assert part in said
    code, text, _ = run("doctor", "--json")
    groups = json.loads(text)["findings"]
    assert {one["about"] for group in groups.values() for one in group} >= {"device", "torch", "photos", "reef"}
    assert all(one["found"] in said for group in groups.values() for one in group if one["about"] != "CPU")


def _no_images(root: Path) -> str:
    (root / "none" / "a").mkdir(parents=True)
    return f"data={root / 'none'}"


BAD: dict[str, tuple[list[str], str]] = {
    "recipe": (["phots"], 'unknown recipe "phots" (did you mean "photos"?)'),
    "key": (["photos", "{data}", "icp=3"], 'unknown key "icp" (did you mean "ipc"?)'),
    "value": (["photos", "{data}", "ipc=many"], "ipc: expected a whole number"),
    "no data": (["photos"], "data is missing"),
    "no folder": (["photos", "data=/nowhere/at/all"], "there is no folder /nowhere/at/all"),
    "no images": (["photos", "{empty}"], "no images in"),
    "class": (["photos", "{data}", "classes=dogg"], 'unknown class "dogg" (did you mean "dog"?)'),
    "too few": (["photos", "{data}", "ipc=5"], 'fewer images than ipc=5 asks for: "cat [big]" has 4'),
    "unreadable": (["photos", "{data}", "ipc=4"], "unreadable=skip leaves it out"),
    "out": (["photos", "{data}", "ipc=1", "--out", "{file}"], "cannot write"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_exit_code_2(photos: Path, tmp_path: Path, name: str) -> None:
    arguments, message = BAD[name]
    (tmp_path / "file").write_text("x")
    empty = _no_images(tmp_path)
    if name == "unreadable":
        (photos / "dog" / "2.png").write_bytes((photos / "dog" / "2.png").read_bytes()[:40])
    places = {"data": f"data={photos}", "empty": empty, "file": str(tmp_path / "file")}
    filled = [argument.format(**places) for argument in arguments]
    if "--out" not in filled:
        filled += ["--out", str(tmp_path / "o")]
    code, _, error = run("distill", *filled)
    assert code == 2
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error


def test_unreadable_images_are_left_out_when_asked_and_said(photos: Path, tmp_path: Path) -> None:
    (photos / "dog" / "2.png").write_bytes(b"broken")
    arguments = ("distill", "photos", f"data={photos}", "method=full", "--out", tmp_path / "o")
    code, _, error = run(*arguments)
    assert (code, "dog/2.png" in error) == (2, True)
    code, said, _ = run(*arguments, "unreadable=skip")
    assert code == 0
    assert "1 unreadable image left out: dog/2.png" in said


def test_another_recipe_or_a_directory_in_use_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    assert run("distill", "photos", f"data={photos}", "ipc=2", "--out", out)[0] == 0
    code, _, error = run("distill", "photos", f"data={photos}", "ipc=2", "seed=4", "--out", out)
    assert (code, "seed was 0, now 4" in error, error.count("\n")) == (2, True, 1)
    with atomic.lock(out):
        code, _, error = run("distill", "photos", f"data={photos}", "ipc=3", "--out", out)
    assert (code, "in use by another run" in error, error.count("\n")) == (2, True, 1)
    assert len(store.read_manifest(out / "images")) == 4


def test_a_full_disk_is_one_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full(name: str) -> None:
        nonlocal calls
        calls += name == "row synced"
        if calls == 3 and name == "written":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic, "failpoint", full)
    code, _, error = run("distill", "photos", f"data={photos}", "ipc=4", "--out", tmp_path / "o")
    assert (code, error.count("\n")) == (2, 1)
    assert error.startswith("error: the disk is full")
    assert len(store.read_manifest(tmp_path / "o" / "images")) == 3


def test_a_bug_keeps_its_traceback(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(name: str) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(atomic, "failpoint", bug)
    with pytest.raises(KeyError, match="a bug"):
        run("distill", "photos", f"data={photos}", "ipc=1", "--out", tmp_path / "o")


def test_help_is_grouped_and_short_everywhere() -> None:
    said = run("-h")[1]
    headings = [said.index(f"─ {name} ─") for name in ("Make", "Look", "Evaluate", "Share")]
    assert headings == sorted(headings)
    assert said.index("init ") < said.index("distill ") < headings[1] < said.index("report ")
    for words in (["distill"], ["concepts"], ["concepts", "lint"], ["download"], ["export"]):
        assert run(*words, "-h") == run(*words, "--help")


def test_the_tab_key_knows_recipes_and_their_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("method: random")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.yaml").write_text("method: random")
    monkeypatch.chdir(tmp_path)
    ours = [name for name in bundled() if name.startswith("re")]
    assert complete_recipe("re") == ours and {"reef", "reef-few", "reef-held-out", "reef-paper"} <= set(ours)
    assert complete_recipe("mi") == ["mine.yaml"] and complete_recipe("sub/") == ["sub/two.yaml"]
    assert complete_key("informing.str") == ["informing.strength="]
    tab = {"_CONCORD_COMPLETE": "complete_bash", "COMP_WORDS": "concord download reef-", "COMP_CWORD": "2"}
    done = CliRunner().invoke(app, env=tab, prog_name="concord")
    assert done.stdout.split() == [name for name in ours if name.startswith("reef-")], done.output


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(photos: Path, tmp_path: Path, workers: int) -> None:
    for i in range(60):
        Image.effect_noise((300, 300), 60).convert("RGB").save(photos / "dog" / f"n{i}.png")
    out = tmp_path / "o"
    arguments = command("distill", "photos", f"data={photos}", "method=full", "size=900", "--out", out)
    with subprocess.Popen(
        [*arguments, f"--workers={workers}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        text=True,
        # A shell that runs the tests in the background makes them, and so this child, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        manifest = out / "images" / store.MANIFEST
        while not (manifest.exists() and manifest.stat().st_size):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "the same command goes on from there" in error
    assert 0 < len(store.read_manifest(out / "images")) < 68


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_end_when_their_parent_is_killed(photos: Path, tmp_path: Path) -> None:
    for i in range(60):
        Image.effect_noise((300, 300), 60).convert("RGB").save(photos / "dog" / f"n{i}.png")
    out = tmp_path / "o"
    arguments = command("distill", "photos", f"data={photos}", "method=full", "size=900", "--workers=2", "--out", out)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT) as process:
        manifest = out / "images" / store.MANIFEST
        while not (manifest.exists() and manifest.stat().st_size):
            assert process.poll() is None
            time.sleep(0.02)
        tasks = Path(f"/proc/{process.pid}/task")
        children = [int(c) for task in tasks.iterdir() for c in (task / "children").read_text().split()]
        assert len(children) >= 2
        process.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_alive(child) for child in children):
        time.sleep(0.05)
    assert not [child for child in children if _alive(child)]


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
