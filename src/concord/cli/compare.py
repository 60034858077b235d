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
    more: Annotated[list[Path] | None, Argument(metavar="C", help="Further ones, each compared with A.")] = None,
    out: Annotated[Path | None, Option(metavar="FILE.html", help="Also write a page with the images.")] = None,
    most: Annotated[int, Option(min=1, help="Pairs on the page, the most changed first.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Compare runs with the first, paired by class and index: recipes, images, details, scores, accuracy and cost.

    Of two directories of draws (seed-0, seed-1, ...) their accuracies, paired by draw.

    concord compare out/plain out/informed out/herding --out compare.html
    """
    from rich.text import Text

    from concord.cli.compare_views import measures_record, record, show, show_measures
    from concord.report.compare import compare as measure
    from concord.report.compare import compare_draws, finished_run
    from concord.report.compare_page import LETTERS, page
    from concord.runs.draws import draws_in
    from concord.storage.atomic import disk_errors, write_atomically

    others = [b, *(more or [])]
    if (first := draws_in(a)) and (second := draws_in(b)):
        if more:
            raise ConcordError(f"directories of draws are compared two at a time: concord compare {a} {b}")
        if out is not None:
            raise ConcordError(f"a page is of two sets: concord compare {first[0]} {second[0]} --out {out}")
        rows = compare_draws(a, b)
        if as_json:
            print_json({"a": str(a), "b": str(b), "measures": measures_record(rows)})
        else:
            show_measures(a, b, rows)
        return
    with Console(stderr=True).status(Text("comparing ...")):
        if len(others) >= len(LETTERS):
            raise ConcordError(f"{len(others) + 1} runs are given; up to {len(LETTERS)} can be compared")
        run = finished_run(a)
        found = [measure(run, finished_run(other)) for other in others]
        if out is not None:
            with disk_errors(out):
                out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, page(*found, most=most).encode())
    if as_json:
        print_json(record(found[0], out) if more is None else {"comparisons": [record(one, out) for one in found]})
    else:
        for letter, one in zip(LETTERS[1:], found, strict=False):
            show(one, letter, out if one is found[-1] else None)
