"""What `concord evaluate` shows: what a training goes by, and the table of all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concord.cli.console import Console
from concord.evaluation.protocols import GROUPS
from concord.evaluation.table import protocol, table
from concord.text import plain

REGIMES = GROUPS["regimes"]
ALONE = "What a set is worth depends on its labels: protocol=regimes has a teacher online, fixed labels and hard ones."


def show(record: Mapping[str, Any], path: Path) -> None:
    """Print what an evaluation came to, and where its record lies."""
    console = Console()
    console.print()
    for line, is_head in table(record):
        console.say(f"  {line}" if line else "", style="dim" if is_head else "")
    if len({cell["protocol"] for cell in record["cells"]}.intersection(REGIMES)) < 2:
        console.say(("  labels   ", "dim"), ALONE)
    console.say(("  figures  ", "dim"), plain(str(path)), ("  all seeds, per class", "dim"))


def title(cell: Mapping[str, Any]) -> str:
    """What a training goes by."""
    ipc = "all images" if cell["ipc"] is None else f"IPC {cell['ipc']}"
    return f"{cell['student']}, {protocol(cell)}, {ipc}"
