"""`concord compare`: two runs side by side, paired by class and index."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson
from concord.cli.console import Console, print_json


def compare(
    a: Annotated[Path, Argument(metavar="A", help="The directory of a finished run.")],
    b: Annotated[Path, Argument(metavar="B", help="Another one, on the same data.")],
    out: Annotated[Path | None, Option(metavar="FILE.html", help="Also write a page with the images.")] = None,
    most: Annotated[int, Option(min=1, help="Pairs on the page, the most changed first.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Compare two runs, paired by class and index: recipes, images, details, scores, accuracy and cost.

    concord compare out/informed out/plain --out compare.html
    """
    from rich.text import Text

    from concord.cli.compare_views import record, show
    from concord.report.compare import compare as measure
    from concord.report.compare import finished_run
    from concord.report.compare_page import page
    from concord.storage.atomic import disk_errors, write_atomically

    with Console(stderr=True).status(Text("comparing ...")):
        found = measure(finished_run(a), finished_run(b))
        if out is not None:
            with disk_errors(out):
                out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, page(found, most).encode())
    if as_json:
        print_json(record(found, out))
    else:
        show(found, out)
