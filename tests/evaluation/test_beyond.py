"""What an evaluation says beside accuracy: the right accuracies beside each other, in the space that is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from commanding import CLASSES, HARD, NET, colour_teacher, record, refused, sets, succeed
from small_sets import small_set, write_folders
from torchvision.transforms import functional as TF

from concord.data import open_data
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.evaluation import evaluate as evaluating
from concord.evaluation import evaluate as trials
from concord.evaluation.beyond import coverage, ranking
from concord.metrics.neighbours import neighbour_scores
from concord.models.teachers import load_teacher


def cell(protocol: str, top1: float, ipc: int | None = 10, **values: Any) -> dict[str, Any]:
    found = {"student": "convnet-3", "protocol": protocol, "ipc": ipc, "reports": "best", "changed": {}, "size": 32}
    return found | {"top1": {"best": {"mean": top1}, "last": {"mean": -1.0}}} | values


def score(points: float) -> float:
    """DD-Ranking's map of a weighted sum of differences, in points."""
    return 100 * (math.exp(points / 100) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


def test_both_scores_are_of_accuracies_under_the_same_protocol() -> None:
    made = [cell("rded", 40), cell("hard", 25), cell("plain", 30)]
    random = [cell("rded", 34), cell("plain", 28), cell("hard", 1, ipc=50)]
    full = [cell("hard", 85, ipc=None)]
    [found] = ranking(made, random, full)
    assert (found["student"], found["ipc"]) == ("convnet-3", 10)
    assert (found["lrs"]["hlr"], found["lrs"]["ior"]) == (60, 6)
    assert found["lrs"]["score"] == pytest.approx(score(0.5 * 6 - 0.5 * 60))
    assert (found["ars"]["augmented"], found["ars"]["plain"]) == (6, 2)
    assert found["ars"]["score"] == pytest.approx(score(0.5 * 6 + 0.5 * 2))


def test_soft_labels_are_never_set_against_hard_ones() -> None:
    """A set with soft labels is better than random images without for its teacher's sake, not for its own."""
    made = [cell("rded", 40), cell("hard", 25)]
    [found] = ranking(made, [cell("hard", 20)], [cell("hard", 85, ipc=None)])
    assert found["lrs"]["ior"] == 5
    [found] = ranking([*made, cell("dc", 24)], [cell("rded", 30)], [cell("dc", 84, ipc=None)])
    assert (found["lrs"]["hlr"], found["lrs"]["ior"]) == (60, 10)


@pytest.mark.parametrize(
    "other",
    [{"changed": {"epochs": 2}}, {"size": 64}, {"student": "convnet-4"}, {"ipc": 50}, {"teacher": "another"}],
)
def test_accuracies_of_other_settings_are_not_compared(other: dict[str, Any]) -> None:
    made, full = [cell("rded", 40), cell("hard", 25)], [cell("hard", 85, ipc=None)]
    with pytest.raises(ConcordError, match="DD-Ranking's scores lack accuracies"):
        ranking(made, [cell("rded", 30, **other)], full)
    [found] = ranking(made, [cell("rded", 30, **other), cell("rded", 38)], full)
    assert found["lrs"]["ior"] == 2


def test_one_score_is_given_where_the_other_lacks() -> None:
    [found] = ranking([cell("rded", 40), cell("plain", 30)], [cell("rded", 34), cell("plain", 28)], [])
    assert found["lrs"] is None and found["ars"]["plain"] == 2


def test_coverage_is_counted_in_the_pixels_that_it_names() -> None:
    made, real = small_set(12), small_set(60, seed=1)
    found = coverage(made, real, None)
    assert found["space"] == "pixels at 32 px"
    points = [TF.resize(of.images / 255, [32, 32], antialias=True).flatten(1) for of in (made, real)]
    expected = neighbour_scores(*points)
    for name, value in expected.items():
        assert found["all"][name] == pytest.approx(value), name


def test_coverage_is_counted_in_what_the_teacher_has_before_its_last_layer(tmp_path: Path) -> None:
    made, real = small_set(12), small_set(60, seed=1)
    folder = write_folders(tmp_path / "d", {"ash": 1, "birch": 1, "cedar": 1})
    teacher = load_teacher(str(colour_teacher(tmp_path / "t.safetensors")), open_data(str(folder)).classes)
    found = coverage(made, real, teacher)
    assert found["space"] == "teacher t.safetensors, before its last layer"
    net = teacher.network.net
    seen = []
    with torch.no_grad():
        for of in (made, real):
            normal = (of.images / 255 - teacher.network.mean) / teacher.network.std
            conv = net.get_submodule("layers.conv.0")
            seen.append(torch.nn.functional.avg_pool2d(torch.relu(conv(normal)), 2).flatten(1))
    expected = neighbour_scores(*seen)
    for name, value in expected.items():
        assert found["all"][name] == pytest.approx(value), name


def test_a_set_that_is_the_real_one_covers_it() -> None:
    real = small_set(60)
    assert {coverage(real, real, None)["all"][name] for name in ("precision", "recall", "density", "coverage")} == {1.0}
    white = TensorSet(torch.full_like(real.images, 255), real.labels)
    assert coverage(white, real, None)["all"]["coverage"] == 0


def test_of_a_whole_data_set_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("concord.evaluation.beyond.MOST", 20)
    found = coverage(small_set(60), small_set(30, seed=1), None)
    assert found["all"]["made"] == 20
    assert all(6 <= scores["made"] <= 7 for scores in found["classes"]), "evenly over the classes"
    assert found["notes"] == ["Of the 60 images of the set, 20 were taken, evenly spaced."]


# From the command line


def test_dd_rankings_scores_are_read_from_three_evaluations(tmp_path: Path) -> None:
    train, test = sets(tmp_path, images=2)
    random, full = (
        write_folders(tmp_path / name, dict.fromkeys(CLASSES, count), seed=5)
        for name, count in (("random", 2), ("full", 6))
    )
    teacher = f"teacher={colour_teacher(tmp_path / 't.safetensors')}"
    common = (*NET, "seeds=1", "epochs=2", "-q", "--test", test)
    succeed("evaluate", random, *common, "protocol=rded,plain", teacher)
    succeed("evaluate", full, *common, "protocol=hard")
    last = ("evaluate", train, *common, "protocol=rded,hard,plain", teacher, "--random", random, "--full", full)
    succeed(*last)
    said, _ = succeed(*(word for word in last if word != "-q"))
    of = {
        (place.name, c["protocol"]): c["top1"][c["reports"]]["mean"]
        for place in (train, random, full)
        for c in record(place)["cells"]
    }
    [found] = record(train)["ranking"]
    assert found["lrs"]["hlr"] == pytest.approx(of["full", "hard"] - of["train", "hard"])
    assert found["lrs"]["ior"] == pytest.approx(of["train", "rded"] - of["random", "rded"])
    assert found["ars"]["plain"] == pytest.approx(of["train", "plain"] - of["random", "plain"])
    assert found["ars"]["augmented"] == found["lrs"]["ior"]
    scores = [f"{found[key]['score']:.1f}" for key in ("lrs", "ars")]
    assert ["convnet-1", "2", "own", "rates", *scores] in [line.split() for line in said.splitlines()]
    assert "not those of DD-Ranking's leaderboard" in said


def test_what_lacks_for_the_scores_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = sets(tmp_path)
    random, other = sets(tmp_path / "r", tests=5)
    succeed("evaluate", random, "--test", test, *HARD, "-q")
    monkeypatch.setattr(trials, "train_cell", None)
    command = ("evaluate", train, *HARD, "-q", "--random", random, "--test")
    said = refused(*command, test)
    assert "for the label-robust score evaluate the set with protocol=rded,hard" in said
    (other / "ash" / "more.png").write_bytes((test / "ash" / "000.png").read_bytes())
    assert "r/train was evaluated on other test images" in refused(*command, other)
    assert not (train / "evaluation.json").exists()


def test_coverage_is_counted_once_and_again_when_the_set_grew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = sets(tmp_path)
    really, counted = evaluating.coverage, []

    def count(small: TensorSet, *rest: Any) -> dict[str, Any]:
        counted.append(len(small))
        return really(small, *rest)

    monkeypatch.setattr(evaluating, "coverage", count)
    for ipc in ("1", "1", "1,4", "4"):
        succeed("evaluate", train, "--test", test, *HARD, f"ipc={ipc}", "-q")
    assert counted == [3, 12]
