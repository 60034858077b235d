"""`concord evaluate`: students trained from nothing on a small set, and how well they recognise real images."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json


def evaluate(
    directory: Annotated[Path, Argument(metavar="DIR", help="The small set: any image folder, or Parquet.")],
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

    Killed, the same command goes on with the seed that it was at.

      concord evaluate out/reef --test reef-test student=convnet-3 protocol=rded,hard ipc=1,10

      concord evaluate my-set --test photos/validation protocol=hard student=resnet-18
    """
    with user_errors(out or directory):
        from concord.cli.evaluate_views import show, show_estimate, title
        from concord.cli.progress import Trainings
        from concord.evaluation.record import record_path
        from concord.evaluation.settings import read_settings
        from concord.workflows.evaluate import evaluate_and_report

        chosen = read_settings([*(overrides or []), *(["remap=true"] if remap else [])])
        if dry_run:
            from concord.evaluation.estimate import estimate
            from concord.evaluation.evaluate import prepared

            with Trainings(Console(stderr=True), quiet, title) as progress:
                ready = prepared(directory, test, *chosen, out, progress, random, full)
                progress.stage("timing some steps")
                found = estimate(ready, chosen[0])
            print_json(found.as_json()) if as_json else show_estimate(found, directory, test)
            return
        with Trainings(Console(stderr=True), quiet, title) as progress:
            record = evaluate_and_report(directory, test, chosen, out, progress, random, full)
        if as_json:
            print_json({key: value for key, value in record.items() if key != "schema"})
        elif not quiet:
            show(record, record_path(directory, out))
