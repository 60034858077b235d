"""Stored soft labels: a view with another's answer, or a student that learns something else than online, is silent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_sets import CLASSES, SIDE, Heard, equal, labeller, small_set, student, weights
from torch import Tensor
from torch.nn import functional as F

from concord.errors import ConcordError
from concord.evaluation.augment import Augment
from concord.evaluation.mixing import Mixing
from concord.evaluation.protocols import PAPER, RDED, Protocol
from concord.evaluation.soft_labels import LabelFormat, Packed, joined, open_labels, pack, parted, store_labels, unpack
from concord.evaluation.training import Drawn, train
from concord.events import Progress

DATA, TEST = small_set(), small_set(9, seed=9)
EPOCHS = 3
BATCH = 5


def changed(**values: Any) -> Protocol:
    return RDED.model_copy(update=values)


PROTOCOLS = {
    "rded": RDED,
    "mixup": changed(mixing=Mixing(kind="mixup", alpha=0.8), temperature=4.0),
    "sometimes": changed(mixing=Mixing(kind="cutmix", probability=0.5)),
    "dsa": changed(augment=Augment(dsa="color_crop_cutout_flip_scale_rotate"), mixing=Mixing()),
    "plain": changed(augment=Augment(), mixing=Mixing(), double_pass=False),
    "all": changed(augment=Augment(patch_shuffle=2, crop=(0.3, 1), pad_crop=2, flip=True, color=0.4, lighting=0.1)),
}


def batches(protocol: Protocol = RDED, seed: int = 4) -> Drawn:
    return Drawn(protocol, len(DATA), DATA.side, SIDE, BATCH, seed)


def facts(**values: Any) -> dict[str, Any]:
    return {
        "images": len(DATA),
        "size": SIDE,
        "epochs": EPOCHS,
        "batch": BATCH,
        "seed": 4,
        "teacher": "abc",
        "classes": ["a", "b", "c"],
        **values,
    }


CELL = {"images": len(DATA), "size": SIDE, "epochs": EPOCHS, "batch": BATCH}


def store(
    out: Path,
    protocol: Protocol = RDED,
    form: LabelFormat = LabelFormat(),  # noqa: B008 - frozen
    progress: Progress | None = None,
    data: Any = DATA,
    **of: Any,
) -> dict[str, Any]:
    teacher = labeller()
    return store_labels(out, data, batches(protocol), teacher, protocol, facts(**of), form, progress=progress)


def learnt(protocol: Protocol, source: Any, teacher: Any = None) -> dict[str, Tensor]:
    net = student(4)
    train(net, DATA, source, protocol, EPOCHS, SIDE, test=TEST, labeller=teacher)
    return weights(net)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_whole_labels_give_the_very_training_that_a_teacher_online_gives(name: str, tmp_path: Path) -> None:
    protocol = PROTOCOLS[name]
    store(tmp_path, protocol)
    kept = open_labels(tmp_path, CELL, protocol, DATA)
    assert equal(learnt(protocol, kept), learnt(protocol, batches(protocol), labeller()))
    if name == "sometimes":
        mixed = [bool(batch.mixing) for epoch in range(EPOCHS) for batch in kept.epoch(epoch)]
        assert {True, False} == set(mixed)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_batches_come_back_as_they_were(name: str) -> None:
    for epoch in range(6):
        drawn = list(batches(PROTOCOLS[name]).epoch(epoch))
        soft = torch.rand(len(DATA), CLASSES)
        back = list(parted(joined(drawn) | pack(soft, LabelFormat()).tensors(), CLASSES))
        assert len(back) == len(drawn)
        for one, other in zip(drawn, back, strict=True):
            assert torch.equal(one.index, other.index) and other.index.dtype == torch.int64
            assert equal(one.view, other.view) and equal(one.mixing, other.mixing)
            assert {key: value.dtype for key, value in one.view.items()} == {k: v.dtype for k, v in other.view.items()}
        assert torch.equal(torch.cat([b.soft for b in back if b.soft is not None]), soft)


def test_fewer_bits_still_teach_nearly_the_same(tmp_path: Path) -> None:
    exact = learnt(RDED, batches(), labeller())
    for form, bound in (
        (LabelFormat(bits="float16"), 0.02),
        (LabelFormat(bits="uint8"), 0.02),
        (LabelFormat(top_k=2, bits="uint8"), 0.02),
    ):
        out = tmp_path / f"{form.top_k}-{form.bits}"
        store(out, form=form)
        found = learnt(RDED, open_labels(out, CELL, RDED, DATA))
        assert not equal(found, exact)
        assert max(float((found[key] - exact[key]).abs().max()) for key in found if "weight" in key) < bound


# Packing.

ROWS = st.tuples(
    st.integers(0, 2**20), st.integers(1, 6), st.integers(2, 300), st.sampled_from([0.01, 1.0, 20.0, 400.0])
)


def probabilities(drawn: tuple[int, int, int, float]) -> Tensor:
    """Rows from nearly certain to nearly uniform."""
    seed, n, k, t = drawn
    return F.softmax(8 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) / t, dim=1)


@given(ROWS, st.one_of(st.none(), st.integers(1, 310)), st.sampled_from(["float32", "float16", "uint8"]))
@settings(deadline=None, max_examples=150)
def test_packed_probabilities_are_near_and_sum_to_one(drawn: Any, top_k: int | None, bits: Any) -> None:
    given_, form = probabilities(drawn), LabelFormat(top_k=top_k, bits=bits)
    n, k = given_.shape
    packed = pack(given_, form)
    found = unpack(packed, k)
    assert found.dtype == torch.float32 and found.shape == given_.shape
    assert found.isfinite().all() and (found >= 0).all()
    torch.testing.assert_close(found.double().sum(1), torch.ones(n).double(), atol=2e-5, rtol=0)
    kept = k if top_k is None else min(top_k, k)
    assert packed.values.shape == (n, kept)
    order = given_.double().sort(dim=1, descending=True)
    largest, rest = order.values[:, :kept], order.values[:, kept:]
    step = {"float32": 0.0, "float16": 2.0**-11, "uint8": 2.0**-11}[bits] * given_.double().amax(1, keepdim=True) + 1e-7
    if bits == "uint8":
        step = step + (largest.amax(1, keepdim=True) - largest.amin(1, keepdim=True)) / 510
    # A stored value is off by a step at most; then a row is brought back to a sum of one, by a share of what all of its
    # steps come to.
    off = step * (2 + kept * given_.double())
    places = order.indices[:, :kept]
    near = (found.double() - given_.double()).abs() <= off
    assert near.gather(1, places).all()
    if kept < k:  # what was not stored shares what is left of one, evenly
        even = rest.mean(1, keepdim=True).expand_as(rest)
        found_rest = found.double().gather(1, order.indices[:, kept:])
        assert ((found_rest - even).abs() <= step * (2 + kept / (k - kept)) + 1e-6).all()


@given(ROWS)
@settings(deadline=None, max_examples=30)
def test_all_of_a_float32_answer_is_stored_bit_for_bit(drawn: Any) -> None:
    whole = probabilities(drawn)
    for top_k in (None, whole.shape[1], whole.shape[1] + 5):
        assert torch.equal(unpack(pack(whole, LabelFormat(top_k=top_k)), whole.shape[1]), whole)


@pytest.mark.parametrize(("k", "dtype"), [(256, torch.uint8), (257, torch.uint16), (1000, torch.uint16)])
def test_classes_are_stored_in_the_fewest_bytes_that_hold_them(k: int, dtype: torch.dtype, tmp_path: Path) -> None:
    whole = torch.full((1, k), 1e-4)
    whole[0, k - 1] = 1 - 1e-4 * (k - 1)
    packed = pack(whole, LabelFormat(top_k=1))
    assert packed.classes is not None and packed.classes.dtype == dtype
    assert unpack(packed, k).argmax() == k - 1
    from safetensors.torch import save_file

    save_file(packed.tensors(), tmp_path / "soft.safetensors")
    back = load_file(tmp_path / "soft.safetensors")
    again = unpack(Packed(back["soft.values"], back["soft.classes"], None), k)
    assert torch.equal(again, unpack(packed, k))


@pytest.mark.parametrize("bits", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("top_k", [None, 1, 2])
def test_certain_and_uniform_answers_survive(bits: Any, top_k: int | None) -> None:
    given_ = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]])
    found = unpack(pack(given_, LabelFormat(top_k=top_k, bits=bits)), 4)
    torch.testing.assert_close(found, given_, atol=1e-3, rtol=0)


def test_a_store_shrinks_as_its_form_says(tmp_path: Path) -> None:
    """By image and epoch 4 K bytes of probabilities, or 2 K, or K and two halves; or so many of k classes."""
    k, n = 40, 200
    soft = probabilities((0, n, k, 20.0))
    expected = {
        LabelFormat(): 4 * k,
        LabelFormat(bits="float16"): 2 * k,
        LabelFormat(bits="uint8"): k + 4,
        LabelFormat(top_k=5): 4 * 5 + 5,
        LabelFormat(top_k=5, bits="float16"): 2 * 5 + 5,
        LabelFormat(top_k=5, bits="uint8"): 5 + 5 + 4,
    }
    for form, size in expected.items():
        found = sum(tensor.numel() * tensor.element_size() for tensor in pack(soft, form).tensors().values())
        assert found == n * size, form
    sizes = []
    for form in (
        LabelFormat(),
        LabelFormat(bits="float16"),
    ):  # of three classes, the names of further tensors take more than they save
        out = tmp_path / f"{form.top_k}-{form.bits}"
        head = store(out, form=form)
        sizes.append(sum(file.stat().st_size for file in out.glob("*.safetensors")))
        assert head["bytes"] == json.loads((out / "labels.json").read_text())["bytes"] == sizes[-1]
    assert sizes[1] < sizes[0]


# Stopped, and gone on with.


class Killed(BaseException):
    pass


def stopping(after: int) -> Heard:
    def step(done: int) -> None:
        if done == after:
            raise Killed

    return Heard(step)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("after", range(1, EPOCHS + 1))
def test_killed_it_goes_on_and_comes_to_the_same_files(after: int, tmp_path: Path) -> None:
    store(tmp_path / "whole")
    with pytest.raises(Killed):
        store(tmp_path / "torn", progress=stopping(after))
    with pytest.raises(ConcordError, match="not finished: give the same `concord labels` command again"):
        open_labels(tmp_path / "torn", CELL, RDED, DATA)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "torn").glob("*.safetensors")}
    assert len(times) == after
    heard = Heard()
    store(tmp_path / "torn", progress=heard)
    assert contents(tmp_path / "torn") == contents(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in times} == times  # none was made twice
    assert (heard.begun, heard.done, heard.total) == (0, EPOCHS, EPOCHS)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"teacher": "other"}, "teacher differ"),
        ({"seed": 5}, "seed differ"),
        ({"epochs": 4}, "epochs differ"),
        ({"size": 8, "batch": 4}, "size, batch differ"),
        ({"form": LabelFormat(top_k=1)}, "top_k differ"),
        ({"form": LabelFormat(bits="uint8")}, "bits differ"),
        ({"protocol": PAPER}, "protocol differ"),
        ({"data": small_set(seed=1)}, "set differ"),
    ],
)
def test_a_store_of_something_else_is_not_written_over(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    store(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConcordError, match=rf"of something else \({says}\); give another --out"):
        store(tmp_path, **values)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"cell": {**CELL, "size": 32}}, "size=16, not 32"),
        ({"cell": {**CELL, "epochs": 300}}, "epochs=3, not 300"),
        ({"cell": {**CELL, "batch": 12}}, "batch=5, not 12"),
        ({"data": small_set(seed=1)}, r"other images \(or another IPC\)"),
        ({"data": small_set(9)}, r"other images \(or another IPC\)"),
        ({"protocol": PAPER}, "the protocol rded, not paper"),
        ({"protocol": changed(temperature=4.0)}, "the protocol rded with another temperature"),
        ({"protocol": changed(augment=Augment(flip=True))}, "the protocol rded with another augment"),
    ],
)
def test_labels_of_something_else_are_refused_by_name(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    store(tmp_path)
    given_ = {"cell": CELL, "protocol": RDED, "data": DATA, **values}
    with pytest.raises(ConcordError, match=rf"the soft labels in .* are of {says}; store them for this cell"):
        open_labels(tmp_path, given_["cell"], given_["protocol"], given_["data"])


def test_what_is_stored_has_a_name_of_its_own(tmp_path: Path) -> None:
    """By which an evaluation knows that labels were stored anew, or were only moved."""
    for name, of in (("a", {}), ("b", {}), ("c", {"teacher": "other"}), ("d", {"form": LabelFormat(top_k=1)})):
        store(tmp_path / name, **of)  # type: ignore[arg-type]
    a, b, c, d = (open_labels(tmp_path / name, CELL, RDED, DATA).digest for name in "abcd")
    assert a == b and len({a, c, d}) == 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored")
    store(out)
    return out


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_a_torn_file_is_named_and_made_again(share: float, stored: Path) -> None:
    file = stored / "epoch-00001.safetensors"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ConcordError, match=r"epoch-00001\.safetensors: .*; take that file away") as error:
            list(open_labels(stored, CELL, RDED, DATA).epoch(1))
        assert "\n" not in str(error.value)
        file.unlink()
        store(stored)
        assert file.read_bytes() == whole
    finally:
        file.write_bytes(whole)


def test_a_lost_file_is_named(stored: Path) -> None:
    with pytest.raises(ConcordError, match=r"cannot read the soft labels .*epoch-00007\.safetensors"):
        list(open_labels(stored, CELL, RDED, DATA).epoch(7))


def test_a_directory_without_labels_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match=r"holds no soft labels: expected labels\.json"):
        open_labels(tmp_path, CELL, RDED, DATA)
    with pytest.raises(ConcordError, match="holds no soft labels"):
        open_labels(tmp_path / "nowhere", CELL, RDED, DATA)


INSIDE = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=4) | st.lists(st.integers(), max_size=2)
HEADS = st.dictionaries(st.sampled_from(["bytes", "set", "classes", "protocol", "size"]), INSIDE, max_size=4) | INSIDE


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=40) | HEADS.map(lambda values: json.dumps(values).encode()))
def test_a_damaged_head_is_an_error_of_the_users(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_bytes(text)
    with pytest.raises(ConcordError):
        open_labels(tmp_path, CELL, RDED, DATA)
