"""Protocols: a schedule or a table that is off trains a student that compares with nobody's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, MultiStepLR

from concord.choices import PROTOCOL_GROUPS
from concord.errors import ConcordError
from concord.evaluation.augment import Augment
from concord.evaluation.mixing import Mixing
from concord.evaluation.protocols import (
    DC,
    HARD,
    PAPER,
    PROTOCOLS,
    RDED,
    SRE2L,
    TEACHER,
    ManyClasses,
    Protocol,
    batch_size,
    ipc_epochs,
    is_eval_epoch,
    lr_factor,
    num_epochs,
    protocol,
)

EPOCHS = [1, 2, 3, 7, 10, 30, 299, 300]


def stepped(make: Any, epochs: int) -> list[float]:
    """The rates that torch's own scheduler gives an optimiser of rate 1 epoch after epoch."""
    optimiser = SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler: LRScheduler = make(optimiser)
    found = []
    for _ in range(epochs):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return found


@pytest.mark.parametrize("epochs", EPOCHS)
def test_half_a_cosine_ends_at_half_the_rate(epochs: int) -> None:
    def share(e: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * e / (2 * epochs)))

    assert lr_factor("half-cosine", 0, epochs) == 1
    assert lr_factor("half-cosine", epochs, epochs) == pytest.approx(0.5)
    expected = stepped(lambda optimiser: LambdaLR(optimiser, share), epochs)
    assert [lr_factor("half-cosine", e, epochs) for e in range(epochs)] == pytest.approx(expected)


@pytest.mark.parametrize("epochs", EPOCHS)
def test_the_cosine_is_torchs(epochs: int) -> None:
    expected = stepped(lambda optimiser: CosineAnnealingLR(optimiser, epochs), epochs)
    assert [lr_factor("cosine", e, epochs) for e in range(epochs)] == pytest.approx(expected)
    assert lr_factor("cosine", epochs, epochs) == pytest.approx(0)


@pytest.mark.parametrize("epochs", EPOCHS)
def test_the_steps_are_torchs(epochs: int) -> None:
    milestones = [2 * epochs // 3, 5 * epochs // 6]
    expected = stepped(lambda optimiser: MultiStepLR(optimiser, milestones, gamma=0.2), epochs)
    assert [lr_factor("multi-step", e, epochs) for e in range(epochs)] == pytest.approx(expected)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 20, 299, 300, 1000])
def test_the_rate_of_dataset_condensation_drops_once(epochs: int) -> None:
    """Its loop counts from 0 to E, and drops after the epoch whose number is E // 2 + 1."""
    expected, share = [], 1.0
    for epoch in range(epochs + 1):
        expected.append(share)
        if epoch == epochs // 2 + 1:
            share *= 0.1
    changed = DC.model_copy(update={"epochs": epochs})
    trained = num_epochs(changed, 10, 10)
    assert trained == len(expected)
    assert [lr_factor("dc", epoch, trained) for epoch in range(trained)] == pytest.approx(expected)


def test_a_constant_rate_is_constant() -> None:
    assert {lr_factor("constant", e, 10) for e in range(10)} == {1.0}


@pytest.mark.parametrize("classes", [2, 10, 50, 100, 1000])
@pytest.mark.parametrize(("ipc", "size"), [(1, 10), (10, 50), (50, 100)])
def test_batches_are_those_of_rded(ipc: int, size: int, classes: int) -> None:
    """Of its `argument.py`: by IPC, twice as many for 100 and for 1000 classes, never more than the set."""
    doubled = 2 * size if classes in (100, 1000) else size
    assert batch_size(RDED, ipc, classes, ipc * classes) == min(doubled, ipc * classes)


@pytest.mark.parametrize(
    ("ipc", "classes", "size"),
    [(100, 10, 100), (200, 10, 100), (5, 10, 10), (20, 10, 50), (100, 100, 200), (10, 200, 100), (1.5, 10, 10)],
)
def test_where_rded_has_no_batch_size_the_next_smaller_ipcs_is_taken(ipc: float, classes: int, size: int) -> None:
    assert batch_size(RDED, ipc, classes, round(ipc * classes)) == size


