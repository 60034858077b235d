"""Cells: the rows of the table. A seed that is trained twice, or on other images than it says, is a wrong row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_sets import SIDE, Heard, labeller, write_folders

from concord.data import ImageSet, open_data
from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.evaluation import evaluate as module
from concord.evaluation.cells import Cell, compute_of, plan
from concord.evaluation.evaluate import run, train_cell, worker_count
from concord.evaluation.protocols import DC
from concord.evaluation.record import Trial, read_record, write_record
from concord.evaluation.settings import Settings, read_settings
from concord.evaluation.soft_labels import LabelFormat, store_labels
from concord.evaluation.training import HERE, Drawn, train
from concord.models.teachers import Teacher

COUNTS = {"ant": 5, "bee": 5, "cat": 5}
QUICK = ["student=convnet-2", "width=8", f"size={SIDE}", "device=cpu", "dtype=float32", "workers=1", "epochs=2"]
HARD_ONLY = [*QUICK, "protocol=dc"]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sets")


@pytest.fixture(scope="module")
def data(folder: Path) -> ImageSet:
    return open_data(str(write_folders(folder / "small", COUNTS)))


@pytest.fixture(scope="module")
def test(folder: Path) -> ImageSet:
    return open_data(str(write_folders(folder / "real", {"ant": 6, "bee": 5, "cat": 4}, seed=1)))


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher("tiny", labeller(), (0, 1, 2), size=SIDE)


def planned(data: ImageSet, test: ImageSet, *texts: str, teacher: str | None = None) -> tuple[list[Cell], Settings]:
    settings, ways = read_settings(texts)
    return plan(data, test, settings, ways, teacher), settings


def evaluated(
    data: ImageSet, test: ImageSet, *texts: str, record: dict[str, Any] | None = None, teacher: Teacher | None = None
) -> dict[str, Any]:
    cells, settings = planned(data, test, *texts, teacher=teacher.fingerprint if teacher else None)
    return run(cells, settings, record or {}, lambda _: None, teacher)


def values(record: dict[str, Any]) -> dict[Any, Any]:
    """Of each cell what depends neither on the clock nor, by rounding, on the order of seeds."""
    return {
        (cell["student"], cell["protocol"], cell["ipc"]): {
            key: value for key, value in cell.items() if key not in ("seconds", "per_class")
        }
        for cell in record["cells"]
    }


# Planning.


def test_every_student_protocol_and_ipc_is_a_cell(data: ImageSet, test: ImageSet) -> None:
    texts = [*QUICK, "student=conv2,ConvNet-2,convnet-1", "protocol=rded,dc", "ipc=1,3"]
    cells, _ = planned(data, test, *texts, teacher="abc")
    names = [(cell.ipc, cell.look.student, cell.way.protocol.name) for cell in cells]
    students = ("convnet-2", "convnet-1")  # two names of one student are one
    assert names == [(ipc, student, way) for ipc in (1, 3) for student in students for way in ("rded", "dc")]
    for cell in cells:
        assert cell.record["images"] == len(cell.train) == 3 * (cell.ipc or 0)
        assert cell.record["changed"] == {"epochs": 2, "width": 8}
        assert cell.record["epochs"] == cell.epochs == (3 if cell.way.protocol is not cells[0].way.protocol else 2)
        assert cell.record["size"] == cell.look.size == SIDE
    assert len({cell.record["settings"] for cell in cells}) == len(cells)
    assert json.loads(json.dumps([cell.record for cell in cells])) == [cell.record for cell in cells]


def test_hard_shows_every_network_the_same_size_and_crops_from_it(tmp_path: Path) -> None:
    """Minimax's: 224 pixels whatever the network, but not more than there are, and resized before the crop."""
    folder = write_folders(tmp_path / "large", {"ant": 1, "bee": 1}, side=40)
    large = open_data(str(folder))
    texts = ("student=convnet-1,convnet-3", "width=4", "protocol=hard,dc", "epochs=1", "augment.crop=[0.5,1]")
    seen = {
        (c.look.student, c.way.protocol.name): (c.look.size, c.train.side) for c in planned(large, large, *texts)[0]
    }
    for student in ("convnet-1", "convnet-3"):
        assert seen[student, "hard"] == (40, 40) and seen[student, "dc"] == (32, 40)
    seen = {c.way.protocol.name: (c.look.size, c.train.side) for c in planned(large, large, *texts, "size=16")[0]}
    assert seen == {"hard": (16, 16), "dc": (16, 32)}
    [cell, *_] = planned(large, large, *texts, "student_size=24")[0]
    assert cell.look.size == 24 and cell.record["changed"]["student_size"] == 24


