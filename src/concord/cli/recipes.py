"""`concord recipes`: the bundled recipes, what each is and what it needs."""

import json
from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from concord.cli.common import AsJson
from concord.cli.console import Console, print_json
from concord.text import counted

if TYPE_CHECKING:
    from concord.cli.catalogue import Entry


def recipes(
    keys: Annotated[bool, Option("--keys", help="Print every key of a recipe, its default and meaning.")] = False,
    markdown: Annotated[bool, Option("--markdown", help="With --keys: as docs/recipe.md.")] = False,
    schema: Annotated[bool, Option("--schema", help="Print the JSON schema of a recipe, for editors.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the bundled recipes: what each is, what it needs, and the paper's accuracy; or the keys of a recipe."""
    if keys or schema or markdown:
        _show_keys(markdown, schema, as_json)
        return
    from concord.cli.catalogue import catalogue

    entries = catalogue()
    if as_json:
        print_json({"recipes": [_record(entry) for entry in entries]})
    else:
        show(entries)


def _show_keys(markdown: bool, schema: bool, as_json: bool) -> None:
    from rich.text import Text

    from concord.recipe import keys

    if markdown:
        print(keys.markdown(), end="")
    elif schema:
        print(json.dumps(keys.schema(), indent=2, ensure_ascii=False))
    elif as_json:
        print_json({"keys": keys.rows()})
    else:
        out = Console()
        for row in keys.rows():
            default = f" = {row['default']}" if row["default"] else ""
            out.say((row["key"], "bold"), default, (f"  {row['type']}", "dim"))
            out.print(Text(f"    {row['description']}"), soft_wrap=not out.is_terminal)


def _record(entry: "Entry") -> dict[str, Any]:
    from concord.cli.catalogue import IPC, STUDENT

    keys = ("mean", "std", "table", "status")
    cells = {"informed": entry.informed, "uninformed": entry.uninformed}
    figures = {name: {key: getattr(c, key) for key in keys} for name, c in cells.items() if c}
    return {
        **{key: getattr(entry, key) for key in ("name", "method", "about", "needs_data")},
        "ready": not entry.missing,
        "models": [needed.record for needed in entry.models],
        "paper": {"student": STUDENT, "ipc": IPC, **figures} if figures else None,
    }


def show(entries: "Sequence[Entry]", console: Console | None = None) -> None:
    """A line a recipe; on a narrow terminal what it is stands below, wrapped to the width."""
    from rich.text import Text

    out = console or Console()
    entries = sorted(entries, key=lambda entry: bool(entry.missing))  # those that can run here go first
    ready = sum(not entry.missing for entry in entries)
    rows = [(entry.name, entry.method, _models(entry), _paper(entry), entry.about) for entry in entries]
    headings = ("recipe", "method", "models", "paper", "what it is")
    widths = [max(len(row[column]) for row in (headings, *rows)) for column in range(4)]

    def line(mark: tuple[str, str], row: Sequence[str], style: str = "") -> None:
        name, method, models, paper, about = row
        figures = f"{method:<{widths[1]}}  {models:<{widths[2]}}  {paper:>{widths[3]}}"
        text = Text.assemble("  ", mark, (f" {name:<{widths[0]}}  ", "bold"), (figures, "dim"))
        beside = out.width >= 120 or not out.is_terminal
        below = [] if beside else [Text(f"      {part}", "dim") for part in wrap(about, out.width - 6)]
        for part in [text + Text(f"  {about}") if beside else text, *below]:
            part.stylize(style)
            if out.is_terminal:
                part.truncate(out.width, overflow="ellipsis")
            out.print(part, soft_wrap=True)

    line((" ", ""), headings, "dim")
    for entry, row in zip(entries, rows, strict=True):
        line((" ", "") if entry.missing else ("✓", "green"), row)
    out.print()
    for note in (
        f"models  those on this machine; {counted(ready, 'recipe')} can run now (✓)",
        "paper   top-1 in %, ResNet-18, IPC 10: informed / uninformed",
        "next    concord distill NAME data=DIR --dry-run",
        "        concord download NAME --dry-run   (its models, sizes and licences)",
    ):
        out.say((f"  {note}", "dim"))


def _models(entry: "Entry") -> str:
    return f"{len(entry.models) - len(entry.missing)} of {len(entry.models)}" if entry.models else "none"


def _paper(entry: "Entry") -> str:
    cells = [f"{cell.mean:.1f}" if cell is not None else "-" for cell in (entry.informed, entry.uninformed)]
    return " / ".join(cells) if entry.informed or entry.uninformed else ""
