"""The training itself: a factor or a pass that is off moves every accuracy, and none looks wrong."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import CLASSES, SIDE, close, equal, frozen, labeller, small_set, student, weights
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF

from concord.data.tensors import TensorSet
from concord.evaluation.augment import Augment
from concord.evaluation.mixing import Mixing, mixed_share
from concord.evaluation.protocols import DC, FIXED, HARD, PAPER, RDED, Protocol, num_epochs
from concord.evaluation.training import (
    HERE,
    Batch,
    Batches,
    Compute,
    Drawn,
    Trainer,
    TrainingLog,
    accuracy,
    augmented_batch,
    hard_loss,
    normalisation,
    predict,
    soft_labels,
    soft_loss,
    train,
)
from concord.models.students import build_student

DATA, TEST = small_set(), small_set(30, seed=9)
MIXUP = RDED.model_copy(update={"mixing": Mixing(kind="mixup", alpha=0.8), "temperature": 4.0})
DSA = DC.model_copy(update={"augment": Augment(dsa="color_crop_cutout_flip_scale_rotate")})
PLAIN = RDED.model_copy(update={"augment": Augment(), "mixing": Mixing(), "double_pass": False})


def drawn(protocol: Protocol, seed: int = 0, batch: int = 5) -> Drawn:
    return Drawn(protocol, len(DATA), DATA.side, SIDE, batch, seed)


def trained(
    protocol: Protocol, epochs: int = 3, seed: int = 0, batches: Batches | None = None, **more: Any
) -> tuple[nn.Module, TrainingLog]:
    net = student(seed, protocol.norm)
    more = {"labeller": labeller() if protocol.labels == "soft" else None, "test": TEST, **more}
    course = train(net, DATA, batches or drawn(protocol, seed), protocol, epochs, SIDE, seed=seed, **more)
    return net, course


# The losses.


@given(st.integers(0, 2**20), st.sampled_from([1.0, 4.0, 20.0]), st.integers(1, 9), st.integers(2, 12))
@settings(deadline=None, max_examples=50)
def test_the_soft_loss_is_kl_over_the_batch_without_the_square(seed: int, t: float, n: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, answers = (8 * torch.randn(n, k, generator=generator) for _ in range(2))
    targets = F.softmax(answers / t, dim=1)
    found = soft_loss(logits, targets, t)
    p, q = F.softmax(answers.double() / t, dim=1), F.softmax(logits.double() / t, dim=1)
    torch.testing.assert_close(found.double(), (p * (p / q).log()).sum() / n, atol=1e-5, rtol=1e-4)
    torchs = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(logits / t, dim=1), targets)
    torch.testing.assert_close(found, torchs)


def test_soft_labels_are_tempered_probabilities_and_leave_the_teacher_alone() -> None:
    teacher, pixels = labeller(), TEST.pixels(slice(0, 7))
    before = weights(teacher)
    found = soft_labels(teacher, pixels, 20.0)
    expected = (teacher(pixels).double() / 20).exp()
    torch.testing.assert_close(found.double(), expected / expected.sum(1, keepdim=True), atol=1e-6, rtol=0)
    assert equal(weights(teacher), before)


def test_the_hard_loss_of_mixed_images_is_weighed_by_their_pixels() -> None:
    """By the box as it was cut, not by the share that was drawn: at the border they differ."""
    logits = torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(1), requires_grad=True)
    labels, index = torch.tensor([0, 1, 2, 2]), torch.tensor([3, 0, 1, 2], dtype=torch.int32)
    mixing = {"index": index, "lam": torch.tensor(0.3), "box": torch.tensor([0, 2, 5, 9], dtype=torch.int32)}
    share = 1 - 5 * 7 / SIDE**2
    each = -F.log_softmax(logits.double(), dim=1)
    expected = sum(share * each[n, labels[n]] + (1 - share) * each[n, labels[int(index[n])]] for n in range(4))
    found = hard_loss(logits, labels, Batch(torch.arange(4), {}, mixing), SIDE)
    torch.testing.assert_close(found.double(), expected / 4, atol=1e-6, rtol=0)
    plain = hard_loss(logits, labels, Batch(torch.arange(4), {}, {}), SIDE)
    torch.testing.assert_close(plain, F.cross_entropy(logits, labels))


# One step.


def one_step(
    protocol: Protocol, net: nn.Module, batch: Batch | None = None, lab: Callable[..., Any] | None = None
) -> Batch:
    batch = batch or next(drawn(protocol).epoch(0))
    trainer = Trainer(net, DATA, protocol, SIDE, lab or labeller())
    trainer.begin(1.0)
    trainer.step(batch)
    return batch


@pytest.mark.parametrize("mixed", [False, True])
def test_fixed_labels_are_the_teachers_of_the_images_as_they_are(mixed: bool) -> None:
    """Asked once for each image, before the first step; mixed as the images are."""
    teacher, asked = labeller(), []

    def listened(pixels: Tensor) -> Tensor:
        asked.append(pixels)
        return teacher(pixels)

    protocol = FIXED if mixed else FIXED.model_copy(update={"mixing": Mixing()})
    trainer = Trainer(student(3), DATA, protocol, SIDE, listened)
    batch = next(drawn(protocol).epoch(0))
    assert torch.equal(torch.cat(asked), DATA.pixels(slice(None)))
    probabilities = F.softmax(teacher(DATA.pixels(slice(None))).double() / 20, dim=1)
    expected = probabilities[batch.index]
    if mixed:
        share = mixed_share(batch.mixing, SIDE, SIDE)
        other = probabilities[batch.index[batch.mixing["index"].long()]]
        expected = share * expected + (1 - share) * other
    shown = augmented_batch(DATA, batch, protocol, SIDE, normalisation(protocol, HERE))[1]
    net = student(3)
    net.train()
    net(shown)  # the double pass
    answers = F.log_softmax(net(shown).double() / 20, dim=1)
    kl = (expected * (expected.log() - answers)).sum() / len(expected)
    torch.testing.assert_close(trainer.step(batch).double(), kl.detach(), atol=1e-6, rtol=1e-3)
    assert len(torch.cat(asked)) == len(DATA)


def test_without_shuffling_every_epoch_has_the_sets_order() -> None:
    protocol = RDED.model_copy(update={"shuffle": False})
    for number in (0, 3):
        order = torch.cat([batch.index for batch in drawn(protocol).epoch(number)])
        assert torch.equal(order, torch.arange(len(DATA)))
    assert not torch.equal(torch.cat([batch.index for batch in drawn(RDED).epoch(0)]), torch.arange(len(DATA)))


class Odd(nn.Module):
    """Has what decides about decay: a matrix, a bias of three dimensions, an unnamed matrix, vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 2))
        self.bias = nn.Parameter(torch.ones(2, 2, 2))
        self.position = nn.Parameter(torch.ones(4, 4))
        self.scale = nn.Parameter(torch.ones(5))

    def forward(self, x: Tensor) -> Tensor:
        nothing: Tensor = sum(0 * p.sum() for p in self.parameters())  # type: ignore[assignment]
        return x.flatten(1)[:, :CLASSES] * 0 + nothing


