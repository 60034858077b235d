"""`concord concepts` on reef and on photographs: what a person sees, and what a program reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tiny
from concord.cli.commands import app
from concord.concepts.bank import bundled_banks
from concord.methods.diffusion import Generate
from concord.recipe import load

REEF = ("reef", "reef", "--encoder", "reef:clip", "--images", "20")


def run(*arguments: object, width: int = 80) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["concepts", *map(str, arguments)], env={"COLUMNS": str(width)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def pets(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A bank with markup and control characters in it, photographs, and a tiny CLIP."""
    phrases = {"cat [bold]": ["long fur [red]", "short tail\x1b[31m"], "dog": ["long ears", "Short fur"]}
    bank = {"schema": 1, "name": "pets", "classes": {name: {"phrases": some} for name, some in phrases.items()}}
    (tmp_path / "bank.json").write_text(json.dumps(bank))
    rng = np.random.default_rng(0)
    for name in phrases:
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "bank.json", tmp_path / "photos", tiny.save_encoder(tmp_path / "clip", tiny.clip())


def _colours(path: Path) -> int:
    with Image.open(path) as image:
        return len(image.convert("RGB").getcolors(1 << 24) or [])


def test_banks_lists_every_bundled_one() -> None:
    code, said, _ = run("banks")
    assert code == 0
    assert all(name in said for name in bundled_banks())
    assert "10 classes, 100 phrases" in said
    assert "written with the world" in said


def test_show_finds_a_class_in_all_banks_and_hints_at_the_nearest() -> None:
    code, said, _ = run("show", "Temple-Tang")
    assert code == 0
    assert "in the bank reef" in said
    assert "a ringed eyespot by the tail" in said
    assert "canyon damsel, orchid tang" in said
    code, said, error = run("show", "temple tangg", "--bank", "reef")
    assert (code, said) == (2, "")
    assert 'did you mean "temple tang"' in error


def test_lint_says_a_line_a_fault_and_ends_with_1(pets: tuple[Path, Path, Path]) -> None:
    assert run("lint", "reef") == (0, "reef: 10 classes, 100 phrases, no faults\n", "")
    code, said, error = run("lint", pets[0])
    assert code == 1
    assert 'dog: "Short fur": starts with a capital' in said
    assert "\x1b" not in said
    assert error.startswith("pets: ")
    code, listed, _ = run("lint", pets[0], "--json")
    assert code == 1
    faults = json.loads(listed)["faults"]
    assert len(faults) == len(said.splitlines())
    assert {"kind": "upper-case", "class_name": "dog", "phrase": "Short fur"}.items() <= faults[-1].items()
    assert json.loads(run("lint", "reef", "--json")[1])["faults"] == []
    code, said, error = run("lint", "reeff")
    assert (code, said) == (2, "")
    assert error.count("\n") == 1


def test_lint_needs_no_torch() -> None:
    check = "import atexit, sys\natexit.register(lambda: print('TORCH', 'torch' in sys.modules))"
    code = f"{check}\nsys.argv = ['concord', 'concepts', 'lint', 'reef']\nfrom concord.cli import main; main()"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert "TORCH False" in said.stdout, said.stderr


def test_select_keeps_reefs_true_details_and_draws_them(tmp_path: Path) -> None:
    code, said, _ = run(
        "select", *REEF, "--chart", tmp_path / "a" / "chart.png", "--out", tmp_path / "b" / "concepts.json"
    )
    assert code == 0
    assert "kept 50 of 100 phrases of 10 classes; 50 of the 50 details" in " ".join(said.split())
    assert max(map(len, said.splitlines()[:-3])) <= 80
    assert _colours(tmp_path / "a" / "chart.png") > 50
    record = json.loads((tmp_path / "b" / "concepts.json").read_text())
    assert record["schema"] == 1
    assert sum(c["kept"] for entry in record["classes"].values() for c in entry["concepts"]) == 50


def test_select_writes_what_a_run_writes(tmp_path: Path) -> None:
    code, said, _ = run("select", *REEF, "--classes", "coral perch,river perch", "--json")
    assert code == 0
    recipe = load("reef", ["concepts.images=20", "classes=[coral perch, river perch]"])
    from concord.data import open_data, restrict

    ran = Generate(recipe, restrict(open_data("reef"), recipe.classes, {})).record()
    assert json.loads(said) == {"schema": 1, **json.loads(json.dumps(ran))}


def test_a_pinned_phrase_is_kept_and_marked() -> None:
    pin = ("--pin", "river perch=an orange snout", "--classes", "river perch")
    code, said, _ = run("select", *REEF, *pin, "--keep", "2")
    assert code == 0
    assert "◆  an orange snout" in said
    assert said.count("●") == 2, "one kept phrase beside the pinned one, and the legend"
    for wrong in ("river perch", "=a", "river perch="):
        code, _, error = run("select", *REEF, "--pin", wrong)
        assert code == 2
        assert "expected CLASS=PHRASE" in error


