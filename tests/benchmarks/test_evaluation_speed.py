"""The evaluator against a plain loop: were the two not the same training, their times could not be compared.

The loop shares the networks with the package and nothing else, so that it checks the protocol as well: what one step
makes of a student, given the same drawn view.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import evaluation_choices
import evaluation_speed
import plain_evaluation as plain
import pytest
import torch
from evaluation_clock import Case, folder, network
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as TF

from concord.data import open_data
from concord.data.tensors import TensorSet, for_testing, for_training, load
from concord.evaluation.protocols import protocol
from concord.evaluation.training import Batch, Drawn, Trainer, keep_freed
from concord.models.students import Student
from concord.reef.dataset import real_set

SIDE, SIZE = 20, 16  # a stored image is larger than the student's, and neither divides by 3


def photographs() -> TensorSet:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return TensorSet(images, torch.arange(10))


def seen(image: Tensor, batch: Batch, place: int) -> Tensor:
    """One image of a batch through PIL and torchvision, with what was drawn for it, as the plain loop's transforms."""
    view = {name: value[place].tolist() for name, value in batch.view.items()}
    pixels = TF.to_tensor(Image.fromarray(image.permute(1, 2, 0).numpy()))
    pixels = plain.shuffled(pixels, view["columns"], view["rows"])
    pixels = TF.resized_crop(pixels, *view["crop"], [SIZE, SIZE], antialias=True)
    return TF.normalize(TF.hflip(pixels) if view["flip"] else pixels, plain.MEAN, plain.STD)