def test_rded_decays_weights_of_more_than_one_dimension_alone() -> None:
    net = Odd()
    one_step(RDED, net)
    shrunk = 1 - 1e-3 * 0.01  # AdamW's own decay: rate times decay, whatever the gradient
    torch.testing.assert_close(net.weight.detach(), torch.full((3, 2), shrunk), atol=1e-7, rtol=0)
    for kept in (net.bias, net.position, net.scale):
        assert torch.equal(kept, torch.ones_like(kept))


def test_the_others_decay_everything() -> None:
    net = Odd()
    one_step(HARD, net)
    for parameter in net.parameters():
        expected = torch.full_like(parameter, 1 - 0.01 * 5e-4)  # SGD's first step along the decay
        torch.testing.assert_close(parameter.detach(), expected, atol=1e-7, rtol=0)


class Seen(nn.Module):
    """A batch norm on the pixels, which keeps what it is given in training."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.seen = nn.BatchNorm2d(3), []  # type: ignore[var-annotated]
        self.last = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(x.detach().clone())
        return self.last(self.norm(x).mean((2, 3)))


def moved(statistics: tuple[Tensor, Tensor], pixels: Tensor) -> tuple[Tensor, Tensor]:
    """One update of running mean and variance by closed form: a tenth of the batch's, the variance unbiased."""
    by_channel = pixels.double().transpose(0, 1).flatten(1)
    mean, var = by_channel.mean(1), by_channel.var(1, unbiased=True)
    return 0.9 * statistics[0] + 0.1 * mean, 0.9 * statistics[1] + 0.1 * var


