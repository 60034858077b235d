"""`concord refine`: concepts anew for the classes that students mix up."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json


def refine(
    directory: Annotated[Path, Argument(metavar="DIR", help="The set, informed by a bank's concepts.")],
    out: Annotated[Path, Option(metavar="BANK", help="The bank to write; records lie beside it.")],
    overrides: Annotated[
        list[str] | None, Argument(metavar="KEY=VALUE", help="student, protocol, ipc, seeds, ... of concord evaluate.")
    ] = None,
    test: Annotated[
        str | None,
        Option(metavar="VALIDATION", help="Validation images, never the test set; the run's real images if not given."),
    ] = None,
    pairs: Annotated[int, Option(min=1, max=100, help="Pairs of classes that are mixed up most.")] = 3,
    again: Annotated[
        Path | None, Option(metavar="DIR", help="Make the set again with the bank, here, and compare.")
    ] = None,
    model: Annotated[
        str | None,
        Option(help="A language model that is asked for phrases; without one, the bank's are chosen from."),
    ] = None,
    base_url: Annotated[str | None, Option(help="Its server; OPENAI_BASE_URL if not given.")] = None,
    key_env: Annotated[str | None, Option(metavar="NAME", help="The environment variable with its key.")] = None,
    about: Annotated[str, Option(help="What the images are, for the model.")] = "",
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find the classes that students mix up, and write a bank whose phrases tell just these apart.

    Students are trained on the set and tested on validation images. Of the pairs that are mixed up most, those phrases
    are kept that the class's real images bear out (Eq. 10), and that are more active there than on the other class's.

      concord refine out/reef --out refined.json student=convnet-3 protocol=hard ipc=10 --again out/refined
    """
    with user_errors(out):
        from concord.cli.evaluate_views import title
        from concord.cli.progress import Trainings
        from concord.cli.retrieve_views import find_server
        from concord.concepts.llm.client import Server
        from concord.evaluation.settings import read_settings
        from concord.workflows.refine import refine as run

        server = Server(*find_server(base_url, model, key_env)) if model else None
        chosen = read_settings(overrides or [])
        with Trainings(Console(stderr=True), quiet, title) as progress:
            found = run(
                directory,
                out,
                test,
                chosen,
                pairs=pairs,
                server=server,
                about=about,
                again=again,
                progress=progress,
            )
    if as_json:
        print_json(found.record)
    elif not quiet:
        for row in found.record["pairs"]:
            after = f", then {row['after']:.1%}" if "after" in row else ""
            Console().print(f"{row['classes'][0]} and {row['classes'][1]}: {row['before']:.1%} mixed up{after}")
        Console().print(f"{out}: give it as concepts.bank; what was measured lies in {found.path}")