def test_batches_of_the_others() -> None:
    assert [batch_size(PAPER, ipc, 10, 10 * ipc) for ipc in (1, 10, 50)] == [1, 10, 50]
    assert [batch_size(HARD, ipc, 10, 10 * ipc) for ipc in (1, 10, 50)] == [10, 64, 64]
    assert [batch_size(DC, ipc, 10, 10 * ipc) for ipc in (1, 10, 50)] == [10, 100, 256]
    whole = DC.model_copy(update={"batch": None})
    assert [batch_size(whole, ipc, 10, 10 * ipc) for ipc in (1, 50)] == [10, 256]
    assert batch_size(PAPER, 0.4, 5, 2) == 1


@given(
    st.sampled_from([*map(protocol, PROTOCOLS), TEACHER]),
    st.integers(1, 2000),
    st.integers(1, 500),
)
def test_no_batch_is_empty_or_larger_than_the_set(chosen: Protocol, images: int, classes: int) -> None:
    assert 1 <= batch_size(chosen, images / classes, classes, images) <= images


@pytest.mark.parametrize("epochs", [1, 4, 5, 6, 9, 10, 25, 50, 300])
def test_rded_reads_accuracy_in_the_last_fifth(epochs: int) -> None:
    expected = [e for e in range(epochs) if (e % 10 == 9 or e == epochs - 1) and e > 0.8 * epochs]
    found = [e for e in range(epochs) if is_eval_epoch(RDED, e, epochs)]
    assert found == (expected or [epochs - 1])  # RDED itself reads none of five epochs or fewer
    if epochs == 300:
        assert found == [249, 259, 269, 279, 289, 299]


