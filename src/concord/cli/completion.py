"""What the tab key offers: recipes and their keys. Nothing heavy is imported, as it runs at each press."""

from pathlib import Path


def complete_recipe(incomplete: str) -> list[str]:
    """Bundled recipes, and YAML files and folders of the directory that is typed."""
    from concord.recipe import bundled

    head, slash, _ = incomplete.rpartition("/")
    folder = Path(head + slash).expanduser() if slash else Path()
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [head + slash + p.name + ("/" if p.is_dir() else "") for p in files if p.is_dir() or p.suffix == ".yaml"]
    offered = [] if slash else bundled()
    return [name for name in (*offered, *names) if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[str]:
    """Keys of a recipe as far as their sign; a value is not guessed."""
    from concord.recipe.keys import rows

    return [f"{row['key']}=" for row in rows() if row["key"].startswith(incomplete)]


def complete_item(incomplete: str) -> list[str]:
    """Tables and figures of the paper; behind a comma the next."""
    from concord.reproduce.items import ALL, names

    head, comma, last = incomplete.rpartition(",")
    return [head + comma + name for name in (*names(), ALL) if name.startswith(last)]


def complete_place(incomplete: str) -> list[str]:
    """Places to reproduce the paper at, and recipes."""
    from concord.reproduce.places import names

    return [*(name for name in names() if name.startswith(incomplete)), *complete_recipe(incomplete)]