def same(ours: Student, theirs: torch.nn.Module) -> None:
    """Weights and statistics after a step; the first of AdamW moves each weight by the rate, whatever its gradient.

    Batch norm takes the convolution's bias away again, whose gradient is rounding.
    """
    other = theirs.state_dict()
    for name, value in ours.net.state_dict().items():
        if ours.form.norm != "batch" or not (name.startswith("layers.conv") and name.endswith("bias")):
            apart = (value - other[name]).abs() > 2e-6 + 2e-6 * other[name].abs()
            # A gradient that is all but zero may have either sign.
            assert apart.float().mean() < (0.01 if value.ndim > 1 else 1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_rded_is_the_plain_loops(seed: int) -> None:
    """CutMix in place, two passes in train mode, KL without T^2, decay of matrices alone: each moves some tensor."""
    case = Case("convnet-2", SIZE, "rded", 6, 10, 8)
    data, way, student = photographs(), protocol("rded"), network(case)
    teacher = network(case, seed=1).eval().requires_grad_(False)
    other, other_teacher = copy.deepcopy(student.net), copy.deepcopy(teacher.net)
    batch = next(Drawn(way, len(data), SIDE, SIZE, case.batch, seed).epoch(0))
    ours = Trainer(student, data, way, SIZE, teacher).step(batch)

    images = torch.stack([seen(data.images[i], batch, place) for place, i in enumerate(batch.index.tolist())])
    y1, x1, y2, x2 = batch.mixing["box"].tolist()
    assert 0 < (y2 - y1) * (x2 - x1) < SIZE**2, "another seed: nothing is mixed"
    optimiser, others = plain.optimiser(other, "rded"), batch.mixing["index"].long()
    theirs = plain.rded_step(other, other_teacher, images, optimiser, others, (y1, y2, x1, x2))

    assert theirs > 1e-5  # a loss so small that nothing could differ would prove nothing
    assert float(ours) == pytest.approx(theirs, rel=1e-3)
    same(student, other)


def test_two_steps_of_dc_are_the_plain_loops() -> None:
    """The second has a momentum, and is the whole epoch's last and smaller one."""
    case = Case("convnet-2", SIDE, "dc", 6, 10, 8)
    data, way, student = photographs(), protocol("dc"), network(case)
    other = copy.deepcopy(student.net)
    trainer, optimiser = Trainer(student, data, way, SIDE), plain.optimiser(other, "dc")
    transform = plain.dc_transform(SIDE)
    for batch in Drawn(way, len(data), SIDE, SIDE, case.batch, 0).epoch(0):
        ours = trainer.step(batch)
        images = [transform(Image.fromarray(data.images[i].permute(1, 2, 0).numpy())) for i in batch.index.tolist()]
        theirs = plain.dc_step(other, torch.stack(images), data.labels[batch.index], optimiser)
        assert float(ours) == pytest.approx(theirs, rel=1e-5)
    same(student, other)


def test_both_read_the_same_accuracy(tmp_path: Path) -> None:
    case = Case("convnet-1", SIZE, "rded", 10, 20, 8)
    place = folder(real_set(2), 24, tmp_path)
    held = load(open_data(str(place)), for_testing(SIZE, protocol("rded").test_side(SIZE)))
    student = network(case)
    loop = plain.Loop(student.net, None, "rded", plain.loader(place, "rded", SIZE, 10))
    (images, labels) = next(iter(plain.test_loader(place, "rded", SIZE)))
    torch.testing.assert_close(images * student.std[0] + student.mean[0], held.pixels(slice(None)))
    right = (student.eval()(held.pixels(slice(None))).argmax(1) == held.labels).double().mean()
    assert torch.equal(labels, held.labels)
    assert loop.accuracy(plain.test_loader(place, "rded", SIZE)) == pytest.approx(100 * float(right))


def test_kept_images_are_the_files(tmp_path: Path) -> None:
    place = folder(real_set(1), SIZE, tmp_path)
    data = load(open_data(str(place)), for_training(SIZE))
    kept = plain.Kept(place, TF.to_tensor)
    torch.testing.assert_close(torch.stack([image for image, _ in kept]), data.pixels(slice(None)))


def test_the_record_has_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "speed.json"
    given = ["--tiny", "--rounds", "2", "--seeds", "2", "--workers", "0", "--parts", "steps", "accuracy", "choices"]
    monkeypatch.setattr(sys, "argv", ["evaluation_speed.py", *given, "--out", str(out)])
    threads = torch.get_num_threads()
    try:
        evaluation_speed.main()
    finally:
        torch.set_num_threads(threads)
    record = json.loads(out.read_text())
    assert [row["protocol"] for row in record["steps"]] == ["rded", "dc"]
    for row in record["steps"]:
        speeds = row["images_per_second"]
        assert set(speeds) == {"ours", "floor", "plain", "plain-kept"} == set(row["images_per_second_wall"])
        assert row["overhead"]["low"] <= row["overhead"]["median"] <= row["overhead"]["high"] < 1
        assert row["speed_up"]["plain"]["median"] == pytest.approx(speeds["ours"] / speeds["plain"], rel=1)
    counts = {name: len(row["values"]) for name, row in record["accuracy"]["top1"].items()}
    assert counts == {"ours": 2, "plain": 2, "replayed": 2}
    # On the same views a whole training by the other code: a few test images may fall to the other side by rounding.
    assert record["accuracy"]["replayed_less_ours"] == pytest.approx([0, 0], abs=4)
    low, high = record["accuracy"]["plain_less_ours"]["ci95"]
    assert low <= record["accuracy"]["plain_less_ours"]["mean"] <= high
    assert {row["layout"] for row in record["choices"]["passes"]} == {"contiguous", "channels-last"}
    assert all(row["ms"]["median"] > 0 for row in record["choices"]["passes"])
    assert not any("/" in text for text in (record["machine"], *record["notes"])) and "no GPU" in record["notes"][0]


def test_a_part_that_is_not_asked_for_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "speed.json"
    out.write_text(json.dumps({"load": {"steps": 1.0}, "steps": ["timed earlier"]}))
    monkeypatch.setattr(evaluation_choices, "memory", lambda tiny: ["timed now"])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(sys, "argv", ["evaluation_speed.py", "--parts", "memory", "--out", str(out)])
    evaluation_speed.main()
    record = json.loads(out.read_text())
    assert (record["steps"], record["memory"]) == (["timed earlier"], ["timed now"])
    assert set(record["load"]) == {"steps", "memory"}


def test_what_other_processes_do_is_a_function_of_the_job() -> None:
    case = Case("convnet-1", SIZE, "dc", 10, 10, 8)
    assert evaluation_choices.training((case, 2, 0)) == evaluation_choices.training((case, 2, 0))
    assert evaluation_choices.fresh((case, True)) > 0


def test_memory_is_kept_or_given_back_as_told() -> None:
    if sys.platform != "linux":
        assert not keep_freed()
        return
    assert keep_freed(False) == keep_freed(True)