@pytest.mark.parametrize("kind", ["cutmix", "mixup"])
@pytest.mark.parametrize("double", [True, False])
def test_a_double_pass_moves_the_statistics_of_batch_norm_twice(double: bool, kind: str) -> None:
    """RDED cuts its batch in place before the first pass; its mixup makes a new one, so that pass sees the images."""
    augment = Augment(flip=True)
    protocol = RDED.model_copy(update={"double_pass": double, "augment": augment, "mixing": Mixing(kind=kind)})
    net = Seen()
    batch = one_step(protocol, net)
    images = torch.stack(
        [TF.horizontal_flip(x) if f else x for x, f in zip(DATA.pixels(batch.index), batch.view["flip"], strict=True)]
    )
    others, mixed = images[batch.mixing["index"].long()], images.clone()
    if kind == "cutmix":
        y1, x1, y2, x2 = batch.mixing["box"].tolist()
        assert y2 > y1 and x2 > x1
        mixed[:, :, y1:y2, x1:x2] = others[:, :, y1:y2, x1:x2]
    else:
        lam = float(batch.mixing["lam"])
        mixed = lam * images + (1 - lam) * others
    expected = [images if kind == "mixup" else mixed, mixed] if double else [mixed]
    assert len(net.seen) == len(expected)
    statistics = torch.zeros(3).double(), torch.ones(3).double()
    for found, wanted in zip(net.seen, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
        statistics = moved(statistics, wanted)
    torch.testing.assert_close(net.norm.running_mean.double(), statistics[0], atol=1e-6, rtol=0)  # type: ignore[union-attr]
    torch.testing.assert_close(net.norm.running_var.double(), statistics[1], atol=1e-6, rtol=0)  # type: ignore[union-attr]
    assert net.norm.num_batches_tracked == len(expected)


def test_soft_labels_without_a_teacher_are_refused_before_a_weight_moves() -> None:
    net = student()
    before = weights(net)
    with pytest.raises(ValueError, match="soft labels need a teacher, or batches that hold them"):
        train(net, DATA, drawn(PLAIN), PLAIN, 1, SIDE, test=TEST)
    assert equal(weights(net), before)


# A whole training, beside a plain loop.


def shown(protocol: Protocol, batch: Batch) -> Tensor:
    """The images of a batch, one by one, by torchvision: shuffled strips, crop, flip, colour."""
    found = []
    for n, number in enumerate(batch.index.tolist()):
        image = DATA.images[number].float() / 255
        if protocol.augment.patch_shuffle:
            for axis, key in ((2, "columns"), (1, "rows")):
                strips = image.chunk(2, dim=axis)
                image = torch.cat([strips[i] for i in batch.view[key][n].tolist()], dim=axis)
        if protocol.augment.crop:
            image = TF.resized_crop(image, *batch.view["crop"][n].tolist(), [SIDE, SIDE], antialias=True)
        if protocol.augment.flip and batch.view["flip"][n]:
            image = TF.horizontal_flip(image)
        if protocol.augment.color:
            brightness, contrast, saturation = batch.view["jitter"][n].tolist()
            grey = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
            image = brightness * image
            middle = (image * grey).sum(0).mean()
            image = contrast * image + (1 - contrast) * middle
            image = saturation * image + (1 - saturation) * (image * grey).sum(0, keepdim=True)
        if protocol.augment.lighting:
            values = torch.tensor([0.2175, 0.0188, 0.0045])
            vectors = torch.tensor([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
            image = image + (vectors * (batch.view["lighting"][n] * values)).sum(1).view(3, 1, 1)
        found.append(image)
    return torch.stack(found)


def plainly(protocol: Protocol, shares: list[float]) -> nn.Module:
    """The same training as its source has it, on the views that were drawn."""
    net, teacher = student(0, protocol.norm), labeller()
    if protocol.optimiser == "adamw":
        matrices = [p for p in net.parameters() if p.ndim > 1]
        vectors = [p for p in net.parameters() if p.ndim == 1]
        optimiser: torch.optim.Optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0}], foreach=False
        )
    else:
        optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
    first, before = [group["lr"] for group in optimiser.param_groups], 1.0
    for epoch, share in enumerate(shares):
        if protocol.schedule == "dc" and share < before:
            optimiser = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, foreach=False)
        before = share
        for group, lr in zip(optimiser.param_groups, first, strict=True):
            group["lr"] = lr * share
        for batch in drawn(protocol).epoch(epoch):
            pixels, labels = shown(protocol, batch), DATA.labels[batch.index]
            own, others = 1.0, labels
            if batch.mixing:
                index = batch.mixing["index"].long()
                y1, x1, y2, x2 = batch.mixing["box"].tolist()
                pixels[:, :, y1:y2, x1:x2] = pixels[index][:, :, y1:y2, x1:x2]
                own, others = 1 - (y2 - y1) * (x2 - x1) / SIDE**2, labels[index]
            net.train()
            if protocol.double_pass:
                with torch.no_grad():
                    net(pixels)
            if protocol.labels == "soft":
                t = protocol.temperature
                with torch.no_grad():
                    soft = F.softmax(teacher(pixels) / t, dim=1)
                loss = nn.KLDivLoss(reduction="batchmean")(F.log_softmax(net(pixels) / t, dim=1), soft)
            else:
                logits = net(pixels)
                loss = own * F.cross_entropy(logits, labels) + (1 - own) * F.cross_entropy(logits, others)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net