def test_an_ipc_is_the_first_images_of_each_class(data: ImageSet, test: ImageSet) -> None:
    """So that sets of more images hold those of fewer, as the field's tables have it."""
    cells, _ = planned(data, test, *HARD_ONLY, "ipc=1,3,5")
    whole = cells[-1].train
    for cell in cells:
        for label in range(3):
            mine, all_ = (one.images[one.labels == label] for one in (cell.train, whole))
            assert torch.equal(mine, all_[: cell.ipc])
    [none] = planned(data, test, *HARD_ONLY)[0]
    assert none.ipc == 5 and none.record == cells[-1].record


def test_a_set_of_uneven_classes_is_taken_whole(test: ImageSet, tmp_path: Path) -> None:
    counts = {"ant": 1, "bee": 3, "cat": 2}
    uneven = open_data(str(write_folders(tmp_path / "uneven", counts)))
    [cell], _ = planned(uneven, test, *HARD_ONLY)
    assert cell.ipc is None and cell.record["ipc"] is None
    assert torch.bincount(cell.train.labels).tolist() == list(counts.values())
    record = evaluated(uneven, test, *HARD_ONLY, "seeds=1")
    again = evaluated(uneven, test, *HARD_ONLY, "seeds=1", record=json.loads(json.dumps(record)))
    assert again == record
    with pytest.raises(ConcordError, match='the class "ant" has 1 images, fewer than ipc=2'):
        planned(uneven, test, *HARD_ONLY, "ipc=2")


def test_a_soft_batch_is_rdeds_and_a_whole_one_is_the_sets(data: ImageSet, test: ImageSet) -> None:
    cells, _ = planned(data, test, *QUICK, "protocol=rded,paper,dc", "ipc=1,5", teacher="abc")
    assert [cell.batch for cell in cells] == [3, 1, 3, 10, 5, 15]
    assert [cell.record["batch"] for cell in cells] == [cell.batch for cell in cells]


@pytest.mark.parametrize(
    ("side", "texts", "kept", "size"),
    [
        (16, [], 16, 16),  # a small set makes small students
        (32, [], 32, 32),
        (48, [], 48, 32),  # crops are taken from the whole square
        (80, [], 64, 32),  # up to twice the side
        (48, ["size=16"], 32, 16),
        (16, ["size=32"], 16, 32),  # asked for
    ],
)
def test_sizes_follow_the_student_and_the_set(
    side: int, texts: Sequence[str], kept: int, size: int, test: ImageSet, tmp_path: Path
) -> None:
    data = open_data(str(write_folders(tmp_path / "data", dict.fromkeys(COUNTS, 1), side=side)))
    [cell], _ = planned(data, test, "student=convnet-3", "width=4", "protocol=dc", *texts)
    assert (cell.train.side, cell.look.size, cell.test.side) == (kept, size, size)
    assert cell.record["size"] == size


