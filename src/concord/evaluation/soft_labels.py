"""Soft labels stored ahead, after Fast Knowledge Distillation (Shen and Xing 2022; docs/evaluation.md).

What was random about a view (order, crop, flip, mixing) is stored with the teacher's answer, so that whole float32
answers give the very training that a teacher online gives with the same seed. A store is a directory: ``labels.json``
says what it is of, ``epoch-00000.safetensors`` and so on hold an epoch each.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch import Tensor

from concord.data.tensors import TensorSet
from concord.errors import ConcordError
from concord.evaluation import training
from concord.evaluation.protocols import Protocol
from concord.evaluation.training import HERE, Batch, Batches, Compute, Labeller
from concord.events import Progress, Silent
from concord.storage.atomic import lock, read_json, write_atomically, write_json

Bits = Literal["float32", "float16", "uint8"]
_OF_BATCH = ("lam", "box", "dsa_family")
"""What a view has once a batch; everything else it has once an image."""
_STATED = ("protocol", "images", "set", "size", "epochs", "batch", "seed", "teacher", "top_k", "bits")


class LabelFormat(BaseModel):
    """How much of the teacher's answer is stored.

    top_k: so many of the largest probabilities, null for all; the rest is spread evenly over the other classes.
    bits: of a probability; ``uint8`` between the smallest and largest stored of each view.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    top_k: PositiveInt | None = None
    bits: Bits = "float32"


@dataclass(frozen=True)
class Packed:
    """Probabilities as stored: values (N, k) of `bits`, classes (N, k) or None for all, range (N, 2) for uint8."""

    values: Tensor
    classes: Tensor | None
    range: Tensor | None

    def tensors(self) -> dict[str, Tensor]:
        found = {"values": self.values, "classes": self.classes, "range": self.range}
        return {f"soft.{key}": value for key, value in found.items() if value is not None}


def pack(probabilities: Tensor, form: LabelFormat) -> Packed:
    """Store probabilities (N, K) float32 in fewer bytes."""
    count = probabilities.shape[1]
    values, classes = probabilities, None
    if form.top_k is not None and form.top_k < count:
        values, found = probabilities.topk(form.top_k, dim=1)
        classes = found.to(torch.uint8 if count <= 256 else torch.uint16)
    if form.bits == "uint8":
        low, high = values.amin(1, keepdim=True).half(), values.amax(1, keepdim=True).half()
        span = (high.float() - low.float()).clamp_min(1e-8)  # as `unpack` has it: in half the difference is rounded
        steps = ((values - low.float()) / span * 255).round().clamp(0, 255).to(torch.uint8)
        return Packed(steps, classes, torch.cat([low, high], dim=1))
    return Packed(values.half() if form.bits == "float16" else values, classes, None)


def unpack(packed: Packed, classes: int) -> Tensor:
    """Probabilities (N, classes) float32; what was not stored shares the rest evenly, so that a row sums to one."""
    values = packed.values.float()
    if packed.range is not None:
        low, high = packed.range.float().split(1, dim=1)
        values = low + values / 255 * (high - low)
    if packed.classes is None:
        return values if packed.values.dtype == torch.float32 else values / values.sum(1, keepdim=True)
    kept = values.shape[1]
    values = values / values.sum(1, keepdim=True).clamp_min(1.0)  # rounding may lift the sum above one
    rest = (1 - values.sum(1, keepdim=True)).clamp_min(0) / (classes - kept)
    return rest.expand(-1, classes).scatter(1, packed.classes.long(), values)


