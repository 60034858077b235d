"""`concord reproduce`: the paper's tables and figures by one command, on what one has."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.completion import complete_item, complete_place
from concord.cli.console import Console, print_json


def reproduce(
    items: Annotated[
        str,
        Argument(
            metavar="ITEM",
            help="table-1 ... table-9, figure-1 ... figure-12, several with commas, or all.",
            autocompletion=complete_item,
        ),
    ],
    choices: Annotated[
        list[str] | None,
        Argument(
            metavar="KEY=VALUE", help="data, test, teacher, ipc, student, draws, seeds, beside, banks.another, ..."
        ),
    ] = None,
    on: Annotated[
        str,
        Option(
            metavar="PLACE",
            help="reef, imagewoof, imagenet-100, imagenet-1k, food-101, or a recipe.",
            autocompletion=complete_place,
        ),
    ] = "reef",
    out: Annotated[Path | None, Option(help="Where all of it lies; out/reproduce/PLACE if not given.")] = None,
    quick: Annotated[bool, Option("--quick", help="Few images, draws and epochs: to see that all runs.")] = False,
    workers: Annotated[int | None, Option(min=1, help="Processes; one a core if not given.")] = None,
    cluster: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Work on a Ray cluster that sees the directory: local, auto, HOST:PORT."),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be made, and what it needs and costs.")
    ] = False,
    pages: Annotated[bool, Option("--pages", help="Only write the pages anew, of what is there.")] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Reproduce tables and figures of the CONCORD paper: ours beside the paper's, on one page.

    Sets and trainings are shared between tables. Killed, the same command goes on; with more items it makes what they
    lack.

      concord reproduce all --on reef --quick

      concord reproduce table-5 --on imagewoof data=imagenet/train test=imagenet/val --dry-run

      concord reproduce table-5 --on custom data=photos/train test=photos/validation beside=random,herding
    """
    place_name = on + ("-quick" if quick else "")
    work = (out or Path("out") / "reproduce" / Path(place_name).stem).absolute()
    with user_errors(work):
        from concord.cli.reproduce_views import Counted, show_found, show_plan
        from concord.reproduce.items import wanted
        from concord.reproduce.outcomes import failures, read
        from concord.reproduce.page import record, write_pages
        from concord.reproduce.places import place, read_choices
        from concord.reproduce.plan import plan
        from concord.reproduce.run import run
        from concord.storage.cluster import connected_if

        chosen = read_choices(choices or [])
        planned = plan(wanted(items), place(on, chosen, quick), work, chosen)
        if dry_run:
            show_plan(planned, as_json)
            return
        asked = shlex.join(["concord", "reproduce", *_typed(sys.argv[2:], items)])
        if not pages:
            nodes = connected_if(cluster)
            with nodes as found_cluster, Counted(Console(stderr=True), quiet) as progress:
                try:
                    for _ in run(planned, progress, workers, found_cluster):
                        pass
                finally:
                    write_pages(read(planned), asked)
        found = read(planned)
        path = write_pages(found, asked)
        if as_json:
            print_json(record(found, asked))
        elif not quiet:
            show_found(found, path)
        if failures(planned) and not pages:
            raise Exit(2)


def _typed(arguments: list[str], items: str) -> list[str]:
    """The arguments as they were typed, but for what only says how the call went."""
    return [one for one in arguments if one not in ("--pages", "--json", "--quiet", "-q")] or [items]
