"""`concord methods`: every name that concord and other packages add, of all kinds."""

from typing import Any

from concord.cli.common import AsJson
from concord.cli.console import Console, print_json
from concord.errors import ConcordError


def methods(as_json: AsJson = False) -> None:
    """List methods, families, guides, scorers, metrics, protocols, layouts and data sets, and who adds each."""
    from concord.registry import REGISTRIES

    found = {one.group.partition(".")[2]: [_row(*item) for item in one.items()] for one in REGISTRIES}
    if as_json:
        print_json(found)
    else:
        _show(found)


def _row(name: str, package: str, spec: Any) -> dict[str, Any]:
    if isinstance(spec, ConcordError):
        return {"name": name, "package": package, "error": str(spec)}
    from concord.settings import keys

    settings = getattr(spec, "settings", None)
    own = {"keys": keys(settings)} if settings is not None else {}
    return {"name": name, "package": package, "about": spec.about, **own}


def _show(found: dict[str, list[dict[str, Any]]]) -> None:
    out = Console()
    rows = [row for group in found.values() for row in group]
    name, package = (max([len(row[key]) for row in rows], default=0) for key in ("name", "package"))
    for group, entries in found.items():
        out.say((group if entries else f"{group}  none", "bold"))
        for row in entries:
            text = row.get("error") or row["about"] + (f" Keys: {', '.join(row['keys'])}." if "keys" in row else "")
            figures = f"  {row['name']:<{name}}  {row['package']:<{package}}  "
            out.say(figures, (text, "red" if "error" in row else "dim"))
