"""The comparison with RDED's own loop: what it trains, in which order, what it makes of it, and what it puts around a
checkout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import rded_parity
import torch
from evaluation_clock import folder
from rded_checkout import Checkout
from scipy.stats import ks_2samp, ttest_ind, ttest_rel

from concord.models.networks import ConvNet
from concord.models.students import build_student
from concord.reef.dataset import real_set

NAMES = ("ours", "rded", "plain")
FIRST, SECOND = [30.0, 31.5, 29.0, 33.0, 32.0], [29.5, 30.0, 30.5, 31.0, 28.0]
ARGUMENT = """
import argparse
parser = argparse.ArgumentParser()
for name in ("subset", "arch-name", "stud-name"):
    parser.add_argument(f"--{name}")
for name in ("ipc", "re-epochs"):
    parser.add_argument(f"--{name}", type=int)
args = parser.parse_args()
args.syn_data_path, args.val_dir = "exp/set", f"data/{args.subset}/val"
import os
os.makedirs("exp")
"""
UTILS = """
import torch
from concord.models.networks import ConvNet as Net
def ConvNet(num_classes, net_width):
    return Net(3, num_classes, 32, width=net_width)
def load_model(pretrained):
    model = ConvNet(num_classes=10, net_width=128)
    if pretrained:
        model.load_state_dict(torch.load("data/pretrain_models/cifar10_conv3.pth")["model"])
    return model
"""
MAIN = """
import os
import numpy
from synthesize.utils import load_model
seen = {}
def validate(model, args, epoch):
    return 10.0 * epoch + args.seed
def main(args):
    teacher, student = load_model(pretrained=True).cuda(), load_model(pretrained=False).cuda()
    print("a line that nobody asked for")
    seen.update(teacher=teacher, student=student, draw=numpy.random.rand(), tests=args.val_ipc, ipc=args.ipc)
    seen.update(train=sorted(os.listdir(args.syn_data_path)), test=sorted(os.listdir(args.val_dir)))
    for epoch in range(args.re_epochs):
        validate(student, args, epoch)
"""


def test_loops_take_turns_and_no_seed_is_trained_twice(tmp_path: Path) -> None:
    called: list[tuple[str, int]] = []
    made = {name: lambda seed, name=name: called.append((name, seed)) or [40.0, 30.0 + seed] for name in ("a", "b")}
    there = rded_parity.trained(made, range(3), 2, tmp_path)  # another process has the first two
    assert called == [("a", 2), ("b", 2)] and list(there) == [2]
    trials = rded_parity.trained(made, range(3), 0, tmp_path)
    assert called[2:] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [trials[seed]["b"]["last"] for seed in range(3)] == [30, 31, 32] and trials[0]["a"]["best"] == 40
    (tmp_path / "b-001.json").unlink()
    assert list(rded_parity.trained(made, range(3), 3, tmp_path)) == [0, 2]  # of seed 1 a loop is not there


def test_a_difference_is_first_less_second_by_seed_and_as_samples() -> None:
    found = rded_parity.compared(FIRST, SECOND)
    own, welch = ttest_rel(FIRST, SECOND), ttest_ind(FIRST, SECOND, equal_var=False)
    assert found["paired"]["mean"] == pytest.approx(np.mean(FIRST) - np.mean(SECOND)) == found["unpaired"]["mean"]
    assert found["paired"]["ci95"] == pytest.approx(own.confidence_interval())
    assert found["unpaired"]["ci95"] == pytest.approx(welch.confidence_interval())
    assert found["unpaired"]["p"] == pytest.approx(welch.pvalue)
    assert found["distributions_p"] == pytest.approx(ks_2samp(FIRST, SECOND).pvalue)


def test_every_two_loops_are_compared_in_both_accuracies() -> None:
    rows = {
        seed: {
            name: {"best": x, "last": x - k, "seconds": 2.0}
            for k, (name, x) in enumerate(zip(NAMES, best, strict=True))
        }
        for seed, best in enumerate(zip(FIRST, SECOND, SECOND, strict=True))
    }
    found = rded_parity.collected(rows)
    assert list(found["differences"]) == ["ours less rded", "ours less plain", "rded less plain"]
    assert found["differences"]["ours less plain"]["best"]["paired"]["mean"] == pytest.approx(1.3)
    assert found["differences"]["ours less plain"]["last"]["paired"]["mean"] == pytest.approx(3.3)
    assert found["top1"]["rded"]["best"]["values"] == SECOND
    assert found["seconds"] == {"ours": 2, "rded": 2, "plain": 2} and found["seeds"] == [0, 1, 2, 3, 4]


def test_trainings_with_other_settings_are_not_mixed(tmp_path: Path) -> None:
    settings = {"schema": 1, "ipc": 1, "width": 64, "epochs": 300, "tests": 100, "real": 500, "teacher_epochs": 20}
    (tmp_path / "cell.json").write_text(json.dumps(settings))
    with pytest.raises(SystemExit, match="other settings"):
        rded_parity.main(["--width", "32", "--work", str(tmp_path)])


def test_a_checkout_is_run_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a tree with the names that RDED's has: the width, the seed, the places and the accuracies reach it."""
    root, places = tmp_path / "RDED", [folder(real_set(n), 32, tmp_path / str(n)) for n in (1, 2)]
    for name, text in {"argument": ARGUMENT, "synthesize/utils": UTILS, "validation/main": MAIN}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.py").write_text(text)
    before, path, here, cuda = set(sys.modules), list(sys.path), Path.cwd(), torch.Tensor.cuda
    teacher = ConvNet(3, 10, 32, width=8)
    try:
        rded = Checkout(root, tmp_path / "work", *places, teacher, width=8, ipc=1, tests=2, epochs=3)
        assert rded(4) == [4, 14, 24]
        assert rded(5) == [5, 15, 25]
        seen = sys.modules["validation.main"].seen  # type: ignore[attr-defined]
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in ("argument", "synthesize", "validation"):
                del sys.modules[name]
    torch.manual_seed(5)
    same = build_student("convnet-3", 10, 32, width=8).net.state_dict()
    for net, expected in ((seen["student"], same), (seen["teacher"], teacher.state_dict())):
        assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    assert (seen["tests"], seen["ipc"], seen["draw"]) == (2, 1, np.random.RandomState(5).rand())
    assert seen["train"] == seen["test"] == [f"{label:05d}" for label in range(10)]
    assert (Path.cwd(), torch.Tensor.cuda, capsys.readouterr().out) == (here, cuda, "")


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no checkout"):
        Checkout(tmp_path, tmp_path, tmp_path, tmp_path, torch.nn.Identity(), 8, 1, 1, 1)