@pytest.mark.parametrize("epochs", [1, 50, 100, 1000, 2000, 3000])
def test_minimax_reads_a_hundred_times(epochs: int) -> None:
    """Its loop counts from 1 and reads where the number is a multiple of E // 100."""
    each = max(1, epochs // 100)
    found = [e for e in range(epochs) if is_eval_epoch(HARD, e, epochs)]
    assert found == [e - 1 for e in range(1, epochs + 1) if e % each == 0 or e == epochs]
    assert len(found) == min(epochs, 100)


def test_sre2l_reads_every_tenth_epoch() -> None:
    assert [e for e in range(25) if is_eval_epoch(SRE2L, e, 25)] == [9, 19, 24]


def test_groups_are_of_protocols_that_are_there_and_of_the_labels_they_say() -> None:
    assert {protocol(name).labels for name in PROTOCOL_GROUPS["all-soft"]} == {"soft"}
    assert {protocol(name).labels for name in PROTOCOL_GROUPS["all-hard"]} == {"hard"}
    assert [protocol(name).labels for name in PROTOCOL_GROUPS["regimes"]] == ["soft", "fixed", "hard"]


def test_dataset_condensation_reads_once_at_the_end() -> None:
    assert [e for e in range(301) if is_eval_epoch(DC, e, 301)] == [300]


@pytest.mark.parametrize(
    ("ipc", "epochs"),
    [(1, 3000), (2, 2000), (10, 2000), (11, 1500), (50, 1500), (51, 1000), (200, 1000), (500, 500), (501, 300)],
)
def test_minimax_trains_longer_on_less(ipc: int, epochs: int) -> None:
    assert ipc_epochs(ipc, 10) == num_epochs(HARD, ipc, 10) == epochs
    fewer = int(2 / 3 * epochs)  # with 100 classes, as its code counts
    assert ipc_epochs(ipc, 100) == fewer - fewer % 100


def test_epochs_that_are_given_are_trained() -> None:
    assert num_epochs(HARD.model_copy(update={"epochs": 7}), 1, 10) == 7
    assert num_epochs(RDED, 1, 10) == 300
    assert num_epochs(DC, 1, 10) == 301


FACTS: dict[str, dict[str, Any]] = {
    "rded": {
        "labels": "soft",
        "temperature": 20,
        "optimiser": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "decay": "matrices",
        "epochs": 300,
        "schedule": "half-cosine",
        "batch": "rded",
        "double_pass": True,
        "augment": Augment(patch_shuffle=2, crop=(0.5, 1), flip=True),
        "mixing": Mixing(kind="cutmix", alpha=1, probability=1),
        "judge": "rded",
        "reports": "best",
        "test_resize": "8/7",
        "norm": "batch",
        "normalise": "imagenet",
    },
    "paper": {
        "labels": "soft",
        "temperature": 20,
        "optimiser": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "epochs": 300,
        "schedule": "cosine",
        "batch": "ipc",
        "double_pass": False,
        "augment": Augment(patch_shuffle=2, crop=(0.5, 1), flip=True),
        "mixing": Mixing(kind="cutmix", alpha=1, probability=1),
        "norm": "batch",
    },
    "hard": {
        "labels": "hard",
        "optimiser": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay": "all",
        "epochs": None,
        "schedule": "multi-step",
        "batch": 64,
        "double_pass": False,
        "augment": Augment(crop=(0.5, 1), flip=True, color=0.4, lighting=0.1),
        "mixing": Mixing(kind="cutmix", alpha=1, probability=1),
        "judge": "hundred",
        "reports": "best",
        "test_resize": "size",
        "norm": "instance",
        "normalise": "imagenet",
        "student_size": 224,
        "resize_first": True,
        "many": ManyClasses(lr=0.1, weight_decay=1e-4, batch=128),
    },
    "dc": {
        "labels": "hard",
        "optimiser": "sgd",
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "decay": "all",
        "epochs": 300,
        "schedule": "dc",
        "batch": 256,
        "double_pass": False,
        "augment": Augment(),
        "mixing": Mixing(kind="none"),
        "judge": "end",
        "reports": "last",
        "test_resize": "size",
        "norm": "instance",
        "normalise": "cifar",
    },
}
"""What the field's code has, written out."""


FACTS["fixed"] = {**FACTS["rded"], "labels": "fixed"}
FACTS["rd3"] = {
    **FACTS["rded"],
    "epochs": 400,
    "batch": 50,
    "double_pass": False,
    "weight_decay": 0,
    "schedule": "half-cosine",
}
FACTS["sre2l"] = {
    **FACTS["rded"],
    "batch": 1024,
    "schedule": "cosine",
    "double_pass": False,
    "augment": Augment(crop=(0.08, 1), flip=True),
    "judge": "tenth",
    "shuffle": False,
    "test_resize": "8/7",
}
FACTS["plain"] = {**FACTS["rded"], "augment": Augment(), "mixing": Mixing()}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_presets_are_what_the_fields_code_does(name: str) -> None:
    found = {key: getattr(protocol(name), key) for key in FACTS[name]}
    assert found == FACTS[name]


def test_what_came_later_leaves_the_identity_of_others_alone() -> None:
    """Trainings are found again by their protocol's values, so that a new key at its default must not be among them."""
    later = {"student_size", "resize_first", "many", "shuffle"}
    assert not later & RDED.model_dump().keys()
    assert later <= HARD.model_copy(update={"shuffle": False}).model_dump().keys()


def test_channels_are_normalised_as_the_field_does() -> None:
    assert RDED.mean_std == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert DC.mean_std == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


def test_a_teacher_is_trained_on_labels_to_a_rate_of_nothing() -> None:
    assert (TEACHER.labels, TEACHER.schedule, TEACHER.epochs, TEACHER.reports) == ("hard", "cosine", 300, "last")


@pytest.mark.parametrize(("size", "side"), [(224, 256), (128, 144), (112, 128), (64, 72), (32, 32)])
def test_test_images_are_cropped_as_rded_does(size: int, side: int) -> None:
    assert RDED.test_side(size) == side
    assert HARD.test_side(size) == DC.test_side(size) == size


@given(st.integers(8, 600), st.sampled_from([*map(protocol, PROTOCOLS)]))
def test_a_test_image_is_never_smaller_than_its_crop(size: int, chosen: Protocol) -> None:
    """Or the crop would have black borders: at 13 pixels, `size // 7 * 8` is 8."""
    assert chosen.test_side(size) >= size


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(
        ConcordError, match=r'unknown protocol "reded" \(did you mean "rded"\?\); there are rded, paper'
    ):
        protocol("reded")
