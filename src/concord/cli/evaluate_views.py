"""What `concord evaluate` shows: what a training goes by, and the table of all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concord.cli.console import Console
from concord.evaluation.estimate import Estimate, StepsEstimate
from concord.evaluation.record import way
from concord.evaluation.regimes import awaited, blocks, command
from concord.evaluation.table import aligned, protocol, table
from concord.runs.directory import Run
from concord.runs.store import MANIFEST
from concord.text import between, counted, plain, size

ALONE = "What a set is worth depends on its labels: protocol=regimes has a teacher online, fixed labels and hard ones."
BESIDE = "What a set is worth depends on its labels, and is less than it looks where random images reach as much:"


def show(record: Mapping[str, Any], *paths: Path) -> None:
    """Print what an evaluation came to, and where its record lies, or those of its draws."""
    console = Console()
    run = Run(paths[0].parent) if (paths[0].parent / "images" / MANIFEST).is_file() else None
    found = blocks(record, awaited(run) if run else ())
    console.print()
    for line, is_head in table(record, awaited(run) if run else ()):
        console.say(f"  {line}" if line else "", style="dim" if is_head else "")
    lacks = not found or any(block.lacks for block in found)
    if lacks and run is not None:
        console.say(("  beside   ", "dim"), BESIDE)
        console.say("           ", plain(command(run.out, str(record["test"]), found, run)))
    elif lacks:
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
            [*map(str, [plain(cell.student), cell.size, plain(way(cell.as_json())), cell.ipc or "all", *numbers]), each]
        )
    for line, is_head in aligned(rows, left=1):
        console.say(f"  {line}", style="dim" if is_head else "")
    lacking = counted(sum(cell.lacking for cell in found.cells), "training")
    at_once = f", {found.workers} at once" if found.workers > 1 else ""
    told = f"{lacking}{at_once}: {between(found.seconds)} here" if found.seconds[1] else "nothing is left to train"
    console.say(("  time  ", "dim"), told)


def show_steps(found: StepsEstimate, command: str, source: str, out: Path) -> None:
    """Print what a dry run of a teacher's training or of its labels found."""
    console = Console()
    console.say((f"concord {command} ", "bold"), f"{plain(f'{source} · {out}')} ", ("(dry run)", "yellow"))
    lines = [
        ("network", f"{found.student} at {found.size} px, protocol {found.protocol}"),
        ("images", f"{found.images} of {counted(found.classes, 'class')}"),
        ("steps", f"{found.steps}: {counted(found.epochs, 'epoch')} in batches of {found.batch}"),
    ]
    if found.store_bytes is not None:
        lines.append(("disk", f"about {size(found.store_bytes)}"))
    lines.append(("time", f"{between(found.seconds)} here" if found.steps else "nothing is left to do"))
    console.rows(lines)


def title(cell: Mapping[str, Any]) -> str:
    ipc = "all images" if cell["ipc"] is None else f"IPC {cell['ipc']}"
    return f"{cell['student']}, {protocol(cell)}, {ipc}"
