"""A cluster of three nodes on this machine: what dies there costs its batches only, and the set does not tell."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from noisy_run import left, noisy_run
from PIL import Image
from toy import tree
from typer.testing import CliRunner

import concord
from concord.cli.commands import app
from concord.data import index
from concord.errors import ConcordError
from concord.evaluation.settings import read_settings
from concord.events import Silent
from concord.plan import Batch, Sample
from concord.recipe import Recipe, validate
from concord.storage.cluster import connected
from concord.workflows import executors
from concord.workflows.distill import distill
from concord.workflows.evaluate import evaluate_sets
from concord.workflows.teachers import teach_all, trainings

ray = pytest.importorskip("ray", reason="needs the extra cluster")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head that makes nothing, and two nodes of one core."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster, [cluster.add_node(num_cpus=1, wait=False) for _ in range(2)]
    cluster.shutdown()


def many_photos(folder: Path) -> Recipe:
    """A choice of 160 of as many images: no torch, so that workers start at once."""
    for name in ("ash", "birch"):
        (folder / name).mkdir(parents=True)
        for i in range(80):
            Image.new("RGB", (8, 8), (i, 2 * i, len(name))).save(folder / name / f"{i}.png")
    # Large ones, so that many are not made yet when the node is gone.
    return validate({"method": "random", "data": str(folder), "ipc": 80, "size": 512})


class Kills(Silent):
    """Takes a node away when so many images are stored."""

    def __init__(self, cluster: Any, node: Any) -> None:
        self.cluster, self.node, self.notes = cluster, node, list[str]()

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        if self.node is not None:
            node, self.node = self.node, None
            self.cluster.remove_node(node, allow_graceful=False)
            # Its workers go on until the cluster has seen it; until then nothing is stored, and so little is dealt.
            for _ in range(600):
                if sum(one["Alive"] for one in ray.nodes()) == 2:
                    break
                time.sleep(0.1)


def test_a_node_that_dies_costs_its_batches_only(nodes: Any, tmp_path: Path) -> None:
    recipe = many_photos(tmp_path / "photos")
    distill(recipe, tmp_path / "alone")
    cluster, (node, _) = nodes
    for turn in range(5):  # on a busy machine the other worker may not have begun when its node goes
        kills = Kills(cluster, node)
        with connected(cluster.address) as mine:
            results = distill(recipe, tmp_path / f"cluster-{turn}", kills, cluster=mine)
        assert results["made"] == 160
        assert tree(tmp_path / f"cluster-{turn}") == tree(tmp_path / "alone")
        assert "2 workers on 3 nodes of the cluster, device cpu" in kills.notes
        if told := any("a worker ended" in note and "dealt again" in note for note in kills.notes):
            break
        node = cluster.add_node(num_cpus=1)
    assert told, kills.notes

    # On what is left of it: a node that finds other images under the same path is told, and nothing is made of them.
    other = validate({"method": "random", "data": str(tmp_path / "photos"), "ipc": 1})
    with connected(cluster.address) as mine, pytest.raises(ConcordError, match=r"on the node .* bytes would differ"):
        distill(other, tmp_path / "other", Moves(tmp_path / "photos"), cluster=mine)


def test_trainings_on_nodes_give_the_figures_of_this_process(nodes: Any, tmp_path: Path) -> None:
    many_photos(tmp_path / "photos")
    chosen = ["student=convnet-1", "width=4", "size=8", "device=cpu", "epochs=2", "seeds=2", "protocol=hard", "ipc=2,8"]
    settings = read_settings([*chosen, "dtype=float32", "workers=1"])
    sets = [tmp_path / "photos"]
    with connected(nodes[0].address) as mine:
        found = evaluate_sets(sets, str(tmp_path / "photos"), settings, tmp_path / "nodes.json", Silent(), cluster=mine)
    expected = evaluate_sets(sets, str(tmp_path / "photos"), settings, tmp_path / "here.json", Silent())
    for record in (found, expected):
        for cell in record["cells"]:
            assert len(cell["seeds"]) == 2
            cell.pop("seconds")
    assert found == expected


def test_the_front_door_goes_to_a_cluster_by_its_address(nodes: Any, tmp_path: Path) -> None:
    recipe = many_photos(tmp_path / "photos").model_copy(update={"ipc": 2, "size": 16})
    run = concord.distill(recipe, tmp_path / "nodes", cluster=nodes[0].address)
    assert len(run.samples()) == 4
    distill(recipe, tmp_path / "alone")
    assert tree(run.out) == tree(tmp_path / "alone")
    chosen: dict[str, Any] = {"student": "convnet-1", "width": 4, "size": 8, "epochs": 1, "seeds": 1, "ipc": 2}
    chosen |= {"protocol": "hard", "device": "cpu", "dtype": "float32"}
    scores = concord.evaluate(run, str(tmp_path / "photos"), cluster=nodes[0].address, **chosen)
    assert [cell["ipc"] for cell in scores.record["cells"]] == [2]


def test_classes_are_measured_on_nodes_as_here(nodes: Any, tmp_path: Path) -> None:
    recipe, out = noisy_run(tmp_path, {"kind": "percentile", "model": "reef:clip-2"}), tmp_path / "run"
    notes: list[str] = []
    with connected(nodes[0].address) as mine:
        many = executors.team(mine, recipe)
        found = left(many.recipe, out, many.engine(executors.open_recipe_data(recipe), notes.append))
    assert found == left(recipe, out)
    assert notes and "of the cluster, device cpu" in notes[0]


def test_teachers_are_trained_on_nodes(nodes: Any, tmp_path: Path) -> None:
    many_photos(tmp_path / "photos")
    quick = ["student=convnet-1", "width=4", "size=8", "epochs=1", "device=cpu", "dtype=float32"]
    swept = trainings([*quick, "seed=0,1"])
    with connected(nodes[0].address) as mine:
        there = teach_all(str(tmp_path / "photos"), None, swept, tmp_path / "nodes", cluster=mine)
    here = teach_all(str(tmp_path / "photos"), None, swept, tmp_path / "here", workers=1)
    assert [Path(one.file).read_bytes() for one in there] == [Path(one.file).read_bytes() for one in here]


def test_concepts_are_selected_on_nodes_as_here(nodes: Any) -> None:
    words = ["concepts", "select", "reef", "reef", "--encoder", "reef:clip", "--classes", "coral perch,river perch"]
    words += ["--images", "4", "--pin", "coral perch=a small hat", "--json"]
    there = CliRunner().invoke(app, [*words, "--cluster", nodes[0].address])
    assert there.exit_code == 0, there.output
    here = CliRunner().invoke(app, words)
    assert json.loads(there.stdout) == json.loads(here.stdout)
    assert len(json.loads(there.stdout)["classes"]) == 2


def test_a_table_is_reproduced_on_nodes_as_here(nodes: Any, tmp_path: Path) -> None:
    many_photos(tmp_path / "photos")
    data = [f"{key}={tmp_path / 'photos'}" for key in ("data", "test")]
    quick = ["students.resnet18=convnet-1 width=4 size=8", "protocol=hard", "epochs=1", "draws=2", "ipc=1,10"]
    words = ["reproduce", "table-3", "--on", "photos", *data, *quick, "evaluation=device=cpu dtype=float32", "--quiet"]
    for where in (["nodes", "--cluster", nodes[0].address], ["here", "--workers", "1"]):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / where[0]), *where[1:]])
        assert done.exit_code == 0, done.output
    there, here = (json.loads((tmp_path / name / "reproduce.json").read_text()) for name in ("nodes", "here"))
    assert there["cells"] == here["cells"]
    assert [len(cell["values"]) for cell in here["cells"] if cell["row"] == "Random"] == [2, 2]


def test_a_worker_of_a_node_takes_the_look_that_the_driver_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = many_photos(tmp_path / "photos")
    for folder in (tmp_path / "photos", *(tmp_path / "photos").iterdir()):
        os.utime(folder, (10**9, 10**9))
    monkeypatch.setattr(index, "LARGE", 1)
    data = executors.open_recipe_data(recipe)
    index.keep(data, tmp_path / "look")

    def looks(*_: Any, **__: Any) -> None:
        raise AssertionError("the folder is looked at again")

    with monkeypatch.context() as patched:
        patched.setattr(index, "open_data", looks)
        patched.setattr(executors, "_worker", None)
        facts = executors.facts_of(recipe, data)
        executors._start(0, recipe, "cpu", facts, (tmp_path / "look").read_bytes())
        made = executors._work(executors.Job("images", Batch("", 0, (Sample(0, 0, 1, source="ash/3.png"),)), ()))
        assert made == []
        (tmp_path / "photos" / "ash" / "3.png").unlink()
        with pytest.raises(AssertionError, match="looked at again"):
            executors._start(0, recipe, "cpu", facts, (tmp_path / "look").read_bytes())


class Moves(Silent):
    """Changes the real images once the driver has read them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def note(self, text: str) -> None:
        (self.folder / "ash" / "0.png").rename(self.folder / "ash" / "one more.png")


def test_a_cluster_that_is_not_there_is_told() -> None:
    with (
        pytest.raises(ConcordError, match=r"no Ray cluster answers at nowhere.*ray start"),
        connected("nowhere"),
    ):
        pass
