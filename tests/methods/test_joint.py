"""DM and IDM as runs: one descent that a kill does not change, its settings, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import open_data
from concord.data.space import Space
from concord.data.tensor_set import open_tensors
from concord.errors import ConcordError
from concord.methods import build, joint
from concord.methods.dm import DistributionMatching, usual_depth
from concord.methods.idm import ImprovedMatching
from concord.recipe import Recipe, identity, load, validate
from concord.runs.verify import verify
from concord.workflows.distill import distill

METHODS = {
    "dm": {"lr": 1.0},
    "idm": {"start": 2, "every": 2, "networks": 3, "trained": 1, "steps": 2, "batch": 5, "forget": 3, "ce": 0.05},
}
BOTH = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twelve images, each of a colour of its own under noise."""
    root, draw = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir()
        for i in range(12):
            pixels = draw.integers(0, 120, (8, 8, 3), dtype=np.uint8)
            pixels[..., label] += 130
            Image.fromarray(pixels).save(root / name / f"{i:02d}.png")
    return root


def recipe(method: str, data: Path, own: dict[str, Any] | None = None, **values: Any) -> Recipe:
    section = {"iterations": 7, "width": 8, "depth": 2, "real": 4, **METHODS[method], **(own or {})}
    own_values = {"method": method, "data": str(data), "ipc": 2, "seed": 1, "dtype": "float32", method: section}
    return validate({**own_values, **values})


@BOTH
def test_it_leaves_floats_previews_and_its_losses(method: str, coloured: Path, tmp_path: Path) -> None:
    results = distill(recipe(method, coloured), tmp_path / "o")
    found = open_tensors(tmp_path / "o" / "tensors.safetensors")
    assert found.images.shape == (6, 3, 8, 8) and found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.form.decode == (2 if method == "idm" else 1)
    pixels = np.stack([np.asarray(Image.open(path), float) for path in sorted(coloured.rglob("*.png"))]) / 255
    torch.testing.assert_close(found.form.space.mean, torch.tensor(pixels.mean((0, 1, 2)), dtype=torch.float32))
    assert found.form.space.std is not None
    torch.testing.assert_close(found.form.space.std, torch.tensor(pixels.std((0, 1, 2)), dtype=torch.float32))
    for item in found.places:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "o" / "images" / f"{item}.png")), found.read(item))
    assert [number for number, _ in results["descent"]["loss"]] == [1, 2, 3, 4, 5, 6, 7]
    assert not (tmp_path / "o" / "fit").exists() and verify(tmp_path / "o").faults == ()