@pytest.mark.parametrize(
    ("protocol", "shares"),
    [
        (RDED, [0.5 * (1 + math.cos(math.pi * epoch / 6)) for epoch in range(3)]),
        (HARD, [1, 1, 0.04]),  # of three epochs, both steps come before the last
        (DC, [1, 1, 1, 0.1]),  # E = 3 is four epochs, and the rate drops after epoch 2
    ],
    ids=["rded", "hard", "dc"],
)
def test_a_training_is_that_of_a_plain_loop(protocol: Protocol, shares: list[float]) -> None:
    epochs = num_epochs(protocol.model_copy(update={"epochs": 3}), len(DATA) / CLASSES, CLASSES)
    assert epochs == len(shares)
    net, course = trained(protocol, epochs)
    expected = plainly(protocol, shares)
    # Under batch norm a convolution's bias has a gradient of zero, of which Adam makes steps out of rounding alone; it
    # cancels out in the student, but moves the running mean.
    free = ("conv.0.bias", "conv.1.bias", "running_mean") if protocol is RDED else ("nothing",)
    found, wanted = ({k: v for k, v in weights(x).items() if not k.endswith(free)} for x in (net, expected))
    assert len(found) > 8
    close(found, wanted, atol=2e-5)
    pixels = TEST.pixels(slice(None))
    torch.testing.assert_close(net.train()(pixels), expected.train()(pixels), atol=2e-4, rtol=0)
    start = student(0, protocol.norm).parameters()
    moved_by = max(float((p - q).detach().abs().max()) for p, q in zip(net.parameters(), start, strict=True))
    assert moved_by > 1e-3  # far more than what is taken for equal
    expected.eval()
    with torch.no_grad():
        right = (expected(TEST.images.float() / 255).argmax(1) == TEST.labels).float().mean()
    assert course.last == pytest.approx(100 * float(right))


# Seeds and resumption.


@pytest.mark.parametrize("protocol", [RDED, MIXUP, HARD, DSA], ids=["rded", "mixup", "hard", "dsa"])
def test_a_training_is_a_function_of_its_seed(protocol: Protocol) -> None:
    one, again, other = (weights(trained(protocol, 2, seed)[0]) for seed in (1, 1, 2))
    assert equal(one, again)
    same_start = student(1, protocol.norm)
    train(same_start, DATA, drawn(protocol, 2), protocol, 2, SIDE, test=None, labeller=labeller())
    assert not equal(one, other)
    assert not equal(one, weights(same_start))  # the seed draws batches, not first weights alone


