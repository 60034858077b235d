"""Experts of trajectory matching: ConvNets trained on the real images, with their parameters after every epoch.

Facts of GeorgeCazenavette/mtt-distillation, `buffer.py`: ConvNets of instance norm, plain SGD at a rate of 0.01 without
momentum and decay, DSA on every batch, the parameters before the first epoch and after each. An epoch is a function of
the parameters before it, the seed, the expert's and its own number: training goes on where it was killed.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from concord.choices import SpaceName, dsa_strategy
from concord.data import ImageSet, dsa
from concord.data.space import Space, fit_zca
from concord.data.tensor_set import TensorForm, open_form, save_form
from concord.data.tensors import TensorSet, for_training, load
from concord.errors import ConcordError
from concord.events import Progress, Silent
from concord.methods.dm import usual_depth
from concord.methods.joint import channel_space, own_side
from concord.methods.trajectory import parameters_of
from concord.models.networks import ConvNet
from concord.plan import sample_seed
from concord.recipe import Device
from concord.settings import GreyRange, complaints, override
from concord.storage.atomic import lock, make_directories, read_json, write_atomically, write_json
from concord.system import resolve_device, timed_steps

RECORD, SPACE = "experts.json", "space.safetensors"
PARAMETERS = "parameters"
EVERY = 60.0
"""Seconds between two checkpoints of an expert, at least."""
LARGEST_WHITENED = 64
"""Side of the largest images that are whitened: the matrix has the square of 3 x side^2 entries."""


class ExpertSettings(BaseModel):
    """What experts are trained with.

    Args:
        experts: how many; more may be added later.
        epochs, lr, batch: of stochastic gradient descent without momentum and decay.
        dsa: families of differentiable Siamese augmentation, of which one is drawn for each batch; empty, none.
        zca: whether images are whitened, as in the field's CIFAR tables.
        space: else the data set by whose mean and deviation they are normalised, null for those of these images.
        size: pixels of the images; null for their own, where they are squares alike.
        depth, width: of the networks, ConvNets of instance norm; depth null is 3 at 32 px, and one more each time that
            doubles.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    experts: PositiveInt = 100
    epochs: PositiveInt = 50
    lr: PositiveFloat = 0.01
    batch: PositiveInt = 256
    dsa: Annotated[str, AfterValidator(dsa_strategy)] = "color_crop_cutout_flip_scale_rotate"
    zca: bool = False
    space: SpaceName | None = None
    classes: list[str] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    depth: Annotated[int, Field(ge=1, le=6)] | None = None
    width: PositiveInt = 128
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    grey_range: GreyRange | None = None
    max_pixels: PositiveInt | None = None
    device: Device = "auto"

    @model_validator(mode="after")
    def _one_space(self) -> "ExpertSettings":
        if self.zca and self.space is not None:
            raise ValueError("zca and space say the same; give one of them")
        return self


@dataclass(frozen=True)
class Experts:
    """Trained experts in a directory.

    classes: folders in the order of the logits. side: pixels of their images. count: how many there are, from 0.
    """

    root: Path
    classes: tuple[str, ...]
    side: int
    depth: int
    width: int
    epochs: int
    count: int
    digest: str

    @cached_property
    def space(self) -> Space:
        """What their images' values are."""
        return open_form(self.root / SPACE).space

    def network(self) -> ConvNet:
        """A network of their shape, whose parameters say nothing."""
        with torch.random.fork_rng(devices=[]):
            return ConvNet(self.depth, len(self.classes), self.side, "instance", width=self.width)

    def parameters(self, number: int, epoch: int) -> Tensor:
        """Those of an expert after so many epochs, float32 (P,): only they are read."""
        path = self.root / expert_file(number)
        try:
            with safe_open(path, framework="pt") as file:
                rows = file.get_slice(PARAMETERS)
                return rows[epoch : epoch + 1][0]
        except (SafetensorError, OSError) as error:
            raise ConcordError(f"{path} is damaged or gone; train it anew with concord experts") from error


def expert_file(number: int) -> str:
    return f"expert-{number:03d}.safetensors"


def open_experts(root: Path, key: str = "experts") -> Experts:
    """Open a directory that `train_experts` filled. Raises ConcordError: it did not, or no expert is finished."""
    make = "train some: concord experts DATA --out DIR"
    record = read_json(root / RECORD, lambda reason: f"{root / RECORD} is damaged ({reason}); {make}")
    try:
        form = record["network"]
        shape = {name: int(form[name]) for name in ("side", "depth", "width")}
        classes, epochs, digest = tuple(map(str, record["classes"])), int(record["epochs"]), str(record["digest"])
    except (KeyError, TypeError, ValueError):
        raise ConcordError(f"{key}: {root} holds no experts; {make}") from None
    count = 0
    while (root / expert_file(count)).is_file():
        count += 1
    if not count:
        raise ConcordError(f"{key}: no expert in {root} is finished; give the command that began it again")
    return Experts(root, classes, **shape, epochs=epochs, count=count, digest=digest)


