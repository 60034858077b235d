"""`concord evaluate`: students trained from nothing on a small set, and how well they recognise real images."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.errors import ConcordError


def evaluate(
    directory: Annotated[
        Path, Argument(metavar="DIR", help="The small set: any image folder, or Parquet; more of it are draws.")
    ],
    test: Annotated[str, Option(metavar="DATA", help="Real images to test on: a folder, Parquet, reef-test.")],
    overrides: Annotated[
        list[str] | None,
        Argument(metavar="KEY=VALUE", help="student, protocol, ipc, seeds, teacher, ...; lists with commas."),
    ] = None,
    remap: Annotated[bool, Option("--remap", help="Put the teacher's classes in order by its own confusions.")] = False,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="Where results go; DIR/evaluation.json if not given.")
    ] = None,
    random: Annotated[
        Path | None, Option(metavar="DIR", help="Random real images, evaluated: for DD-Ranking's scores.")
    ] = None,
    full: Annotated[Path | None, Option(metavar="DIR", help="The full real set, evaluated with protocol=hard.")] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only say what would be trained, and how long it takes: some steps are timed.")
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train students on a small set from nothing: top-1 by student, protocol and IPC, over seeds.

    Protocols: rded (soft labels, the paper's), paper (its App. B), fixed (one soft label an image), hard (Minimax's),
    dc (dataset condensation's), rd3, sre2l; or several: regimes (rded, fixed, hard), all-soft, all-hard.

    Killed, the same command goes on with the seed that it was at. Several sets, or a directory of draws
    (`concord distill RECIPE seed=0,1,2 --out DIR`), are one method's: a table over draws and seeds.

      concord evaluate out/reef --test reef-test student=convnet-3 protocol=rded,hard ipc=1,10

      concord evaluate my-set --test photos/validation protocol=hard student=resnet-18
    """
    texts = [text for text in overrides or [] if "=" in text or not Path(text).exists()]
    given = [directory, *(Path(text) for text in overrides or [] if text not in texts)]
    with user_errors(out or directory):
        from concord.cli.evaluate_views import show, show_estimate, title
        from concord.cli.progress import Trainings
        from concord.evaluation.draws import joined
        from concord.evaluation.estimate import estimate
        from concord.evaluation.evaluate import prepared
        from concord.evaluation.record import record_path
        from concord.evaluation.settings import read_settings
        from concord.runs.draws import draws_in
        from concord.workflows.evaluate import evaluate_and_report

        sets = [draw for place in given for draw in draws_in(place) or [place]]
        options = [name for name, value in (("out", out), ("random", random), ("full", full)) if value is not None]
        if len(sets) > 1 and options:
            raise ConcordError(f"--{options[0]} is for one set, and {len(sets)} are given; evaluate them one by one")
        chosen = read_settings([*texts, *(["remap=true"] if remap else [])])
        records, estimates = [], []
        for place in sets:
            with Trainings(Console(stderr=True), quiet, title) as progress:
                if dry_run:
                    ready = prepared(place, test, *chosen, out, progress, random, full)
                    progress.stage("timing some steps")
                    estimates.append(estimate(ready, chosen[0]))
                else:
                    records.append(evaluate_and_report(place, test, chosen, out, progress, random, full))
        if dry_run:
            if as_json:
                rows = [each.as_json() for each in estimates]
                print_json(rows[0] if len(sets) == 1 else {"draws": rows})
            else:
                for place, each in zip(sets, estimates, strict=True):
                    show_estimate(each, place, test)
            return
        record = joined(records) if len(records) > 1 else records[0]
        if as_json:
            print_json({key: value for key, value in record.items() if key != "schema"})
        elif not quiet:
            show(record, *(record_path(place, out) for place in sets))
