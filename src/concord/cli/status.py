"""`concord status`: how far a set is."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.text import counted, plain


def status(
    directory: Annotated[Path, Argument(metavar="DIR", help="The --out of `concord distill`.")],
    as_array: Annotated[
        bool, Option("--array", help="Print only the outstanding shards, as schedulers take them: 3,7-9.")
    ] = False,
    count: Annotated[int, Option("--of", min=0, help="How many shards there will be, where none began yet.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Say how far a set is, and which of its shards are outstanding.

    Nothing is opened but manifests: images count by the sizes of their files. `concord verify` looks at them whole.

      concord status out/photos
      sbatch --array=$(concord status out/photos --array --of 64) shard.sbatch
    """
    with user_errors():
        from concord.runs.shards import array
        from concord.runs.shards import status as look

        found = look(directory, count)
    outstanding = array(found.outstanding)
    if as_json:
        parts = [
            {"shard": p.shard.index, "made": p.made, "images": p.images, "running": p.running, "done": p.done}
            for p in found.parts
        ]
        whole = {"finished": found.finished, "images": found.images, "outstanding": found.outstanding}
        print_json({"schema": 1, **whole, "array": outstanding, "shards": parts})
        return
    if as_array:
        print(outstanding)
        return
    console = Console()
    what = "finished" if found.finished else "not finished"
    console.say((plain(str(directory)), "bold"), f": {what}, {counted(found.images, 'image')} there")
    running = ""
    if found.parts:
        running = array([part.shard.index for part in found.parts if part.running])
        done = array([part.shard.index for part in found.parts if part.done])
        rows = (("shards", str(len(found.parts))), ("done", done), ("running", running), ("outstanding", outstanding))
        for name, text in rows:
            console.say((f"  {name:<12}", "dim"), text or "none")
    if not found.finished:
        following = "the same `concord distill` command goes on"
        if found.parts and not found.outstanding:
            following = "wait for those that run" if running else f"concord merge {directory}"
        elif found.parts:
            following = "the outstanding shards again (--shard I/N), or `concord distill` without --shard"
        console.say(("  next        ", "dim"), plain(following))