def train_experts(
    data: ImageSet, settings: ExpertSettings, out: Path, progress: Progress | None = None
) -> tuple[Experts, float]:
    """Train experts on all images of `data`, or what is missing of them; return them and the seconds it took.

    progress: counts epochs of all experts; of each it hears the `epoch`, how many `epochs` there are, and after an
    expert's last one the `accuracy` on its augmented batches, else None. Raises ConcordError: the directory has
    experts of other settings or images.
    """
    begun, hears = time.perf_counter(), progress or Silent()
    images = load(data, for_training(settings.size or own_side(data)))
    plan = _Plan.of(data, images, settings)
    with lock(out):
        make_directories(out)
        if not plan.require_same(out) or not (out / SPACE).is_file():
            save_form(out / SPACE, TensorForm(_space(images, settings)))
            write_json(out / RECORD, plan.record)
        space = open_form(out / SPACE).space
        trainer = _Trainer(images, space, settings, plan.depth, len(data.classes))
        paths = [out / expert_file(number) for number in range(settings.experts)]
        total, done = settings.experts * settings.epochs, settings.epochs * sum(path.is_file() for path in paths)
        hears.begin(total, done)
        for number, path in enumerate(paths):
            if path.is_file():
                continue
            done = trainer.train(number, path, hears, done, total)
    return open_experts(out), time.perf_counter() - begun


@dataclass(frozen=True)
class _Plan:
    """What a directory of experts is filled with. record: what it says of itself."""

    depth: int
    record: dict[str, Any]

    @classmethod
    def of(cls, data: ImageSet, images: TensorSet, settings: ExpertSettings) -> "_Plan":
        if settings.zca and images.side > LARGEST_WHITENED:
            raise ConcordError(
                f"zca=true is for images up to {LARGEST_WHITENED} px, these have {images.side}; leave it out"
            )
        depth = settings.depth or usual_depth(images.side)
        identity = settings.model_dump(mode="json", exclude={"experts", "device"}) | {"images": images.digest}
        record = {
            "classes": [entry.folder for entry in data.classes],
            "epochs": settings.epochs,
            "network": {"side": images.side, "depth": depth, "width": settings.width},
            "settings": identity,
            "digest": f"{sample_seed(0, json.dumps(identity, sort_keys=True), 'experts'):012x}",
        }
        return cls(depth, record)

    def require_same(self, out: Path) -> bool:
        """Whether the directory has experts of this plan already; a ConcordError where it has others."""
        before = read_json(out / RECORD)
        if before and before.get("digest") != self.record["digest"]:
            raise ConcordError(f"{out} has experts of other settings or images; give another --out, or change it back")
        return bool(before)


@dataclass(frozen=True)
class ExpertsEstimate:
    """What a call would train. steps, seconds: of the experts that lack. store_bytes: of all of them on disk.

    seconds: as many as by the fastest of the timed steps, and as by the slowest.
    """

    experts: int
    lacking: int
    epochs: int
    images: int
    classes: int
    side: int
    depth: int
    width: int
    batch: int
    steps: int
    seconds: tuple[float, float]
    store_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


TIMED = 4
"""Steps that are timed, after one that is not."""


