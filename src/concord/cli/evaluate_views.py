"""What `concord evaluate` shows: what a training goes by, and the table of all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concord.cli.console import Console
from concord.evaluation.estimate import Estimate
from concord.evaluation.protocols import GROUPS
from concord.evaluation.table import aligned, protocol, table
from concord.text import counted, duration, plain

REGIMES = GROUPS["regimes"]
ALONE = "What a set is worth depends on its labels: protocol=regimes has a teacher online, fixed labels and hard ones."


def show(record: Mapping[str, Any], *paths: Path) -> None:
    """Print what an evaluation came to, and where its record lies, or those of its draws."""
    console = Console()
    console.print()
    for line, is_head in table(record):
        console.say(f"  {line}" if line else "", style="dim" if is_head else "")
    if len({cell["protocol"] for cell in record["cells"]}.intersection(REGIMES)) < 2:
        console.say(("  labels   ", "dim"), ALONE)
    for path in paths:
        console.say(("  figures  ", "dim"), plain(str(path)), ("  all seeds, per class", "dim"))


def show_estimate(found: Estimate, directory: Path, test: str) -> None:
    """Print what a dry run of an evaluation found: a row a cell."""
    console = Console()
    about = plain(f"{directory} · {test}")
    console.say(("concord evaluate ", "bold"), f"{about} ", ("(dry run)", "yellow"))
    heads = ["student", "px", "protocol", "IPC", "images", "epochs", "batch", "seeds", "each"]
    rows = [heads]
    for cell in found.cells:
        numbers = [cell.images, cell.epochs, cell.batch, cell.lacking or "all there"]
        each = between(cell.seconds) if cell.lacking else ""
        rows.append(
            [*map(str, [plain(cell.student), cell.size, plain(cell.protocol), cell.ipc or "all", *numbers]), each]
        )
    for line, is_head in aligned(rows, left=1):
        console.say(f"  {line}", style="dim" if is_head else "")
    lacking = counted(sum(cell.lacking for cell in found.cells), "training")
    at_once = f", {found.workers} at once" if found.workers > 1 else ""
    told = f"{lacking}{at_once}: {between(found.seconds)} here" if found.seconds[1] else "nothing is left to train"
    console.say(("  time  ", "dim"), told)


def between(seconds: tuple[float, float]) -> str:
    """A range of times: ``3 min 20 s to 4 min 1 s``, and one where both are said alike."""
    low, high = map(duration, seconds)
    return low if low == high else f"{low} to {high}"


def title(cell: Mapping[str, Any]) -> str:
    ipc = "all images" if cell["ipc"] is None else f"IPC {cell['ipc']}"
    return f"{cell['student']}, {protocol(cell)}, {ipc}"
