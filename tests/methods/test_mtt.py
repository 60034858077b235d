"""Experts and images that are matched to them: resumed as if nothing had been, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from typer.testing import CliRunner

from concord.cli.commands import app
from concord.data import ImageSet, open_data
from concord.data.space import Space, fit_zca
from concord.data.tensor_set import open_tensors
from concord.data.tensors import for_training, load
from concord.errors import ConcordError
from concord.events import Silent
from concord.methods import experts as experts_module
from concord.methods import joint
from concord.methods.experts import estimate_experts, open_experts, read_expert_settings, train_experts
from concord.methods.settings import MTT_PRESETS
from concord.models.networks import ConvNet
from concord.recipe import Recipe, validate
from concord.recipe import load as load_recipe
from concord.workflows.distill import distill

SIDE = 8
SMALL = ("width=4", "depth=2", "batch=8", "device=cpu", "lr=0.05")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of coloured noise, eight of each."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee", "cat")):
        (root / name).mkdir()
        for i in range(8):
            pixels = rng.integers(0, 150, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels[..., label] += 80
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def data(photos: Path) -> ImageSet:
    return open_data(str(photos))


def train(data: ImageSet, out: Path, *texts: str) -> dict[str, bytes]:
    train_experts(data, read_expert_settings([*SMALL, *texts]), out)
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def experts(data: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("experts")
    train(data, out, "experts=2", "epochs=4")
    return out


# --- experts ---------------------------------------------------------------------------------------------------


def test_an_expert_is_plain_gradient_descent_from_the_parameters_before_the_first_epoch(
    data: ImageSet, tmp_path: Path
) -> None:
    """One batch an epoch and no augmentation: the order of the images says nothing."""
    train(data, tmp_path, "experts=1", "epochs=2", "batch=24", "dsa=", "space=pixels")
    rows = load_file(tmp_path / "expert-000.safetensors")["parameters"]
    net = ConvNet(2, 3, SIDE, "instance", width=4)
    assert rows.shape == (3, sum(p.numel() for p in net.parameters())) and rows.dtype == torch.float32
    images = load(data, for_training(SIDE))
    torch.nn.utils.vector_to_parameters(rows[0], net.parameters())
    for row in rows[1:]:
        loss = F.cross_entropy(net(images.images.float() / 255), images.labels)
        for p, gradient in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.data -= 0.05 * gradient
        torch.testing.assert_close(torch.nn.utils.parameters_to_vector(net.parameters()).detach(), row)


def test_experts_that_were_stopped_or_added_are_those_made_at_once(
    data: ImageSet, experts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {path.name: path.read_bytes() for path in experts.glob("*.safetensors")}
    monkeypatch.setattr(experts_module, "EVERY", -1.0)  # a checkpoint after every epoch

    class Stops(Silent):
        epochs = 0

        def advance(self, count: int, facts: Any = ()) -> None:
            self.epochs += count
            if self.epochs == 2:
                raise KeyboardInterrupt

    settings = read_expert_settings([*SMALL, "experts=1", "epochs=4"])
    with pytest.raises(KeyboardInterrupt):
        train_experts(data, settings, tmp_path, Stops())
    assert [path.name for path in tmp_path.glob(".*.checkpoint")] == [".expert-000.safetensors.checkpoint"]
    assert not (tmp_path / "expert-000.safetensors").exists()
    train_experts(data, settings, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.safetensors")} == {
        name: whole[name] for name in ("expert-000.safetensors", "space.safetensors")
    }
    assert train(data, tmp_path, "experts=2", "epochs=4") == whole
    assert not list(tmp_path.glob(".*.checkpoint"))
    for other in ("epochs=5", "seed=1", "width=8", "zca=true"):
        with pytest.raises(ConcordError, match="has experts of other settings or images"):
            train(data, tmp_path, "experts=2", *(("epochs=4",) if "epochs" not in other else ()), other)


def test_a_row_is_read_alone_and_the_space_is_the_images(data: ImageSet, experts: Path, tmp_path: Path) -> None:
    found = open_experts(experts)
    assert (found.classes, found.count, found.epochs) == (("ant", "bee", "cat"), 2, 4)
    rows = load_file(experts / "expert-001.safetensors")["parameters"]
    assert torch.equal(found.parameters(1, 3), rows[3])
    images = load(data, for_training(SIDE))
    values = found.space.of_pixels(images.images.float() / 255)
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
    train(data, tmp_path, "experts=1", "epochs=1", "zca=true")
    whitened = open_experts(tmp_path).space
    assert whitened.matrix is not None and torch.equal(whitened.matrix, fit_zca(images.images).matrix)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["epoch=3"], r'unknown key "epoch" \(did you mean "epochs"'),
        (["dsa=colour"], 'dsa: unknown operation "colour"'),
        (["zca=true", "space=cifar10"], "zca and space say the same"),
        (["lr=1e30", "experts=1", "epochs=2"], "expert 0 has no finite parameters after epoch 1; give a smaller lr"),
        (["size=72", "zca=true"], "zca=true is for images up to 64 px, these have 72"),
    ],
)
def test_experts_that_cannot_be_are_refused(data: ImageSet, tmp_path: Path, texts: list[str], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        train(data, tmp_path / "out", *texts)
    assert not list(tmp_path.glob("out/expert-*"))


def test_what_a_dry_run_says_is_what_a_run_makes(data: ImageSet, experts: Path, tmp_path: Path) -> None:
    settings = read_expert_settings([*SMALL, "experts=5", "epochs=4", "batch=10"])
    whole = estimate_experts(data, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (whole.experts, whole.lacking, whole.steps) == (5, 5, 5 * 4 * 3)  # 24 images in batches of 10
    assert 0 < whole.seconds[0] <= whole.seconds[1]
    rest = estimate_experts(data, read_expert_settings([*SMALL, "experts=5", "epochs=4"]), experts)
    assert (rest.lacking, rest.steps) == (3, 3 * 4 * 3)
    stored = sum(path.stat().st_size for path in experts.glob("expert-*"))
    assert stored / 2 * 5 == pytest.approx(rest.store_bytes, rel=0.1)  # and a header each
    with pytest.raises(ConcordError, match="has experts of other settings or images"):
        estimate_experts(data, read_expert_settings([*SMALL, "experts=5", "epochs=3"]), experts)


# --- images ----------------------------------------------------------------------------------------------------


def recipe(photos: Path, experts: Path, *texts: str, **values: Any) -> Recipe:
    own = {"experts": str(experts), "iterations": 6, "steps": 3, "start": 3, "epochs": 2, "lr": 10.0, "rate": 0.05}
    plain = {"method": "mtt", "data": str(photos), "ipc": 2, "device": "cpu", "mtt": {**own, **values.pop("mtt", {})}}
    return validate({**plain, **values})


def test_a_set_that_was_stopped_is_the_set_made_at_once_with_its_rate(
    photos: Path, experts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concord.methods.mtt import TrajectoryMatching

    own = recipe(photos, experts, mtt={"batch": 4, "rate_lr": 1e-3})
    distill(own, tmp_path / "whole")
    whole = open_tensors(tmp_path / "whole" / "tensors.safetensors")
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert whole.form.rate == pytest.approx(results["rate"]) and whole.form.rate != 0.05
    step = TrajectoryMatching.step

    def stops(self: TrajectoryMatching, iteration: int, generator: torch.Generator) -> float:
        if iteration == 4:
            raise KeyboardInterrupt
        return step(self, iteration, generator)

    monkeypatch.setattr(joint, "EVERY", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrajectoryMatching, "step", stops)
        distill(own, tmp_path / "again")
    distill(own, tmp_path / "again")
    again = open_tensors(tmp_path / "again" / "tensors.safetensors")
    assert torch.equal(whole.images, again.images) and whole.form.rate == again.form.rate
    assert isinstance(whole.form.space, Space) and torch.equal(whole.form.space.mean, open_experts(experts).space.mean)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"mtt": {"experts": "nowhere"}},
            r"missing here: \./nowhere \(`mtt\.experts`.*there is no such directory.*`concord experts DATA --out DIR`",
        ),
        ({"mtt": {"experts": "PHOTOS"}}, "mtt.experts: .* holds no experts; train some: concord experts DATA"),
        ({"mtt": {"start": 4}}, "ask for experts of 5 epochs; those in .* have 4"),
        ({"size": 16}, "are for 8 px, not 16; give size=8"),
        ({"classes": ["ant", "bee"]}, "know the classes ant, bee, cat, the data have ant, bee"),
        ({"ipc": 9}, "mtt.init: ipc=9 takes 9 images"),
        ({"mtt": {"rate_lr": 1e6}}, "the learnt rate fell to|the loss is"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    photos: Path, experts: Path, tmp_path: Path, values: dict[str, Any], said: str
) -> None:
    if values == {"mtt": {"experts": "PHOTOS"}}:  # a directory of something else
        values = {"mtt": {"experts": str(photos)}}
    with pytest.raises(ConcordError, match=said) as caught:
        distill(recipe(photos, experts, **values), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_presets_are_the_published_settings() -> None:
    """dc_benchmark's methods/tm/readme.md: steps, epochs, start, lr of pixels, of the rate, first rate, batch."""
    table = {
        ("cifar10", 1): (50, 2, 2, 100, 1e-7, 0.01, None),
        ("cifar10", 10): (30, 2, 20, 100, 1e-5, 0.001, None),
        ("cifar10", 50): (30, 2, 40, 1000, 1e-5, 0.001, None),
        ("cifar100", 1): (20, 3, 20, 1000, 1e-5, 0.01, None),
        ("cifar100", 10): (20, 2, 20, 1000, 1e-5, 0.01, None),
        ("cifar100", 50): (80, 2, 40, 1000, 1e-5, 0.01, 125),
        ("tiny", 1): (10, 2, 10, 1e4, 1e-4, 0.01, None),
        ("tiny", 10): (20, 2, 40, 1e4, 1e-4, 0.01, 200),
        ("tiny", 50): (20, 2, 40, 1e4, 1e-4, 0.01, 300),
        ("imagenet", 1): (20, 2, 10, 1000, 1e-6, 0.01, None),
    }
    assert {(name, ipc) for name, by_ipc in MTT_PRESETS.items() for ipc in by_ipc} == set(table)
    for (name, ipc), expected in table.items():
        own = load_recipe("reef", ["method=mtt", f"mtt.preset={name}", f"ipc={ipc}", "mtt.experts=x"]).of_method
        found = own.steps, own.epochs, own.start, own.lr, own.rate_lr, own.rate, own.batch
        assert found == expected, (name, ipc)
        assert (own.iterations, own.momentum) == (5000, 0.5)


