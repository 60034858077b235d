"""What a machine without models can do at once: real images, chosen or put together; then what needs a download."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from concord.cli.console import Console
from concord.text import counted, plain

if TYPE_CHECKING:
    from concord.workflows.requirements import Needed


def show_first_steps(console: Console, data: str, recipe: str, models: "Sequence[Needed]") -> None:
    """Print, where models of a recipe are missing, what works without them first, and how to fetch them.

    data: what the recipe is about. recipe: as the user names it on the command line.
    """
    missing = [one for one in models if one.path is None]
    if not missing:
        return
    folder, name = plain(shlex.quote(_near(data))), plain(shlex.quote(recipe))
    chosen = f"concord distill photos data={folder} method="
    console.say(("  now     ", "bold green"), "without a download: sets of real images")
    for command, about in (
        (f"{chosen}random --out out/random", "the baseline"),
        (f"{chosen}herding --out out/herding", "those nearest to their class's mean"),
        (f"concord teacher {folder} --out teacher.safetensors", "trained here: minutes to hours; then"),
        (f"{chosen}rded teacher=teacher.safetensors --out out/rded", "crops that it is sure of"),
    ):
        console.say(f"          {command}", (f"  # {about}", "dim"))
    what = f"{counted(len(missing), 'model')} of this recipe to fetch"
    console.say(
        ("  fetch   ", "dim"), f"concord download {name}", (f"  # {what}; with --dry-run only sizes, licences", "dim")
    )


def _near(data: str) -> str:
    """A path below the working directory as people type it; any other text as it is."""
    path = Path(data)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else data
