"""A trained student as one safetensors file, with all that is needed to build it again and its classes in order."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from concord.errors import ConcordError
from concord.models.checkpoint import read_checkpoint
from concord.models.students import Student, build_student
from concord.storage.atomic import write_atomically

SCHEMA = 1
_KEY = "concord"


@dataclass(frozen=True)
class SavedClassifier:
    """What a file holds: the student, its classes in the logits' order, and what was noted about its training."""

    student: Student
    labels: tuple[str, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Header:
    """The file's header, as one JSON text: the library would write several in random order, and the bytes differ."""

    schema: int
    student: str
    classes: tuple[str, ...]
    size: int
    norm: str | None
    pool: str | None
    width: int | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    facts: dict[str, Any] = field(default_factory=dict)


_HEADER = TypeAdapter(_Header)


def save_classifier(path: Path, student: Student, labels: Sequence[str], **facts: Any) -> None:
    """Write a student with its classes, folder names in the order of its logits, atomically.

    The weights lie under the names that `student.net` has for them. `facts` are free (epochs, accuracy, seed), as JSON.
    """
    form = asdict(student.form)
    name, classes = form.pop("name"), form.pop("classes")
    if len(labels) != classes:
        raise ConcordError(f"{path}: {len(labels)} labels for a student of {classes} classes")
    header = _Header(SCHEMA, name, tuple(labels), **form, facts=facts)
    state = student.net.state_dict().items()
    weights = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state}
    write_atomically(path, save(weights, {_KEY: _HEADER.dump_json(header).decode()}))


def load_classifier(path: Path) -> SavedClassifier:
    """Read what `save_classifier` wrote (else a ConcordError); the student is on the CPU and in evaluation mode."""
    text = _header(path)
    if text is None:
        raise ConcordError(f"{path} is no classifier that concord wrote: its header names no student")
    try:
        header = _HEADER.validate_json(text)
    except ValidationError as cause:
        raise ConcordError(f"{path}: its header is damaged ({cause.errors()[0]['msg']})") from cause
    if header.schema > SCHEMA:
        raise ConcordError(f"{path} has schema {header.schema}, this concord reads {SCHEMA}; update concord")
    with torch.random.fork_rng(devices=[]):  # what is drawn for weights that are replaced is not to move others' draws
        choices = {key: getattr(header, key) for key in ("norm", "pool", "width", "mean", "std")}
        try:
            student = build_student(header.student, len(header.classes), header.size, **choices)
        except ConcordError as cause:
            raise ConcordError(f"{path}: its header asks for what cannot be built: {cause}") from cause
    fill(student.net, read_checkpoint(path), f"{path} does not fit a {student.name}")
    return SavedClassifier(student.eval(), header.classes, header.facts)


def is_classifier(path: Path) -> bool:
    """Whether concord wrote a safetensors file; one of others holds weights alone."""
    return _header(path) is not None


def fill(net: nn.Module, state: Mapping[str, Tensor], wrong: str) -> None:
    """Load weights that fit a network in every name and shape; else a ConcordError says one of each, after `wrong`."""
    own = net.state_dict()
    lacking = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]  # older than torch 0.4
    unknown = [n for n in state if n not in own]
    both = [n for n in own if n in state]
    shapes = [f"{n} {tuple(state[n].shape)} for {tuple(own[n].shape)}" for n in both if state[n].shape != own[n].shape]
    found = ((lacking, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
    if any(names for names, _ in found):
        says = ", ".join(f"{len(names)} weights {what} (such as {names[0]})" for names, what in found if names)
        raise ConcordError(f"{wrong}: {says}")
    net.load_state_dict(dict(state))


def _header(path: Path) -> str | None:
    if not path.is_file():
        raise ConcordError(f"{path}: there is no such file; give a `.safetensors` file")
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(_KEY)
    except (SafetensorError, OSError) as cause:
        raise ConcordError(f"{path} is no safetensors file, or a torn one: {cause}") from cause
