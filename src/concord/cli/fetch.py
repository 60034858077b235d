"""`concord fetch`: a set from the hub, as a run's directory."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from concord.cli.common import user_errors
from concord.text import counted


def fetch(
    name: Annotated[str, Argument(metavar="ORG/NAME", help="A data set that `concord export --push` left there.")],
    out: Annotated[Path, Option(metavar="DIR", help="The directory to make; it must not be there yet.")],
    revision: Annotated[
        str | None, Option(metavar="REV", help="A branch, tag or commit; the newest if not given.")
    ] = None,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Fetch a set from the Hugging Face hub as the directory of a run, every file compared with its digest.

    `concord report`, `compare`, `evaluate` and `verify` take it. A private one needs a token in HF_TOKEN.

      concord fetch my-name/reef-10 --out out/fetched
    """
    with user_errors():
        from huggingface_hub.utils import disable_progress_bars

        from concord.export.hub import fetch as get

        if quiet or not sys.stderr.isatty():
            disable_progress_bars()
        fetched = get(name, out, revision)
    if not quiet:
        print(f"fetched {counted(fetched.images, 'image')} of {name} to {out}, all as their digests say")
        print(f"  commit {fetched.commit}")
        print(f"look at it: concord report {out}")