def test_epochs_see_every_image_once_in_orders_of_their_own() -> None:
    batches = drawn(RDED, batch=5)
    orders = [torch.cat([batch.index for batch in batches.epoch(epoch)]).tolist() for epoch in range(4)]
    assert all(sorted(order) == list(range(len(DATA))) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert [len(batch.index) for batch in batches.epoch(0)] == [5, 5, 2]
    assert orders[2] == torch.cat([batch.index for batch in batches.epoch(2)]).tolist()


def dropping(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(3 * SIDE**2, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, CLASSES)
        )


def test_a_students_own_dice_follow_the_seed_and_leave_others_alone() -> None:
    """Dropout draws from torch's global state: what ran before in the process must not reach the accuracy."""

    def run(seed: int, start: int = 0, state: Any = None, until: int = 3) -> tuple[nn.Module, Any]:
        net, kept = dropping(), []

        def after(epoch: int, trainer: Trainer, course: TrainingLog) -> None:
            kept.append(frozen(trainer.state()))

        batches = drawn(DC)
        train(net, DATA, batches, DC, until, SIDE, test=None, seed=seed, start=start, state=state, after=after)
        return net, kept[0]

    torch.manual_seed(5)
    one, first = run(0)
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), after)  # the training drew nothing of what is the caller's
    assert equal(weights(run(0)[0]), weights(one))
    assert equal(weights(run(0, 1, first)[0]), weights(one))
    assert not equal(weights(run(1)[0]), weights(one))


@pytest.mark.parametrize(
    ("protocol", "epochs"), [(RDED, 3), (HARD, 4), (DC, 7), (PAPER, 2)], ids=["rded", "hard", "dc", "paper"]
)
def test_a_training_goes_on_from_any_epoch_bit_for_bit(protocol: Protocol, epochs: int) -> None:
    """Of dataset condensation's seven epochs the last two have the lower rate: momentum is kept between them."""
    states: list[Any] = []

    def after(epoch: int, trainer: Trainer, course: TrainingLog) -> None:
        states.append(frozen(trainer.state()))

    net, course = trained(protocol, epochs, after=after)
    for epoch, state in enumerate(states[:-1]):
        other = student(77, protocol.norm)  # its own weights are to be forgotten
        resumed = train(
            other, DATA, drawn(protocol), protocol, epochs, SIDE,
            test=TEST, labeller=labeller(), start=epoch + 1, state=state,
        )  # fmt: skip
        assert equal(weights(other), weights(net)), f"after epoch {epoch}"
        assert resumed.last == course.last
        assert torch.equal(resumed.predictions, course.predictions)  # type: ignore[arg-type]


def test_what_was_saved_before_the_rate_dropped_has_momentum_that_is_forgotten() -> None:
    """Dataset condensation's new optimiser: gone on right before the drop, the old momentum must not be carried on."""
    trainer = Trainer(student(0, "instance"), DATA, DC, SIDE)
    batch = next(drawn(DC).epoch(0))
    trainer.begin(1.0)
    trainer.step(batch)
    other = Trainer(student(1, "instance"), DATA, DC, SIDE)
    other.load(frozen(trainer.state()))
    assert other.state()["optimiser"]["state"]
    other.begin(1.0)
    assert other.state()["optimiser"]["state"]
    other.begin(0.1)
    assert not other.state()["optimiser"]["state"]
    assert [group["lr"] for group in other.state()["optimiser"]["param_groups"]] == [pytest.approx(1e-3)]


# Accuracy.


def test_last_and_best_and_the_predictions_of_the_last() -> None:
    course = TrainingLog({9: 40.0, 19: 70.0, 29: 60.0})
    assert (course.last, course.best) == (60.0, 70.0)
    net, course = trained(HARD, 4)
    assert sorted(course.accuracies) == [0, 1, 2, 3]
    assert course.predictions is not None and course.predictions.dtype == torch.int64
    net.eval()
    with torch.no_grad():
        one_by_one = torch.cat([net(TEST.pixels(slice(i, i + 1))).argmax(1) for i in range(len(TEST))])
    assert torch.equal(course.predictions, one_by_one)
    right = sum(int(a == b) for a, b in zip(one_by_one.tolist(), TEST.labels.tolist(), strict=True))
    assert course.last == pytest.approx(100 * right / len(TEST))


