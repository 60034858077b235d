"""`concord report`: the page of a run, made anew from what the run left."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def report(
    directory: Annotated[Path, Argument(metavar="DIR", help="The directory of a run, as distill --out filled it.")],
    standalone: Annotated[bool, Option(help="Hold images of a large set, too, smaller and fewer.")] = False,
) -> None:
    """Write the page of a run: DIR/report.html, one file that opens anywhere.

    The page of a large set shows the images that lie beside it, unless it is to stand alone.

    concord report out/reef
    """
    from concord.report.page import write_report

    path = write_report(directory, standalone)
    print(f"written {path} ({path.stat().st_size / 1e6:.1f} MB)")