def test_on_reef_from_experts_to_a_student_by_the_command_line(tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200"})
        assert result.exit_code == 0, result.stderr
        return result.stdout

    out, trained = tmp_path / "out", tmp_path / "experts"
    train = ("experts", "reef", "--out", trained, "experts=1", "epochs=3", "size=16", "depth=2", "width=8", "batch=20")
    said = run(*train, "--dry-run")
    assert "1 of 3 epochs" in said and "at 16 px" in said and not trained.exists()
    assert json.loads(run(*train, "--dry-run", "--json"))["lacking"] == 1
    said = run(*train)
    assert "1 expert, ConvNets of depth 2 and width 8 at 16 px, 3 epochs" in said
    settings = ["method=mtt", "ipc=1", f"mtt.experts={trained}", "mtt.iterations=60", "mtt.steps=4", "mtt.start=2"]
    settings += ["mtt.epochs=1", "mtt.rate=0.02", "mtt.rate_lr=1e-6", "mtt.lr=20", "mtt.dsa="]
    run("distill", "reef", *settings, "--out", out, "-q")
    losses = [loss for _, loss in json.loads((out / "results.json").read_text())["descent"]["loss"]]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10]) and max(losses[-10:]) < 1
    quick = ("--test", "reef-test", "student=convnet-2", "width=8", "workers=1", "epochs=2", "protocol=dc", "seeds=1")
    run("evaluate", out, *quick, "-q")
    [cell] = json.loads((out / "evaluation.json").read_text())["cells"]
    rate = open_tensors(out / "tensors.safetensors").form.rate
    assert rate is not None and cell["changed"]["lr"] == pytest.approx(rate)
