"""`concord verify`: whether a set is whole."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import counted, plain

MOST = 12
"""Faults that are shown."""


def verify(
    directory: Annotated[Path, Argument(metavar="DIR", help="What `concord distill` or `concord export` left.")],
    as_json: AsJson = False,
) -> None:
    """Say whether a set is whole, by the size and SHA-256 of each file.

    Exit code 0: it is. 2: it is not; what is missing or changed is named.

      concord verify out/reef
    """
    with user_errors():
        from concord.runs.verify import verify as look

        found = look(directory)
    if as_json:
        lists = {"checked": dict(found.checked), "faults": list(found.faults), "notes": list(found.notes)}
        print_json({"schema": 1, "whole": not found.faults, **lists})
    else:
        console = Console()
        said = (counted(len(found.faults), "fault"), "bold red") if found.faults else ("whole", "bold green")
        console.say((plain(str(directory)), "bold"), ": ", said)
        for what, result in found.checked:
            console.say((f"  {plain(what):<12}", "dim"), result)
        for fault in found.faults[:MOST]:
            console.say((f"  {plain(fault)}", "red"))
        if len(found.faults) > MOST:
            console.say((f"  and {len(found.faults) - MOST} more", "red"))
        for note in found.notes:
            console.say((f"  note: {plain(note)}", "dim"))
    if found.faults:
        raise Exit(2)
