"""Several draws of one set: made by the same recipe with other seeds, in `DIR/seed-0`, `DIR/seed-1`, and so on."""

import re
from pathlib import Path

_DRAW = re.compile(r"seed-(\d+)")


def draw_path(directory: Path, seed: int) -> Path:
    """Where the draw of a seed lies."""
    return directory / f"seed-{seed}"


def home(place: Path) -> Path:
    """The directory that stands for a set: that of its draws where it is one of several, else its own."""
    return place.parent if _DRAW.fullmatch(place.name) and place in draws_in(place.parent) else place


def beside_path(place: Path, method: str) -> Path:
    """Where the draws of real images lie that a method chose beside a set, or beside the draws of one."""
    return home(place) / "beside" / method


def draws_in(directory: Path) -> list[Path]:
    """The draws in a directory, by their seeds; empty where it holds none, or is a set itself."""
    if not directory.is_dir() or (directory / "recipe.yaml").exists():
        return []
    named = ((_DRAW.fullmatch(path.name), path) for path in directory.iterdir() if path.is_dir())
    found = {int(match[1]): path for match, path in named if match}
    return [found[seed] for seed in sorted(found)]