def store_labels(
    out: Path,
    data: TensorSet,
    batches: Batches,
    labeller: Labeller,
    protocol: Protocol,
    facts: dict[str, Any],
    form: LabelFormat,
    compute: Compute = HERE,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Store the teacher's labels of every view of a training; return what labels.json holds, `facts` among it."""
    from safetensors.torch import save

    with lock(out):
        head = head_of(out, data, protocol, facts, form)
        write_json(out / "labels.json", head)
        data, progress = data.to(compute.device), progress or Silent()
        normalise = training.normalisation(protocol, compute)
        progress.begin(facts["epochs"], 0)
        for epoch in range(facts["epochs"]):
            if not is_stored(out, epoch):
                drawn, soft = list(batches.epoch(epoch)), []
                for batch in drawn:
                    _, pixels = training.augmented_batch(data, batch, protocol, facts["size"], normalise)
                    soft.append(
                        training.soft_labels(labeller, data.colours(pixels), protocol.temperature, compute).cpu()
                    )
                write_atomically(_file(out, epoch), save(tensors_of(drawn, torch.cat(soft), form)))
            progress.advance(1)
        head["bytes"] = sum(_file(out, epoch).stat().st_size for epoch in range(facts["epochs"]))
        write_json(out / "labels.json", head)
    return head


def head_of(out: Path, data: TensorSet, protocol: Protocol, facts: dict[str, Any], form: LabelFormat) -> dict[str, Any]:
    """What labels.json holds while epochs lack; a ConcordError where `out` holds labels of something else."""
    head = {"protocol": protocol.model_dump(mode="json"), "set": data.digest, **form.model_dump(), **facts}
    earlier = _head(out) if (out / "labels.json").is_file() else head
    if keys := ", ".join(key for key in _STATED if earlier.get(key) != head[key]):
        raise ConcordError(f"{out} holds soft labels of something else ({keys} differ); give another --out")
    return head


def is_stored(out: Path, epoch: int) -> bool:
    return _file(out, epoch).is_file()


def tensors_of(batches: Sequence[Batch], soft: Tensor, form: LabelFormat) -> dict[str, Tensor]:
    """What is stored of batches, with their labels (N, K)."""
    return joined(batches) | pack(soft, form).tensors()


def joined(batches: Sequence[Batch]) -> dict[str, Tensor]:
    """The batches of an epoch as a few tensors, by image (N, ...) or by batch (B, ...)."""
    found = {
        "index": torch.cat([batch.index for batch in batches]).to(torch.int32),
        "sizes": torch.tensor([len(batch.index) for batch in batches], dtype=torch.int32),
        "mixed": torch.tensor([bool(batch.mixing) for batch in batches]),
    }
    for part in ("view", "mixing"):
        views = [view for batch in batches if (view := getattr(batch, part))]
        for key in views[0] if views else ():
            values = [view[key] for view in views]
            found[f"{part}.{key}"] = torch.stack(values) if key in _OF_BATCH else torch.cat(values)
    return found


def parted(tensors: dict[str, Tensor], classes: int) -> Iterator[Batch]:
    """The batches of an epoch from what `joined` made of them, with their soft labels."""
    packed = Packed(tensors["soft.values"], tensors.get("soft.classes"), tensors.get("soft.range"))
    soft, at, mixed_at, mixed_number = unpack(packed, classes), 0, 0, 0
    for number, (n, mixed) in enumerate(zip(tensors["sizes"].tolist(), tensors["mixed"].tolist(), strict=True)):
        rows, mixing = slice(at, at + n), {}
        if mixed:
            mixing = _view(tensors, "mixing.", slice(mixed_at, mixed_at + n), mixed_number)
            mixed_at, mixed_number = mixed_at + n, mixed_number + 1
        yield Batch(tensors["index"][rows].long(), _view(tensors, "view.", rows, number), mixing, soft[rows])
        at += n


def _view(tensors: dict[str, Tensor], prefix: str, rows: slice, number: int) -> dict[str, Tensor]:
    found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {name: value[number] if name in _OF_BATCH else value[rows] for name, value in found.items()}


@dataclass(frozen=True)
class Stored:
    """Batches out of a store; see `open_labels`. digest: a text that changes when what is stored does."""

    folder: Path
    classes: int
    digest: str

    def epoch(self, number: int) -> Iterator[Batch]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = _file(self.folder, number)
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConcordError(
                f"cannot read the soft labels {file}: {error}; take that file away, and `concord labels` makes it again"
            ) from error
        yield from parted(tensors, self.classes)


def open_labels(folder: Path, cell: dict[str, Any], protocol: Protocol, data: TensorSet) -> Stored:
    """Open a finished store for a cell; a ConcordError if it is of another set, protocol or size."""
    head = _head(folder)
    if "bytes" not in head:
        raise ConcordError(f"{folder} is not finished: give the same `concord labels` command again")
    wanted = {"set": data.digest, "protocol": protocol.model_dump(mode="json")}
    wanted |= {key: cell[key] for key in ("size", "epochs", "batch")}
    for key, value in wanted.items():
        if (there := head.get(key)) != value:
            said = "other images (or another IPC)" if key == "set" else f"{key}={there}, not {value}"
            said = _differing(there, value) if isinstance(there, dict) and isinstance(value, dict) else said
            raise ConcordError(f"the soft labels in {folder} are of {said}; store them for this cell")
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()[:16]
    return Stored(folder, len(head["classes"]), digest)


def store_facts(folder: Path) -> dict[str, Any]:
    """What a report says of a store: its teacher, form and size. Raises ConcordError: there is none."""
    head = _head(folder)
    keys = ("teacher_name", "teacher_accuracy", "top_k", "bits", "epochs", "images")
    return {key: head.get(key) for key in keys} | {"store_bytes": head.get("bytes")}


def _differing(there: dict[str, Any], here: dict[str, Any]) -> str:
    keys = ", ".join(key for key in here if there.get(key) != here[key])
    differs = there.get("name") != here["name"]
    return f"the protocol {there.get('name')}" + (f", not {here['name']}" if differs else f" with another {keys}")


def _head(folder: Path) -> dict[str, Any]:
    path = folder / "labels.json"
    if not path.is_file():
        raise ConcordError(f"{folder} holds no soft labels: expected labels.json, as `concord labels` leaves it")
    return read_json(path, lambda _: f"{path} is damaged; store the labels anew, in another directory")


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch:05d}.safetensors"
