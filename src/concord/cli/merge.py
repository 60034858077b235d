"""`concord merge`: what shards made, as one set."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import AsJson, user_errors
from concord.cli.console import Console, print_json


def merge(
    directory: Annotated[Path, Argument(metavar="DIR", help="What `concord distill --shard` filled.")],
    cluster: Annotated[
        str | None,
        Option(metavar="ADDRESS", help="Measure on a Ray cluster: local, auto, HOST:PORT or ray://HOST:PORT."),
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: AsJson = False,
) -> None:
    """Join what shards made to one set: check every image, measure, draw.

    Refused while shards are outstanding. The set is that of one process, byte for byte.

      concord merge out/photos
    """
    with user_errors(directory):
        from concord.cli.distill_views import show_results
        from concord.cli.progress import Bar
        from concord.events import Silent
        from concord.recipe import load
        from concord.storage.cluster import connected_if
        from concord.workflows.shards import merge as join

        bar = nullcontext(Silent()) if quiet else Bar(load(str(directory)), directory, Console(stderr=as_json))
        with connected_if(cluster) as nodes, bar as progress:
            results = join(directory, progress, cluster=nodes)
        if as_json:
            print_json(results)
        elif not quiet:
            show_results(results, directory)
