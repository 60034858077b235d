"""The three regimes side by side: one command evaluates a set with random real images and a coreset beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commanding import NET, colour_teacher, record, refused, sets, succeed
from PIL import Image

from concord.evaluation import evaluate as trials
from concord.evaluation.draws import side
from concord.evaluation.regimes import OWN, blocks, command
from concord.metrics.statistics import summary
from concord.runs.draws import draws_in, home
from concord.runs.verify import verify
from test_formats import unnamed

QUICK = (*NET, "seeds=2", "epochs=2", "protocol=regimes")


def cell(protocol: str, *values: float, **more: Any) -> dict[str, Any]:
    top1 = {"best": summary([*values]), "last": summary([0.0] * len(values))}
    seeds = list(range(len(values)))
    shared = {"student": "c3", "ipc": 10, "changed": {}, "reports": "best", "seeds": seeds, "top1": top1}
    return {**shared, "protocol": protocol, **more}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...], str]:
    """A set that was evaluated with random images and herding beside it: its place, the command, and what it said."""
    root = tmp_path_factory.mktemp("beside")
    photos, test = sets(root, images=6)
    teacher = colour_teacher(root / "t.safetensors")
    recipe = ("photos", f"data={photos}", "method=k_center", "features=pixels", "ipc=2", "size=12", "seed=4")
    succeed("distill", *recipe, f"teacher={teacher}", "--out", root / "set", "-q")
    words = ("evaluate", str(root / "set"), "--test", str(test), *QUICK, "beside=random,herding", "draws=2")
    return root / "set", words, succeed(*words)[0]


def test_one_command_gives_a_set_random_images_and_a_coreset_in_three_regimes(made: Any) -> None:
    out, _, said = made
    random, herding = (draws_in(out / "beside" / method) for method in ("random", "herding"))
    assert [place.name for place in random] == ["seed-4", "seed-5"]
    assert [place.name for place in herding] == ["seed-4"], "nothing in it is drawn"
    of = {str(place): record(place)["cells"] for place in (out, *random, *herding)}
    assert {len(cells) for cells in of.values()} == {3}
    for place in (*random, *herding):
        assert {Image.open(path).size for path in (place / "images").rglob("*.png")} == {(12, 12)}, "as the set's"
        assert verify(place).faults == ()
    assert verify(out).faults == ()
    sides = {side["name"]: side for side in record(out)["sides"]}
    assert list(sides) == ["random", "herding"]
    assert unnamed({"sides": [*sides.values()]}, "evaluation.json") == set(), "docs/formats.md names them"
    assert sides["herding"]["features"] == "pixels at 32 px", "that of the set, which is a coreset itself"
    lines = said.splitlines()
    head = next(n for n, line in enumerate(lines) if line.split()[:3] == ["convnet-1,", "IPC", "2"])
    for regime in ("soft online (rded", "soft fixed (fixed", "hard (hard"):
        assert regime in lines[head]
    for line, places in zip(lines[head + 1 : head + 4], ([out], random, herding), strict=True):
        for number in range(3):
            values = [v for place in places for v in of[str(place)][number]["top1"]["best"]["values"]]
            assert f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f} ({len(places)}x2)" in line
    assert lines[head + 1].startswith("  this set") and "nothing is drawn" in lines[head + 3]
    assert "protocol=regimes" not in said, "nothing lacks"


def test_what_is_there_is_neither_chosen_nor_trained_again(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out, words, said = made
    before = record(out)
    monkeypatch.setattr(trials, "train_cell", None)
    assert succeed(*words)[0] == said
    assert record(out) == before
    plain = tuple(word for word in words if not word.startswith(("beside", "draws")))
    assert "random" in succeed(*plain)[0], "what stands beside it stays"


def test_the_page_begins_its_accuracies_with_the_regimes(made: Any) -> None:
    out, _, _ = made
    text = (out / "report.html").read_text()
    assert text.index("sides.0.cells.2.top1.best.mean") < text.index("Every student and protocol")
    assert text.count("2 draws \N{MULTIPLICATION SIGN} 2 seeds") == 3


def test_what_lacks_is_the_command_that_gives_it(made: Any, tmp_path: Path) -> None:
    out, words, _ = made
    alone = {**record(out), "sides": []}
    alone["cells"] = [one for one in alone["cells"] if one["protocol"] == "hard"]
    found = blocks(alone, ("random", "herding"))
    lacks = [[entry is None for entry in row.entries] for row in found[0].rows]
    assert lacks == [[True, True, False], [True] * 3, [True] * 3]
    given = command(out, words[3], found).split()
    assert given[:4] == ["concord", *words[:3]]
    assert {*given[4:]} == {
        *(words[3], "student=convnet-1", "ipc=2", "protocol=regimes", "beside=random,herding", "seeds=2"),
        *("epochs=2", "width=4"),
    }
    words = [word for word in given[1:] if not word.startswith("beside")]
    told, _ = succeed(*words, "workers=1", "beside=random", "draws=3", "--dry-run")
    assert (told.count("(dry run)"), told.count("all there")) == (4, 9), "the set and two draws, and one to be chosen"
    assert not (out / "beside/random/seed-6").exists()


def test_several_draws_are_one_row_and_each_draw_has_it() -> None:
    draw = [{"of": f"s{n}-t", "cells": [cell("hard", 50.0 + n, 60.0)]} for n in range(3)]
    own = side(OWN, draw)
    other = side("random", draw[:1])
    [found] = blocks({**draw[0], "sides": [own, other]})
    assert [(row.name, row.about) for row in found.rows] == [(OWN, ""), ("random", "one draw alone"), ("herding", "")]
    entry = found.rows[0].entries[2]
    assert entry is not None and (entry.draws, entry.seeds, entry.at) == (3, 2, "sides.0.cells.0")
    assert entry.cell["top1"]["best"]["mean"] == pytest.approx(np.mean([50, 60, 51, 60, 52, 60]))


def test_changed_settings_have_columns_of_their_own() -> None:
    cells = [cell("rded", 40.0), cell("rded", 41.0, changed={"epochs": 5}), cell("dc", 1.0), cell("hard", 30.0, ipc=1)]
    first, second = blocks({"cells": cells}, ())
    assert [told for _, told in first.columns] == ["rded", "rded (epochs=5)", "fixed", "hard"]
    assert (second.ipc, second.lacks) == (1, True)


def test_what_cannot_stand_beside_is_refused_before_anything_is_chosen(made: Any, tmp_path: Path) -> None:
    _, words, _ = made
    plain = [word for word in words if not word.startswith(("beside", "draws", "protocol"))]
    for more, told in (
        (["beside=dit"], "does not choose among real images"),
        (["beside=full"], "does not choose among real images"),
        (["beside=randon"], 'did you mean "random"?'),
        (["draws=2"], "name them, as in beside=random"),
        (["beside=random", "--out", str(tmp_path / "x.json")], "--out is for one set"),
        (["beside=random", "soft_labels=store"], "soft_labels are of one set's images"),
    ):
        assert told in refused(*plain, *more)
    folder, test = sets(tmp_path, images=2)
    said = refused("evaluate", folder, "--test", test, *QUICK, "beside=random")
    assert "does not say which images it was made of" in said and "method=random" in said
    assert not (folder / "beside").exists()


def test_a_draw_stands_for_all_draws_of_its_directory(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / f"seed-{seed}").mkdir()
    assert home(tmp_path / "seed-1") == tmp_path
    assert home(tmp_path) == tmp_path
    assert home(tmp_path / "seed-3") == tmp_path / "seed-3", "there is none"


def test_the_recipe_beside_keeps_what_decides_the_images_alone(made: Any) -> None:
    out, _, _ = made
    own, random = (yaml.safe_load((place / "recipe.yaml").read_text()) for place in (out, out / "beside/random/seed-5"))
    assert {key for key in own if own[key] != random[key]} == {"method", "seed"}
    assert json.loads((out / "beside/random/seed-5/results.json").read_text())["images"] == 6
