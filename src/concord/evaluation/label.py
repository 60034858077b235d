"""From a set's directory to its stored soft labels: one cell of an evaluation, without the student."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concord.errors import ConcordError
from concord.evaluation.cells import Cell, compute_of, held_at, open_sets, plan, require_students
from concord.evaluation.check_teacher import sound_teacher
from concord.evaluation.protocols import protocol
from concord.evaluation.settings import ProtocolConfig, Settings, changed_protocol, read_values, validated
from concord.evaluation.soft_labels import LabelFormat, store_labels
from concord.evaluation.training import Compute
from concord.events import Progress, Silent
from concord.models.students import canonical
from concord.models.teachers import Teacher
from concord.settings import override

_SINGLE = ("student", "protocol", "ipc")


def read_label_settings(texts: Sequence[str]) -> tuple[tuple[Settings, ProtocolConfig], LabelFormat]:
    """Read ``key=value`` texts: one cell with soft labels, one seed, and the form of the store, or a ConcordError."""
    values: dict[str, Any] = {}
    keyed = [(text.partition("=")[0].strip(), text) for text in texts]
    for key, text in keyed:
        if key in LabelFormat.model_fields:
            override(LabelFormat, values, text)
    settings, of_protocol = read_values(Settings, [text for key, text in keyed if key not in LabelFormat.model_fields])
    if "seeds" not in dict(keyed):
        settings = settings.model_copy(update={"seeds": [0]})
    for key in (*_SINGLE, "seeds"):
        if len(getattr(settings, key) or [0]) > 1:
            raise ConcordError(f"{key}: soft labels are stored for one at a time, got {getattr(settings, key)}")
    canonical(settings.student[0])
    way = changed_protocol(protocol(settings.protocol[0]), of_protocol)
    if way.protocol.labels != "soft":
        why = "has one label an image, which is not stored" if way.protocol.labels == "fixed" else "has no soft labels"
        raise ConcordError(f'protocol "{way.protocol.name}" {why}; give protocol=rded or protocol=paper')
    return (settings, way), validated(LabelFormat, values)


@dataclass(frozen=True)
class Labelling:
    """A cell whose labels are to be stored, before the first of them. facts: what labels.json says of it."""

    cell: Cell
    teacher: Teacher
    compute: Compute
    facts: dict[str, Any]


def prepared(
    directory: Path,
    settings: tuple[Settings, ProtocolConfig],
    test: str | None = None,
    progress: Progress | None = None,
) -> Labelling:
    """Read what the labels need, the teacher checked on `test` or the set, and refuse what they cannot take."""
    chosen, way = settings
    progress = progress or Silent()
    data, held = open_sets(directory, test, chosen)
    for note in dict.fromkeys([*data.notes, *held.notes]):
        progress.note(note)
    require_students(data, chosen, [way])
    tested_on = held_at(held)
    teacher, found = sound_teacher(directory, data, tested_on, chosen)
    [cell] = plan(data, held, chosen, [way], teacher.fingerprint, tested_on)
    facts = {
        **{key: cell.record[key] for key in ("images", "size", "epochs", "batch")},
        "seed": chosen.seeds[0],
        "teacher": teacher.fingerprint,
        "teacher_name": teacher.name,
        "teacher_accuracy": found["accuracy"],
        "classes": [entry.folder for entry in data.classes],
    }
    return Labelling(cell, teacher, compute_of(chosen), facts)


def label(
    directory: Path,
    out: Path,
    settings: tuple[Settings, ProtocolConfig],
    form: LabelFormat,
    test: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Store soft labels for a cell, the teacher checked on `test` or the set; return labels.json, with `seconds`."""
    begun = time.perf_counter()
    ready = prepared(directory, settings, test, progress)
    cell, facts, logits = ready.cell, ready.facts, ready.teacher.logits
    batches, protocol = cell.drawn(facts["seed"]), cell.way.protocol
    head = store_labels(out, cell.train, batches, logits, protocol, facts, form, ready.compute, progress)
    return {**head, "seconds": round(time.perf_counter() - begun, 2)}
