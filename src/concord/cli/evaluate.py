"""`concord evaluate`: students trained from nothing on a small set, and how well they recognise real images."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json
from concord.errors import ConcordError


def evaluate(
    directory: Annotated[
        Path,
        Argument(
            metavar="DIR",
            help="The small set: an image folder, Parquet, float images; more are draws.",
        ),
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
    cluster: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Train on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
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
    (`concord distill RECIPE seed=0,1,2 --out DIR`), are one method's: a table over draws and seeds. beside= chooses
    real images of the run's data by other methods, three draws at least, and evaluates them with it, side by side.

      concord evaluate out/reef --test reef-test student=convnet-3 ipc=10 protocol=regimes beside=random,herding

      concord evaluate my-set --test photos/validation protocol=hard student=resnet-18
    """
    texts = [text for text in overrides or [] if "=" in text or not Path(text).exists()]
    given = [directory, *(Path(text) for text in overrides or [] if text not in texts)]
    with user_errors(out or directory):
        from concord.cli.evaluate_views import show, show_estimate, title
        from concord.cli.progress import Trainings
        from concord.evaluation.record import record_path
        from concord.evaluation.settings import read_settings
        from concord.runs.draws import draws_in
        from concord.storage.cluster import connected_if
        from concord.workflows.evaluate import estimate_sets, evaluate_sets

        sets = [draw for place in given for draw in draws_in(place) or [place]]
        options = [name for name, value in (("out", out), ("random", random), ("full", full)) if value is not None]
        if len(sets) > 1 and options:
            raise ConcordError(f"--{options[0]} is for one set, and {len(sets)} are given; evaluate them one by one")
        chosen = read_settings([*texts, *(["remap=true"] if remap else [])])
        if dry_run and cluster:
            raise ConcordError("--dry-run times this machine, and starts nothing on a cluster: leave --cluster out")
        if dry_run:
            with Trainings(Console(stderr=True), quiet, title) as progress:
                estimates = estimate_sets(sets, test, chosen, out, progress, random, full)
            if as_json:
                rows = [each.as_json() for each in estimates.values()]
                print_json(rows[0] if len(rows) == 1 else {"draws": rows})
            else:
                for place, each in estimates.items():
                    show_estimate(each, place, test)
            return
        nodes = connected_if(cluster)
        with nodes as found, Trainings(Console(stderr=True), quiet, title) as progress:
            record = evaluate_sets(sets, test, chosen, out, progress, random, full, cluster=found)
        if as_json:
            print_json({key: value for key, value in record.items() if key != "schema"})
        elif not quiet:
            show(record, *(record_path(place, out) for place in sets))