def estimate_experts(data: ImageSet, settings: ExpertSettings, out: Path) -> ExpertsEstimate:
    """Time a few steps of an expert; nothing is written. Raises ConcordError as `train_experts` does."""
    images = load(data, for_training(settings.size or own_side(data)))
    plan = _Plan.of(data, images, settings)
    plan.require_same(out)
    trainer = _Trainer(images, _space(images, settings), settings, plan.depth, len(data.classes))
    net, generator = trainer.network(0), torch.Generator().manual_seed(0)
    optimiser = torch.optim.SGD(net.parameters(), lr=settings.lr)
    step = partial(trainer.step, net, optimiser, torch.arange(min(settings.batch, len(images))), generator)
    low, high = timed_steps([lambda: float(step())] * (TIMED + 1), resolve_device(settings.device))
    lacking = sum(not (out / expert_file(number)).is_file() for number in range(settings.experts))
    steps = lacking * settings.epochs * -(-len(images) // settings.batch)
    parameters = sum(one.numel() for one in net.parameters())
    return ExpertsEstimate(
        settings.experts,
        lacking,
        settings.epochs,
        len(images),
        len(data.classes),
        images.side,
        plan.depth,
        settings.width,
        settings.batch,
        steps,
        (steps * low, steps * high),
        settings.experts * (settings.epochs + 1) * parameters * 4,
    )


class _Trainer:
    """Trains one expert after the other on the same images."""

    def __init__(self, images: TensorSet, space: Space, settings: ExpertSettings, depth: int, classes: int) -> None:
        self._device = torch.device(resolve_device(settings.device))
        self._space, self._settings = space.to(self._device), settings
        # Whitening takes as long as a network's pass, so that it is done once; else values are made of each batch.
        self._images = images.within(space, 3) if space.whitened else images
        self._shape = depth, classes, images.side

    def network(self, number: int) -> ConvNet:
        """Expert `number` before its first epoch."""
        depth, classes, side = self._shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_seed(self._settings.seed, "expert", number))
            net = ConvNet(depth, classes, side, "instance", width=self._settings.width)
        return net.to(self._device)

    def train(self, number: int, path: Path, hears: Progress, done: int, total: int) -> int:
        """Train expert `number` to its file; `done` of `total` epochs are, and how many afterwards is returned."""
        part = path.with_name(f".{path.name}.checkpoint")
        net = self.network(number)
        rows = _rows(part) or [parameters_of(net).cpu()]
        here = rows[-1].to(self._device, copy=True)  # parameters are views of it
        torch.nn.utils.vector_to_parameters(here, net.parameters())
        saved = time.monotonic()
        if len(rows) > 1:
            done += len(rows) - 1
            hears.advance(len(rows) - 1)
        for epoch in range(len(rows) - 1, self._settings.epochs):
            accuracy = self._epoch(net, number, epoch)
            rows.append(parameters_of(net).cpu())
            if not bool(rows[-1].isfinite().all()):
                raise ConcordError(
                    f"expert {number} has no finite parameters after epoch {epoch + 1}; give a smaller lr"
                )
            last, done = epoch + 1 == self._settings.epochs, done + 1
            if not last and time.monotonic() - saved > EVERY:
                write_atomically(part, save({PARAMETERS: torch.stack(rows)}))
                saved = time.monotonic()
            hears.advance(1, [{"epoch": done, "epochs": total, "accuracy": accuracy if last else None}])
        write_atomically(path, save({PARAMETERS: torch.stack(rows)}))
        part.unlink(missing_ok=True)
        return done

    def _epoch(self, net: ConvNet, number: int, epoch: int) -> float:
        """Once over all images; return the top-1 accuracy, in percent, of the batches as they came."""
        settings, right = self._settings, torch.zeros((), dtype=torch.long, device=self._device)
        generator = torch.Generator().manual_seed(sample_seed(settings.seed, f"expert {number}", epoch))
        optimiser = torch.optim.SGD(net.parameters(), lr=settings.lr)
        for index in torch.randperm(len(self._images), generator=generator).split(settings.batch):
            right += self.step(net, optimiser, index, generator)
        return 100 * int(right) / len(self._images)

    def step(self, net: ConvNet, optimiser: torch.optim.Optimizer, index: Tensor, generator: torch.Generator) -> Tensor:
        """One step on the images of these places (N,); return how many of them the network had right, ()."""
        values = self._images.pixels(index).to(self._device)
        values = values if self._space.whitened else self._space.of_pixels(values)
        if self._settings.dsa:
            view = dsa.draw(self._settings.dsa, len(index), generator)
            values = dsa.apply(values, {name: of.to(self._device) for name, of in view.items()}, None, None)
        labels = self._images.labels[index].to(self._device)
        logits = net(values)
        optimiser.zero_grad()
        F.cross_entropy(logits, labels).backward()
        optimiser.step()
        return (logits.argmax(1) == labels).sum()


def _rows(part: Path) -> list[Tensor]:
    """What a killed call left of an expert; none where it is torn."""
    try:
        with safe_open(part, framework="pt") as file:
            return list(file.get_tensor(PARAMETERS).unbind(0))
    except (SafetensorError, OSError):
        return []


def _space(images: TensorSet, settings: ExpertSettings) -> Space:
    if settings.zca:
        return fit_zca(images.images)
    return Space.named(settings.space) if settings.space is not None else channel_space(images)


def read_expert_settings(texts: Sequence[str]) -> ExpertSettings:
    """Read ``key=value`` texts. Raises ConcordError: an unknown key, or a value that does not fit."""
    values: dict[str, Any] = {}
    for text in texts:
        override(ExpertSettings, values, text)
    try:
        return ExpertSettings.model_validate(values)
    except ValidationError as error:
        raise ConcordError(complaints(ExpertSettings, error)) from None
