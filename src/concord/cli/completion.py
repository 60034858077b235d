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