@pytest.mark.parametrize("method", [pytest.param(name, id=name) for name in METHODS])
def test_a_kill_changes_no_byte(method: str, coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    distill(recipe(method, coloured), whole)
    monkeypatch.setattr(joint, "EVERY", 0.0)
    monkeypatch.setattr(joint, "SHARE", 0)
    kind = {"dm": DistributionMatching, "idm": ImprovedMatching}[method]
    step, left = kind.step, iter((3, 2, 7))

    def dies(budget: int) -> Any:
        count = iter(range(budget))

        def dying(self: Any, iteration: int, generator: torch.Generator) -> float:
            if next(count, None) is None:
                raise ConcordError("killed")
            return step(self, iteration, generator)

        return dying

    for budget in left:
        monkeypatch.setattr(kind, "step", dies(budget))
        if budget == 7:
            results = distill(recipe(method, coloured), killed)
        else:
            with pytest.raises(ConcordError, match="killed"):
                distill(recipe(method, coloured), killed)
    assert (killed / "tensors.safetensors").read_bytes() == (whole / "tensors.safetensors").read_bytes()
    before = json.loads((whole / "results.json").read_text())["descent"]
    assert {**results["descent"], "cpu_seconds": 0} == {**before, "cpu_seconds": 0}


def test_a_damaged_checkpoint_is_one_line(coloured: Path, tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    for content in (b"nothing", None):
        if content is None:
            torch.save({"iteration": 3}, tmp_path / "fit" / "state.pt")
        else:
            (tmp_path / "fit" / "state.pt").write_bytes(content)
        method: Any = build(recipe("dm", coloured), open_data(str(coloured)))
        with pytest.raises(ConcordError, match="begin anew"):
            method.fit(tmp_path / "fit", Quiet())


class Quiet:
    def stage(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


@BOTH
def test_it_moves_noise_towards_the_colours_of_its_class(method: str, coloured: Path, tmp_path: Path) -> None:
    own = {"iterations": 40, "init": "noise", "real": 12, "dsa": "", "space": "pixels", "lr": 2.0}
    results = distill(recipe(method, coloured, own), tmp_path / "o")
    images = open_tensors(tmp_path / "o" / "tensors.safetensors").images.view(3, 2, 3, -1).mean((1, 3))
    assert images.argmax(1).tolist() == [0, 1, 2]
    losses = [loss for _, loss in results["descent"]["loss"]]
    if method == "dm":  # IDM's networks learn meanwhile, and its loss with them
        assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_a_network_that_learns_weighs_the_cross_entropy_in_per_cent(coloured: Path, tmp_path: Path) -> None:
    of = recipe("idm", coloured, {"ce": 0.5, "dsa": "", "iterations": 1, "factor": 1, "real": 12, "lr": 1e-9})
    method: Any = ImprovedMatching(of, open_data(str(coloured)))
    method.fit(tmp_path, Quiet())
    learner = method.kept["queue"][0]
    learner |= {"seen": 40, "right": 10}  # 25 per cent, so a weight of 12.5
    net = method._restored(learner)
    expected = []
    for label in range(3):
        of_class = method.real.of_class(label, 12, torch.Generator().manual_seed(0))  # all, so that no draw matters
        images = method.by_class()[label]
        distance = (net.features(of_class).mean(0) - net.features(images).mean(0)).pow(2).sum()
        expected.append(distance + 12.5 * F.cross_entropy(net(images), torch.full((2,), label)))
    loss = method._match(learner, torch.Generator().manual_seed(3))
    assert loss == pytest.approx(float(torch.stack(expected).mean()), rel=1e-4)


def test_training_a_network_of_the_queue_is_torchs_sgd_and_goes_on_where_it_was(coloured: Path, tmp_path: Path) -> None:
    of = recipe("idm", coloured, {"iterations": 1, "batch": 36, "steps": 1})
    method: Any = ImprovedMatching(of, open_data(str(coloured)))
    method.fit(tmp_path, Quiet())
    learner = method._learner(torch.Generator().manual_seed(2))
    net = method._restored(learner).requires_grad_()
    optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    right = 0
    for _ in range(3):
        images, labels = method.real.mixed(36, torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        F.cross_entropy(net(images), labels).backward()
        right += int((net(images).argmax(1) == labels).sum())
        optimiser.step()
        method._train(learner, torch.Generator().manual_seed(1))
    for name, weight in net.named_parameters():
        torch.testing.assert_close(learner["weights"][name], weight.detach(), atol=1e-5, rtol=1e-4)
    assert (learner["seen"], learner["right"]) == (108, right)


def test_another_ipc_is_another_descent(coloured: Path, tmp_path: Path) -> None:
    distill(recipe("dm", coloured), tmp_path / "o")
    with pytest.raises(ConcordError, match="ipc was 2, now 3"):
        distill(recipe("dm", coloured, ipc=3), tmp_path / "o")


def test_it_begins_from_a_set_of_another_method(coloured: Path, tmp_path: Path) -> None:
    distill(validate({"method": "random", "data": str(coloured), "ipc": 2, "seed": 5}), tmp_path / "random")
    own = {"init": str(tmp_path / "random"), "lr": 1e-9, "space": "pixels"}
    distill(recipe("dm", coloured, own), tmp_path / "o")
    for path in (tmp_path / "random" / "images").rglob("*.png"):
        there = tmp_path / "o" / path.relative_to(tmp_path / "random")
        assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(there)))


def test_a_descent_that_goes_astray_stops(coloured: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"dm: the loss is nan at iteration \d+.*give a smaller dm.lr"):
        distill(recipe("dm", coloured, {"lr": 1e38}), tmp_path / "o")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": 9}, "idm: images of 9 px; expected 8 or more, and a multiple of 2"),
        ({"idm": {"dsa": "color_blur"}}, 'idm.dsa: unknown operation "blur"'),
        ({"idm": {"preset": "mnist"}}, "idm.preset"),
        ({"method": "dm", "idm": {"ce": 1.0}}, "unknown key"),
        ({"method": "dm", "dm": {"ce": 1.0}}, "unknown key"),
    ],
)
def test_what_cannot_act_is_refused(coloured: Path, tmp_path: Path, values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        distill(validate({"method": "idm", "data": str(coloured), "ipc": 1, **values}), tmp_path / "o")


@pytest.mark.parametrize("key", ["features=pixels", "rded.factor=3"])
def test_keys_of_other_methods_are_refused(coloured: Path, key: str) -> None:
    with pytest.raises(ConcordError, match=f"{key.partition('=')[0]}: method idm does not read it"):
        load("photos", ["method=idm", f"data={coloured}", key])


@pytest.mark.parametrize(
    ("method", "preset", "ipc", "expected"),
    [
        ("dm", "cifar10", 50, {"lr": 1.0, "real": 256, "space": "cifar10", "iterations": 20000, "momentum": 0.5}),
        ("dm", "cifar10", 100, {"lr": 10.0}),
        ("dm", "cifar100", 100, {"lr": 1.0, "space": "cifar100"}),
        ("idm", "cifar10", 1, {"ce": 0.5, "real": 5000, "every": 5, "lr": 0.2, "batch": 256, "steps": 10}),
        ("idm", "cifar10", 20, {"ce": 0.5, "real": 256, "every": 30, "forget": 100}),
        ("idm", "cifar10", 50, {"ce": 0.1, "forget": 500}),
        ("idm", "cifar100", 10, {"ce": 0.1, "steps": 50}),
        ("idm", "tiny", 50, {"ce": 0.8, "steps": 50, "forget": 1000}),
        ("idm", "imagenet-100", 10, {"ce": 3.0, "real": 128, "batch": 128, "every": 50, "networks": 50, "depth": 6}),
    ],
)
def test_a_preset_is_the_published_command_line_for_the_ipc(
    method: str, preset: str, ipc: int, expected: dict[str, Any]
) -> None:
    of = validate({"method": method, "data": "x", "ipc": ipc, method: {"preset": preset}})
    assert getattr(of, method).model_dump().items() >= expected.items()
    said = validate({"method": method, "data": "x", "ipc": ipc, method: {"preset": preset, "lr": 3.0, "real": 7}})
    assert (getattr(said, method).lr, getattr(said, method).real) == (3.0, 7)
    assert identity(validate(of.model_dump(by_alias=True))) == identity(of)


def test_depths_are_the_fields() -> None:
    assert [usual_depth(side) for side in (28, 32, 64, 128, 224, 256)] == [3, 3, 4, 5, 6, 6]


def test_the_command_line_tells_how_it_gets_on(coloured: Path, tmp_path: Path) -> None:
    settings = ["dm.iterations=3", "dm.width=8", "dm.real=4", "ipc=1", f"data={coloured}", "method=dm"]
    told = CliRunner().invoke(app, ["distill", "photos", "size=null", *settings, "--out", str(tmp_path / "o")])
    assert told.exit_code == 0, told.output
    assert "note: 3 iterations, loss " in told.output
    assert told.output.count("fitting") == 1, "a line a minute where output goes to a file"


def test_named_spaces_are_taken(coloured: Path, tmp_path: Path) -> None:
    distill(recipe("dm", coloured, {"space": "cifar10"}), tmp_path / "o")
    space = open_tensors(tmp_path / "o" / "tensors.safetensors").form.space
    assert torch.equal(space.mean, Space.named("cifar10").mean)
