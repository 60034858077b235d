"""Every example runs as it stands, in a small setting; the notebook's cells run in one process."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

import concord

EXAMPLES = Path(__file__).parents[1] / "examples"
SMALL = {
    "own_photos": "fish --test fish-test --ipc 1 --size 16 --epochs 1",
    "own_pipeline": "--steps 3 --images 1",
    "own_method": "fish --ipc 1",
    "compare_methods": "--data fish --test fish-test --steps 2 --epochs 1 --seeds 1 --student convnet-1 --width 4",
    "train_torchvision": "small/images --test fish-test --size 32 --epochs 1",
    "train_timm": "small/images --size 32 --epochs 1",
    "train_datasets": "small --size 32 --epochs 1",
}
SAID = {
    "own_photos": r"4 images of coral perch\n(.*\n)*2 images in .*\n(.*\n)*.*convnet-3",
    "own_pipeline": "above without, below with coral perch",
    "own_method": r"canyon damsel 0 \(64, 64\)\n(.*\n)*2 images in",
    "compare_methods": r"random +\d+\.\d ± (.*\n)*.*uninformed +\d",
    "train_torchvision": r"epoch +1  loss \d(.*\n)*.* % of 4 real images",
    "train_timm": r"epoch +1  loss \d.*on 4 images of 2 classes",
    "train_datasets": r"num_rows: 4(.*\n)*epoch +1  loss \d.*coral perch",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawn fish as somebody's photographs, held-out ones, and a small set of them."""
    root = tmp_path_factory.mktemp("examples")
    for source, name, count in (("reef", "fish", 4), ("reef-test", "fish-test", 2)):
        data = concord.open_data(source)
        for entry in (data.classes.find("canyon damsel"), data.classes.find("coral perch")):
            (root / name / entry.class_name).mkdir(parents=True)
            for i, item in enumerate(data.items(entry.label)[:count]):
                data.read(item).save(root / name / entry.class_name / f"{i}.png")
    concord.distill(concord.load_recipe("photos", data=str(root / "fish"), ipc=2, size=None), out=root / "small")
    return root


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_the_example_runs(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *SMALL[name].split()])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.search(SAID[name], said := capsys.readouterr().out), said


def test_an_example_is_short_and_listed() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        assert path.name == "README.md" or f"({path.name})" in page, path.name
        if path.suffix == ".py":
            assert 20 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name


def test_the_notebook_runs_from_install_to_report(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONCORD_SMALL", str(place))
    cells = json.loads((EXAMPLES / "first_set.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources[0] == "%pip install --quiet concord-distill"
    names: dict[str, object] = {}
    for number, source in enumerate(sources[1:], 1):
        exec(compile(source, f"cell {number}", "exec"), names)
    assert (tmp_path / "out" / "first" / "report.html").is_file()
    cell = json.loads((tmp_path / "out" / "first" / "evaluation.json").read_text())["cells"][0]
    assert (cell["student"], cell["ipc"]) == ("convnet-3", 2)
    assert all(cell.get("outputs", []) == [] for cell in cells), "figures of a run would not stay true"
