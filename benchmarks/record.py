"""The head of every benchmark's record, and how a record is written."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from concord.system import machine, package_version, slow_dtype, version

RESULTS = Path(__file__).parent / "results"


def fast_dtype() -> str:
    """What networks compute in: bfloat16, but where the processor only emulates it."""
    return "float32" if slow_dtype("bfloat16", "cpu") else "bfloat16"


def head(command: str | None = None, note: str = "", **values: Any) -> dict[str, Any]:
    """Return what a record begins with: schema, command, machine and versions; then what else is given.

    Args:
        command: after ``python benchmarks/``; as this process was called where it is None.
        note: on the machine, as in ``1 thread``.
        values: of the benchmark: seeds, rounds, ...
    """
    called = command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "schema": 1,
        "command": f"python benchmarks/{called}",
        "machine": machine() + (f", {note}" if note else ""),
        "concord": version(),
        "torch": package_version("torch"),
        **values,
    }


def write(path: Path, record: dict[str, Any], hidden: dict[str, str] | None = None) -> None:
    """Write a record for people to read: one key a line, any script as it is.

    Args:
        path: the file; its directory is made.
        record: JSON values.
        hidden: folders of this machine, and the words that stand for them in the record.
    """
    text = json.dumps(record, indent=1, ensure_ascii=False)
    for folder, word in (hidden or {}).items():
        text = text.replace(folder, word)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