def test_norms_and_means_are_the_protocols_unless_asked_for(data: ImageSet, test: ImageSet) -> None:
    cells, _ = planned(data, test, *QUICK, "protocol=rded,dc", teacher="abc")
    forms = [cell.look.build(3, cell.way.protocol, 0).form for cell in cells]  # type: ignore[union-attr]
    assert [form.norm for form in forms] == ["batch", "instance"]
    assert [form.mean for form in forms] == [(0.485, 0.456, 0.406), (0.4914, 0.4822, 0.4465)]
    [cell], _ = planned(data, test, *HARD_ONLY, "norm=none", "pool=max")
    form = cell.look.build(3, cell.way.protocol, 0).form
    assert (form.norm, form.pool) == ("none", "max")  # type: ignore[union-attr]
    assert cell.record["changed"] == {"epochs": 2, "width": 8, "norm": "none", "pool": "max"}
    [cell], _ = planned(data, test, "protocol=dc", "student=resnet-18-modified", "epochs=2")
    cell.look.build(3, cell.way.protocol, 0)  # a resnet has its own norm, whatever the protocol's


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["student=convnet-9"], 'unknown student "convnet-9"'),
        (["student=convnet-2,convnet-6"], "images of 16 pixels are too small for a convnet-6"),
        (["student=convnet-2,resnet-18", "width=8"], "resnet-18 has no choice of width, but width=8 is given"),
        (["norm=group", "width=6"], "a multiple of 4 with norm=group"),
        (["ipc=1,6"], 'the class "ant" has 5 images, fewer than ipc=6'),
        (["protocol=dc,rded"], "rded: soft labels need a teacher, or a directory that holds them: soft_labels="),
        (["protocol=rded", "soft_labels=nowhere"], r"nowhere holds no soft labels: expected labels\.json"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(
    texts: list[str], says: str, data: ImageSet, test: ImageSet
) -> None:
    with pytest.raises(ConcordError, match=says):
        planned(data, test, *HARD_ONLY, *texts)


def test_batch_norm_over_one_pixel_of_one_image_is_refused(data: ImageSet, test: ImageSet) -> None:
    """The paper's batch is the IPC: at IPC 1 a resnet-18 on small images has nothing to take a deviation of."""
    texts = ["student=resnet-18", "protocol=paper", "ipc=1", "device=cpu"]
    with pytest.raises(ConcordError, match="resnet-18 at 16 px cannot be trained on one image alone") as error:
        planned(data, test, *texts, teacher="abc")
    assert "give another batch=, or a larger size=" in str(error.value)
    assert planned(data, test, *texts, "batch=3", teacher="abc")[0]
    with pytest.raises(ConcordError, match="15 images in batches of 7 come to one"):
        planned(data, test, *texts, "ipc=5", "batch=7", teacher="abc")


def test_what_decides_an_accuracy_decides_the_settings(data: ImageSet, test: ImageSet, tmp_path: Path) -> None:
    """Or a cell would be taken for finished that was trained on something else."""

    def settings_of(data: ImageSet, test: ImageSet, *texts: str, teacher: str | None = "abc") -> str:
        return str(planned(data, test, *QUICK, *texts, teacher=teacher)[0][0].record["settings"])

    first = settings_of(data, test)
    assert settings_of(data, test) == first
    assert settings_of(data, test, "seeds=9", "workers=2") == first
    other = open_data(str(write_folders(tmp_path / "other", COUNTS, seed=3)))
    found = {
        settings_of(other, test),
        settings_of(data, other),
        settings_of(data, test, teacher="def"),
        settings_of(data, test, "lr=0.1"),
        settings_of(data, test, "size=8"),
        settings_of(data, test, "norm=instance"),
    }
    assert len(found | {first}) == 7
    hard = settings_of(data, test, "protocol=dc")
    assert settings_of(data, test, "protocol=dc", teacher="def") == hard  # hard labels have no teacher


# Running.


def test_a_seed_is_the_training_it_says(data: ImageSet, test: ImageSet) -> None:
    [cell], settings = planned(data, test, *HARD_ONLY, "seeds=4,0", "lr=0.05")
    record = run([cell], settings, {}, lambda _: None)
    [found] = record["cells"]
    assert found["seeds"] == [0, 4]
    confusion = torch.zeros(3, 3, dtype=torch.int64)
    protocol = cell.way.protocol
    for seed, value in zip(found["seeds"], found["top1"]["last"]["values"], strict=True):
        net = cell.look.build(3, protocol, seed)
        drawn = Drawn(protocol, 15, SIDE, SIDE, 15, seed)
        course = train(net, cell.train, drawn, protocol, 3, SIDE, test=cell.test, seed=seed)
        assert value == pytest.approx(course.last, abs=1e-4)
        assert course.predictions is not None
        for true, said in zip(cell.test.labels.tolist(), course.predictions.tolist(), strict=True):
            confusion[true, said] += 1
    assert found["confusion"] == confusion.tolist()
    assert sum(map(sum, found["confusion"])) == 2 * 15
    assert found["per_class"] == pytest.approx((100 * confusion.diag() / confusion.sum(1)).tolist(), abs=0.01)


@pytest.mark.parametrize("where", ["told", "before it is written", "after it is written"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_killed_anywhere_no_seed_is_trained_twice(
    where: str, stop: int, data: ImageSet, test: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*HARD_ONLY, "seeds=2", "ipc=1,2"]
    whole = evaluated(data, test, *texts)
    path, counted = tmp_path / "evaluation.json", [0]
    trained: list[tuple[int | None, int]] = []

    def counting(unit: Any) -> tuple[str, Trial]:
        trained.append((unit.cell.ipc, unit.seed))
        return train_cell(unit)

    monkeypatch.setattr(module, "train_cell", counting)

    def step(kind: str) -> None:
        counted[0] += kind == where
        if counted[0] == stop:
            counted[0] = 99
            raise Killed

    def save(record: dict[str, Any]) -> None:
        step("before it is written")
        write_record(path, record)
        step("after it is written")

    cells, settings = planned(data, test, *texts)
    with pytest.raises(Killed):
        run(cells, settings, read_record(path), save, progress=Heard(lambda done: step("told")))
    kept = stop - 1 if where == "before it is written" else stop
    assert sum(len(cell["seeds"]) for cell in read_record(path).get("cells", [])) == kept
    record = run(cells, settings, read_record(path), save)
    assert values(record) == values(whole) == values(read_record(path))
    everything = [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert sorted(set(trained)) == everything
    lost = [everything[stop - 1]] if where == "before it is written" else []
    assert sorted(trained) == sorted([*everything, *lost])


def test_more_seeds_are_added_to_those_that_are_there(data: ImageSet, test: ImageSet) -> None:
    first = evaluated(data, test, *HARD_ONLY, "seeds=1,4")
    heard = Heard()
    cells, settings = planned(data, test, *HARD_ONLY, "seeds=5")
    more = run(cells, settings, first, lambda _: None, progress=heard)
    assert [fact["seed"] for fact in heard.facts] == [0, 2, 3]
    assert values(more) == values(evaluated(data, test, *HARD_ONLY, "seeds=5"))
    fewer = evaluated(data, test, *HARD_ONLY, "seeds=1", record=more)
    assert fewer == more  # what is there stays


def test_other_images_replace_a_cell_and_leave_the_others(data: ImageSet, test: ImageSet, tmp_path: Path) -> None:
    record = evaluated(data, test, *HARD_ONLY, "seeds=2", "ipc=1,5")
    other = open_data(str(write_folders(tmp_path / "other", COUNTS, seed=3)))
    found = evaluated(other, test, *HARD_ONLY, "seeds=0,7", "ipc=1", record=record)
    assert [cell["ipc"] for cell in found["cells"]] == [1, 5]
    assert [cell["seeds"] for cell in found["cells"]] == [[0, 7], [0, 1]]
    assert found["cells"][1] == record["cells"][1]
    changed = evaluated(data, test, *HARD_ONLY, "ipc=1", "lr=0.1", "seeds=1", record=record)
    assert [cell["changed"].get("lr") for cell in changed["cells"]] == [None, None, 0.1]  # a row of its own


def test_soft_labels_online_and_stored_are_the_same_accuracy(
    data: ImageSet, test: ImageSet, teacher: Teacher, tmp_path: Path
) -> None:
    [cell], settings = planned(data, test, *QUICK, "seeds=2", teacher=teacher.fingerprint)
    online = run([cell], settings, {}, lambda _: None, teacher)
    facts = {
        **{key: cell.record[key] for key in ("images", "size", "epochs", "batch")},
        "seed": 1,
        "teacher": teacher.fingerprint,
        "classes": list(COUNTS),
    }
    drawn = Drawn(cell.way.protocol, 15, SIDE, SIDE, cell.batch, 1)
    store_labels(tmp_path / "a", cell.train, drawn, teacher.logits, cell.way.protocol, facts, LabelFormat())
    stored = evaluated(data, test, *QUICK, "seeds=1,4", f"soft_labels={tmp_path / 'a'}")
    one, other = online["cells"][0], stored["cells"][0]
    assert other["top1"]["last"]["values"][0] == one["top1"]["last"]["values"][1]
    assert one["settings"] != other["settings"]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = evaluated(data, test, *QUICK, "seeds=1,4", f"soft_labels={tmp_path / 'b'}", record=stored)
    assert moved == stored
    with pytest.raises(ConcordError, match="size=16, not 8"):
        planned(data, test, *QUICK, "size=8", f"soft_labels={tmp_path / 'b'}")


def test_processes_train_what_one_does(
    data: ImageSet, test: ImageSet, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thread each, as here, to the last bit; and how far they are is counted over all of them."""
    monkeypatch.setattr(module, "cores", lambda: 2)
    found = []
    for workers in (1, 2):
        heard = Heard()
        texts = [*QUICK, "protocol=rded,dc", "seeds=2", "ipc=2", f"workers={workers}"]
        cells, settings = planned(data, test, *texts, teacher=teacher.fingerprint)
        record = run(cells, settings, {}, lambda _: None, teacher, heard)
        found.append(values(record))
        total, seen = heard.watched
        assert total == seen() == 2 * 6 * (2 + 3)  # seeds, images, epochs of either
    assert found[0] == found[1]


def test_without_room_to_share_images_one_training_follows_the_other(
    data: ImageSet, test: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    cells, settings = planned(data, test, *QUICK, "protocol=dc", "seeds=2", "ipc=2")
    alone = run(cells, settings, {}, lambda _: None)
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    heard = Heard()
    cells, settings = planned(data, test, *QUICK, "protocol=dc", "seeds=2", "ipc=2", "workers=2")
    assert values(run(cells, settings, {}, lambda _: None, progress=heard)) == values(alone)
    assert any("/dev/shm" in note and "--shm-size" in note for note in heard.notes)


def test_as_many_processes_as_cores_train_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)
    auto, three = Settings(device="cpu"), Settings(device="cpu", workers=3)
    assert [worker_count(auto, units, HERE) for units in (0, 1, 3, 9)] == [1, 1, 3, 4]
    assert [worker_count(three, units, HERE) for units in (0, 1, 9)] == [1, 1, 3]
    assert compute_of(auto).device == "cpu" and compute_of(auto).dtype == torch.float32
    assert compute_of(Settings(device="cpu", dtype="bfloat16")).dtype == torch.bfloat16


def test_first_weights_follow_the_seed_alone(data: ImageSet, test: ImageSet) -> None:
    [cell], _ = planned(data, test, *HARD_ONLY)
    state = torch.get_rng_state()
    one = cell.look.build(3, DC, 5).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    again, other = (cell.look.build(3, DC, seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["net.classifier.weight"], other["net.classifier.weight"])
    assert isinstance(cell.train, TensorSet)
