"""A DiT fine-tuned to make sets that are representative and diverse (Minimax, Gu et al. 2024), resumed where killed.

What is random in a step depends on the seed and the step alone, and a checkpoint holds all else, so that a training
that was killed ends with the bytes of one that was not.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from concord.data import ClassEntry, ImageSet, open_data, restrict
from concord.data.prefetch import read_ahead
from concord.data.sampling import evenly
from concord.diffusion.minimax import Memory, minimax_loss
from concord.diffusion.variational import variational_bound
from concord.errors import ConcordError
from concord.evaluation.settings import validated
from concord.events import Progress, Silent
from concord.models.difffit import fold, prepare
from concord.models.hub import find_model, trace_of
from concord.pipelines.class_ids import class_ids
from concord.pipelines.dit import DiT
from concord.plan import sample_seed
from concord.recipe import Device
from concord.recipe.sections import Fraction, Weight
from concord.settings import override
from concord.storage.atomic import lock, new_directory, read_json, write_json
from concord.storage.images import fitted, to_pixels
from concord.storage.torch_file import read_checkpoint, write_checkpoint
from concord.system import resolve_device, resolve_dtype, slow_dtype, version

EVERY = 60.0
"""Seconds between two checkpoints, at least."""
RECORD = "finetune.json"
"""What a fine-tuned directory says of its training."""


class FinetuneSettings(BaseModel):
    """What is trained on what, with Minimax's published values as defaults.

    Args:
        model: the `DiTPipeline` that is tuned, a directory or hub id.
        classes: of the data, as in a recipe; null takes all. images: of each class at most, evenly spaced.
        epochs, batch, lr: of AdamW without weight decay.
        representativeness, diversity: weights of the two terms; 0 leaves one out, and with both 0 the tuning is plain.
        memory: latents of each class that the terms look back on.
        ema: decay of the averaged weights, which are those that are kept.
        dropout: the share of labels that are dropped for classifier-free guidance.
        subsets: parts of the classes, in the order of the model's class ids, each tuned on its own; subset: only this
            one, from 0.
        device, dtype: ``auto`` is bfloat16 (autocast) on CUDA, float32 elsewhere. threads: of the CPU, null for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = "facebook/DiT-XL-2-256"
    classes: list[str] | None = None
    images: PositiveInt | None = None
    epochs: PositiveInt = 8
    batch: PositiveInt = 8
    lr: Annotated[float, Field(gt=0)] = 1e-3
    representativeness: Weight = 0.002
    diversity: Weight = 0.008
    memory: PositiveInt = 64
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.9999
    dropout: Fraction = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    subsets: PositiveInt = 1
    subset: Annotated[int, Field(ge=0)] | None = None
    device: Device = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: PositiveInt | None = None


_BESIDE_IDENTITY = {"subset", "device", "threads"}


@dataclass(frozen=True)
class Tuned:
    """A directory that was made, or was there. classes: their folders; loss: the mean noise error of the last epoch."""

    path: Path
    classes: tuple[str, ...]
    images: int
    steps: int
    loss: float
    seconds: float


def read_finetune_settings(texts: Sequence[str]) -> FinetuneSettings:
    """Read ``key=value`` texts. Raises ConcordError: an unknown key, a value that does not fit."""
    values: dict[str, Any] = {}
    for text in texts:
        override(FinetuneSettings, values, text)
    settings = validated(FinetuneSettings, values)
    if settings.subset is not None and settings.subset >= settings.subsets:
        raise ConcordError(f"subset={settings.subset}: there are {settings.subsets}, counted from 0 (subsets=N)")
    return settings


def finetune(data: str, settings: FinetuneSettings, out: Path, progress: Progress | None = None) -> list[Tuned]:
    """Tune the model on `data`: into `out`, or with subsets into ``out/00``, ``out/01``, ... one after another.

    Each is a directory that `pipeline.checkpoints` takes. The same call goes on where it was killed; what is finished
    stays as it is. Raises ConcordError: a model that is no DiT, classes that it does not know, fewer images than a
    batch, a directory of another training.
    """
    hears = progress or Silent()
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    images = restrict(open_data(data), settings.classes, {})
    for note in [*images.notes, *slow_dtype(settings.dtype, device)]:
        hears.note(note)
    model = _model(settings, device)
    ids = class_ids(model.labels, images.classes, settings.model)
    parts = _parts(images, ids, settings.subsets)
    tuned = []
    for number, part in enumerate(parts):
        if settings.subset not in (None, number):
            continue
        place = out if settings.subsets == 1 else out / f"{number:02d}"
        some = restrict(images, [entry.key for entry in part], {}) if len(parts) > 1 else images
        own = {entry.key: ids[entry.label] for entry in part}
        if settings.subsets > 1:
            hears.note(f"subset {number} of {len(parts)}: {len(part)} classes into {place}")
        tuned.append(_tune(some, own, settings, place, device, hears))
    if settings.subsets > 1:
        write_json(out / "checkpoints.json", {"checkpoints": assigned(out, parts, ids)})
    return tuned


