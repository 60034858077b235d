"""`concord compare`: two runs side by side, paired by class and index."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson
from concord.cli.console import Console, print_json
from concord.errors import ConcordError


def compare(
    a: Annotated[Path, Argument(metavar="A", help="The directory of a finished run.")],
    b: Annotated[Path, Argument(metavar="B", help="Another one, on the same data.")],
    out: Annotated[Path | None, Option(metavar="FILE.html", help="Also write a page with the images.")] = None,
    most: Annotated[int, Option(min=1, help="Pairs on the page, the most changed first.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Compare two runs, paired by class and index: recipes, images, details, scores, accuracy and cost.

    Of two directories of draws (seed-0, seed-1, ...) their accuracies, paired by draw.

    concord compare out/informed out/plain --out compare.html
    """
    from rich.text import Text

    from concord.cli.compare_views import measures_record, record, show, show_measures
    from concord.report.compare import compare as measure
    from concord.report.compare import compare_draws, finished_run
    from concord.report.compare_page import page
    from concord.runs.draws import draws_in
    from concord.storage.atomic import disk_errors, write_atomically

    if (first := draws_in(a)) and (second := draws_in(b)):
        if out is not None:
            raise ConcordError(f"a page is of two sets: concord compare {first[0]} {second[0]} --out {out}")
        rows = compare_draws(a, b)
        if as_json:
            print_json({"a": str(a), "b": str(b), "measures": measures_record(rows)})
        else:
            show_measures(a, b, rows)
        return
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
