"""What a machine without models can do at once: real images, chosen or put together; then what needs a download."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from concord.cli.console import Console
from concord.text import counted, plain

if TYPE_CHECKING:
    from concord.workflows.requirements import Needed

_CHOSEN = (
    ("method=random", "out/random", "the baseline"),
    ("method=herding", "out/herding", "those nearest to the class's mean"),
)


def show_first_steps(console: Console, data: str, recipe: str, models: "Sequence[Needed]") -> None:
    """Print, where models of a recipe are missing, what works without them first, and how to fetch them.

    data: what the recipe is about. recipe: as the user names it on the command line.
    """
    missing = [one for one in models if one.path is None]
    if not missing:
        return
    folder = shlex.quote(_near(data))
    say = console.say
    say(("now  ", "bold green"), "without a download: sets of real images")
    for method, out, about in _CHOSEN:
        say(f"  concord distill photos {plain(f'data={folder}')} {method} --out {out}", (f"  # {about}", "dim"))
    say(f"  concord teacher {plain(folder)} --out teacher.safetensors", ("  # minutes to hours: it is trained", "dim"))
    say(
        f"  concord distill photos {plain(f'data={folder}')} method=rded teacher=teacher.safetensors --out out/rded",
        ("  # crops it is sure of", "dim"),
    )
    name = plain(shlex.quote(recipe))
    say(("then  ", "bold"), f"{counted(len(missing), 'model')} of this recipe to fetch; sizes and licences first:")
    say(f"  concord download {name} --dry-run")
    say(f"  concord download {name}")


def _near(data: str) -> str:
    """A path below the working directory as people type it; any other text as it is."""
    path = Path(data)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else data