def assigned(out: Path, parts: Sequence[Sequence[ClassEntry]], ids: Sequence[int]) -> dict[str, str | list[str]]:
    """What `pipeline.checkpoints` says of the subsets: a range of ImageNet's ids where it is one, else folders."""
    found: dict[str, str | list[str]] = {}
    for number, part in enumerate(parts):
        own = [ids[entry.label] for entry in part]
        whole = all(entry.model_id is not None for entry in part) and own == list(range(own[0], own[0] + len(own)))
        found[str(out / f"{number:02d}")] = f"{own[0]}-{own[-1]}" if whole else [entry.folder for entry in part]
    return found


def _parts(data: ImageSet, ids: Sequence[int], subsets: int) -> list[list[ClassEntry]]:
    """The classes in the order of the model's ids, in `subsets` parts of sizes that differ by one at most."""
    entries = sorted(data.classes, key=lambda entry: ids[entry.label])
    if subsets > len(entries):
        raise ConcordError(f"subsets={subsets}: the data have {len(entries)} classes; give no more")
    ends = [len(entries) * n // subsets for n in range(subsets + 1)]
    return [entries[first:last] for first, last in pairwise(ends)]


def _model(settings: FinetuneSettings, device: str) -> DiT:
    model = DiT.from_pretrained(settings.model, device=device)
    kind = model.pipeline.scheduler.config.get("prediction_type", "epsilon")
    if kind != "epsilon":
        raise ConcordError(f'"{settings.model}" predicts {kind}; Minimax tunes a DiT that predicts noise (model=...)')
    return model


def _tune(
    data: ImageSet, ids: Mapping[str, int], settings: FinetuneSettings, out: Path, device: str, hears: Progress
) -> Tuned:
    begun = time.perf_counter()
    entries = [entry for entry in data.classes]
    items = [(entry.label, item) for entry in entries for item in evenly(data.items(entry.label), settings.images)]
    if len(items) < settings.batch:
        raise ConcordError(f"{len(items)} images are less than a batch of {settings.batch}; give more, or batch=...")
    identity = {
        "settings": settings.model_dump(mode="json", exclude=_BESIDE_IDENTITY),
        "data": data.fingerprint,
        "classes": [entry.key for entry in entries],
        "model": trace_of(find_model(settings.model)),
    }
    if known := read_json(out / RECORD):
        return _finished(out, known, identity)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConcordError(f"{out} is there already; take it away, or give another --out")
    part = out.with_name(f".{out.name}.checkpoint")
    with lock(out.parent, f".{out.name}.tuning"):
        trainer = Trainer(_model(settings, device), settings, device)
        trainer.load((read_checkpoint(part, json.dumps(identity), "state") or {}).get("state"))
        per_epoch, saved, losses = len(items) // settings.batch, time.monotonic(), list[float]()
        hears.begin(settings.epochs, trainer.step // per_epoch)
        while trainer.step < settings.epochs * per_epoch:
            epoch = trainer.step // per_epoch
            losses = []
            for batch in _batches(data, items, settings, epoch, trainer.step % per_epoch, trainer.sides):
                labels = [label for label, _ in batch]
                known_as = [ids[entries[label].key] for label in labels]
                losses.append(trainer.take(torch.stack([pixels for _, pixels in batch]), known_as))
                if time.monotonic() - saved > EVERY:
                    write_checkpoint(part, json.dumps(identity), {"state": trainer.state()})
                    saved = time.monotonic()
            hears.advance(1, [{"epoch": epoch + 1, "epochs": settings.epochs, "loss": float(np.mean(losses))}])
        loss = float(np.mean(losses)) if losses else trainer.last
        facts = {"images": len(items), "steps": trainer.step, "loss": round(loss, 6)}
        seconds = time.perf_counter() - begun
        with new_directory(out) as folder:
            trainer.save(folder)
            record = {"identity": identity, **facts, "seconds": round(seconds, 1), "concord": version()}
            write_json(folder / RECORD, record)
        part.unlink(missing_ok=True)
        (out.parent / f".{out.name}.tuning").unlink(missing_ok=True)
    return Tuned(out, tuple(entry.folder for entry in entries), len(items), trainer.step, loss, seconds)


def _finished(out: Path, known: Mapping[str, Any], identity: Mapping[str, Any]) -> Tuned:
    """What is there already, if it is of this training."""
    earlier = known.get("identity", {})
    if earlier != identity:
        differing = [key for key in identity if earlier.get(key) != identity[key]]
        raise ConcordError(f"{out} was tuned with another {', '.join(differing)}; take it away, or give another --out")
    return Tuned(out, tuple(identity["classes"]), known["images"], known["steps"], known["loss"], known["seconds"])


def _batches(
    data: ImageSet,
    items: Sequence[tuple[int, str]],
    settings: FinetuneSettings,
    epoch: int,
    first: int,
    sides: tuple[int, int],
) -> Iterator[list[tuple[int, Tensor]]]:
    """The batches (label, pixels in [-1, 1]) of an epoch from its `first` on, in the order that seed and epoch say."""
    order = np.random.default_rng([settings.seed, epoch]).permutation(len(items))
    whole = len(items) // settings.batch * settings.batch  # what is left over waits for another epoch
    chosen = [items[i] for i in order[first * settings.batch : whole]]
    labels = iter(label for label, _ in chosen)

    def pixels(_: str, image: Any) -> Tensor:
        return to_pixels(fitted(image, sides))

    for some in read_ahead(data, [item for _, item in chosen], pixels, settings.batch):
        yield [(next(labels), made) for _, made in some]


class Trainer:
    """A DiT with DiffFit's factors, its averaged weights, optimiser, memories, and the steps that they have taken."""

    def __init__(self, model: DiT, settings: FinetuneSettings, device: str) -> None:
        self.model, self.settings, self.device = model, settings, torch.device(device)
        self.trained = prepare(model.denoiser)
        self.average = {name: one.detach().clone() for name, one in self.trained.items()}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=settings.lr, weight_decay=0.0)
        self.real, self.made = Memory(settings.memory), Memory(settings.memory)
        self.step, self.last = 0, 0.0
        self.abar: Tensor = model.pipeline.scheduler.alphas_cumprod.to(self.device)
        self._half = resolve_dtype(settings.dtype, device) == "bfloat16"

    @property
    def sides(self) -> tuple[int, int]:
        return self.model.sides

    def take(self, pixels: Tensor, labels: list[int]) -> float:
        """A step on images (B, 3, H, W) in [-1, 1] of these class ids; returns the error of the predicted noise."""
        settings, count = self.settings, len(labels)
        draw = torch.Generator().manual_seed(sample_seed(settings.seed, "finetune", self.step))
        flipped = torch.rand(count, generator=draw) < 0.5
        t = torch.randint(len(self.abar), (count,), generator=draw).to(self.device)
        dropped = torch.rand(count, generator=draw) < settings.dropout
        seeds = torch.randint(2**62, (count,), generator=draw).tolist()
        pixels = torch.where(flipped[:, None, None, None], pixels.flip(-1), pixels)
        x0 = self.model.encode(pixels, [torch.Generator().manual_seed(seed) for seed in seeds])
        noise = torch.randn(x0.shape, generator=draw).to(self.device)
        null = int(self.model.denoiser.config.num_embeds_ada_norm)
        asked = torch.where(dropped, null, torch.tensor(labels)).to(self.device)
        error, loss = self.losses(x0, noise, t, asked, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            for name, parameter in self.trained.items():
                self.average[name].lerp_(parameter, 1 - settings.ema)
        self.step += 1
        self.last = float(error.detach())
        return self.last

    def losses(self, x0: Tensor, noise: Tensor, t: Tensor, asked: Tensor, labels: list[int]) -> tuple[Tensor, Tensor]:
        """The mean error of the predicted noise, and what is minimised; afterwards the memories hold this batch.

        x0, noise: (B, C, h, w). t: (B,) timesteps. asked: (B,) class ids, some of them dropped. labels: whose memories.
        """
        abar, settings = self.abar[t].view(-1, 1, 1, 1), self.settings
        x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            output = self.model.denoiser(x_t, timestep=t, class_labels=asked).sample
        predicted, learned = output.float().chunk(2, dim=1) if self.model.learned_variance else (output.float(), None)
        error = (predicted - noise).square().mean()
        loss = error
        if learned is not None:
            loss = loss + variational_bound(x0, x_t, predicted, learned, t, self.abar).mean()
        weights = settings.representativeness, settings.diversity
        if any(weights):
            clean = (x_t - (1 - abar).sqrt() * predicted) / abar.sqrt()  # Eq. 8, not clipped
            loss = loss + minimax_loss(clean, labels, self.real, self.made, weights)
            self.real.add(x0, labels)  # after use: a latent is not its own example
            self.made.add(clean, labels)
        return error, loss

    def state(self) -> dict[str, Any]:
        """All that a further step depends on, as tensors and plain values."""
        return {
            "step": self.step,
            "last": self.last,
            "trained": {name: one.detach() for name, one in self.trained.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "real": self.real.state(),
            "made": self.made.state(),
        }

    def load(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a `state`; None begins anew."""
        if state is None:
            return
        self.step, self.last = int(state["step"]), float(state["last"])
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(state["trained"][name])
                self.average[name].copy_(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.real.load(state["real"], self.device)
        self.made.load(state["made"], self.device)

    def save(self, folder: Path) -> None:
        """Write the averaged weights, factors folded, as `pipeline.checkpoints` takes them; training ends with it."""
        transformer = self.model.denoiser
        with torch.no_grad():
            for name, parameter in self.trained.items():
                parameter.copy_(self.average[name])
        fold(transformer)
        transformer.to("cpu").save_pretrained(folder / "transformer")
        self.model.pipeline.scheduler.save_pretrained(folder / "scheduler")