def test_texts_from_outside_are_shown_as_they_are(pets: tuple[Path, Path, Path]) -> None:
    bank, photos, clip = pets
    for arguments in (
        ("select", bank, photos, "--encoder", clip),
        ("compare", bank, bank, photos, "--encoder", clip),
        ("show", "cat [bold]", "--bank", bank),
    ):
        code, said, error = run(*arguments)
        assert (code, error) == (0, "")
        assert "cat [bold]" in said
        assert "long fur [red]" in said
        assert "\x1b" not in said
    code, said, _ = run("negatives", bank, photos, "--encoder", clip, "--class", "dog")
    assert code == 0
    assert "cat [bold] with long fur [red]" in said


def test_score_sets_the_bank_beside_bare_names(pets: tuple[Path, Path, Path]) -> None:
    code, said, _ = run("score", *REEF)
    assert code == 0
    assert "chance is 10.0 %" in said
    figures = json.loads(run("score", *REEF, "--json")[1])
    assert figures["measured"] is True
    assert figures["images"] == 200
    assert figures["top1"]["bank"] > 0.9
    assert figures["top1"]["bank"] == pytest.approx(np.mean([c["bank"] for c in figures["classes"]]))
    assert figures["top1"]["gain"]["mean"] == pytest.approx(figures["top1"]["bank"] - figures["top1"]["names"])


def test_without_an_encoder_the_score_is_not_measured(tmp_path: Path) -> None:
    arguments = ("score", "reef", "reef", "--encoder", tmp_path / "nowhere")
    code, said, error = run(*arguments)
    assert (code, said) == (2, "")
    assert error.count("\n") == 1
    assert "not measured: cannot load the model" in error
    code, said, error = run(*arguments, "--json")
    assert code == 2
    assert json.loads(said)["measured"] is False
    assert "not measured" not in run("score", "reef", tmp_path / "no-photos")[2], "that is another error"


def test_negatives_show_chances_that_sum_up(tmp_path: Path) -> None:
    arguments = ("negatives", "reef", "reef", "--encoder", "reef:clip", "--count", "3")
    code, said, _ = run(*arguments, "--heatmap", tmp_path / "heat.png")
    assert code == 0
    assert "temple tang" in said
    assert _colours(tmp_path / "heat.png") > 50
    shown = json.loads(run(*arguments, "--json")[1])
    for entry in shown["classes"]:
        assert sum(other["first"] for other in entry["others"]) == pytest.approx(1, abs=1e-5)
        assert sum(other["any"] for other in entry["others"]) == pytest.approx(3, abs=1e-4)
        assert [o["cosine"] for o in entry["others"]] == sorted((o["cosine"] for o in entry["others"]), reverse=True)
    similar = json.loads(run(*arguments, "--kind", "similar", "--k", "2", "--class", "coral perch", "--json")[1])
    assert [other["any"] for other in similar["classes"][0]["others"]] == [1, 1, *[0] * 7]
    assert run(*arguments, "--kind", "similr")[0] == 2
    assert "did you mean" in run(*arguments, "--class", "coral perhc")[2]


def test_negatives_take_a_class_list(tmp_path: Path) -> None:
    names = {name: {"phrases": ["a tail"]} for name in ("Beagle", "dingo")}
    (tmp_path / "b.json").write_text(json.dumps({"schema": 1, "name": "b", "classes": names}))
    code, _, error = run("negatives", tmp_path / "b.json", "imagewoof", "--encoder", "reef:clip")
    assert code == 2
    assert "has no phrases for" in error


def test_compare_marks_what_both_say(pets: tuple[Path, Path, Path], tmp_path: Path) -> None:
    other = {"Coral Perch": ["dark bars across the body", "an Orange snout"], "cod": ["a beard"]}
    (tmp_path / "d.json").write_text(json.dumps(other))
    assert run("import", tmp_path / "d.json", "--out", tmp_path / "b.json", "--name", "mine")[0] == 0
    code, said, _ = run("compare", "reef", tmp_path / "b.json")
    assert code == 0
    assert said.count("= dark bars across the body") == 2
    assert "1 class in this bank alone: cod" in said
    assert "2 faults" in said
    assert max(map(len, said.splitlines()[7:])) <= 80
    arguments = ("compare", "reef", tmp_path / "b.json", "reef", "--encoder", "reef:clip", "--images", "10")
    rated = json.loads(run(*arguments, "--json")[1])
    assert [entry["class_name"] for entry in rated["classes"]] == ["coral perch"]
    first, second = rated["classes"][0]["phrases"]
    bars = [next(line for line in side if "dark bars" in line["phrase"]) for side in (first, second)]
    assert bars[0]["activation"] == bars[1]["activation"]
    assert all(line["common"] for line in bars)
    assert "mean of the kept" in run(*arguments, "--class", "coral perch")[1]
    assert 'no class "cod"' in run("compare", "reef", tmp_path / "b.json", "--class", "cod")[2]


def test_import_says_what_it_left_out_and_what_lint_thinks(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps({"hen": ["Two legs", None], "cow": None}))
    code, said, _ = run("import", tmp_path / "d.json", "--out", tmp_path / "deep" / "b.json")
    assert code == 0
    assert '"cow" has no phrases' in said
    assert "lint finds 3 faults" in said
    assert run("lint", tmp_path / "deep" / "b.json")[0] == 1
    code, said, error = run("import", tmp_path / "none.json", "--out", tmp_path / "b.json")
    assert (code, said) == (2, "")
    assert "cannot read the descriptor file" in error