def test_accuracy_is_read_in_evaluation_mode_and_over_more_images_than_go_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = student()
    net(TEST.pixels(slice(None)))  # running statistics that are not those of the batch
    before = weights(net)
    whole = predict(net.train(), TEST)
    monkeypatch.setattr("concord.evaluation.training.JUDGING", 7)
    assert torch.equal(predict(net, TEST), whole)
    assert equal(weights(net), before)
    assert accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 0])) == 75


def test_without_test_images_no_accuracy_is_read() -> None:
    net, course = trained(RDED, 2, test=None)
    assert course == TrainingLog()
    assert equal(weights(net), weights(trained(RDED, 2)[0]))  # reading it changes nothing


def test_students_learn() -> None:
    """Coloured squares are told apart within a few epochs, or the gradient goes the wrong way."""
    assert trained(DC.model_copy(update={"lr": 0.05}), 20)[1].last > 90
    teacher, _ = trained(DC.model_copy(update={"lr": 0.05}), 20)
    assert trained(RDED.model_copy(update={"lr": 0.01}), 25, labeller=teacher.eval())[1].best > 80


def test_a_teacher_that_cannot_tell_teaches_nothing() -> None:
    """Equal logits are equal probabilities: the student is drawn to them, not to any class."""

    def grey(pixels: Tensor) -> Tensor:
        return torch.zeros(len(pixels), CLASSES)

    protocol = PLAIN.model_copy(update={"temperature": 1.0, "lr": 0.01})
    net, _ = trained(protocol, 30, labeller=grey)
    with torch.no_grad():
        spread = [F.softmax(x.train()(DATA.pixels(slice(None))), 1).std() for x in (student(), net)]
    assert spread[1] < spread[0] / 3


@pytest.mark.parametrize("protocol", [RDED, HARD], ids=["rded", "hard"])
def test_bfloat16_is_the_same_training_less_precisely(protocol: Protocol) -> None:
    exact, _ = trained(protocol, 2)
    rough, course = trained(protocol, 2, compute=Compute(dtype=torch.bfloat16))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in rough.parameters())
    assert not equal(weights(rough), weights(exact))
    for one, other in zip(rough.parameters(), exact.parameters(), strict=True):
        assert (one - other).abs().max() < 0.03
    assert 0 <= course.last <= 100


def test_pixels_of_a_larger_set_come_at_the_students_size() -> None:
    """Sets are kept at up to twice the student's side; its crops are taken from there."""
    large = small_set(side=2 * SIDE)
    for protocol in (RDED, DC):
        net = student(0, protocol.norm)
        batches = Drawn(protocol, len(large), large.side, SIDE, 5, 0)
        train(net, large, batches, protocol, 1, SIDE, test=TEST, labeller=labeller())


def test_the_set_and_the_students_given_form_are_left_alone() -> None:
    before = copy.deepcopy(DATA)
    trained(RDED, 1)
    trained(HARD, 1)
    assert torch.equal(DATA.images, before.images) and torch.equal(DATA.labels, before.labels)


@pytest.mark.parametrize("name", ["convnet-2", "resnet-18-modified"])
def test_the_layout_in_memory_changes_no_student(name: str) -> None:
    torch.manual_seed(0)
    net = build_student(name, CLASSES, SIDE).eval()
    pixels = TEST.pixels(slice(0, 4))
    with torch.no_grad():
        before = net(pixels)
        torch.testing.assert_close(HERE.place(net)(pixels), before, atol=1e-4, rtol=1e-4)


def test_labels_are_those_of_the_images() -> None:
    """A shuffled set trains the same network: order is the batches' alone."""
    order = torch.randperm(len(DATA), generator=torch.Generator().manual_seed(3))
    shuffled = TensorSet(DATA.images[order], DATA.labels[order])

    class Reordered:
        def epoch(self, number: int) -> Any:
            for batch in drawn(HARD).epoch(number):
                yield Batch(order.argsort()[batch.index], batch.view, batch.mixing)

    one, other = student(0, "instance"), student(0, "instance")
    train(one, DATA, drawn(HARD), HARD, 2, SIDE, test=None)
    train(other, shuffled, Reordered(), HARD, 2, SIDE, test=None)
    assert equal(weights(one), weights(other))
