"""What `concord compare` shows: a summary for people, a record for programs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from concord.cli.console import Console
from concord.registry import Measure
from concord.report.compare import Compared, Comparison, Pair
from concord.report.compare_page import change, figure, headline, setting, verdict
from concord.runs.directory import Run
from concord.text import counted, plain

KEYS, CHANGED = 12, 5
"""Recipe keys and most changed samples that the terminal shows."""
_COLOURS = {"better": "green", "worse": "red", "same": "dim", "unclear": "", "unknown": ""}


def show(found: Comparison, letter: str = "B", out: Path | None = None) -> None:
    """Print a comparison of A with the run of a letter; no figure is cut off, however narrow the terminal."""
    console = Console()
    if letter != "B":
        console.print()
    said = headline(found, letter)
    lines = [Text(plain(said.text), "bold"), *([Text(said.count, "dim")] if said.count else [])]
    groups = [_runs(found, letter), lines, _keys(found), _measures(found.measures, letter), _changed(found)]
    if out is not None:
        groups.append([Text.assemble(("wrote  ", "bold green"), plain(str(out)))])
    for n, lines in enumerate(group for group in groups if group):
        if n:
            console.print()
        for line in lines:
            console.say(line)


def _runs(found: Comparison, letter: str) -> list[Text]:
    lines = [Text("concord compare", "bold")]
    width = max(len(plain(str(run.out))) for run in (found.a, found.b))
    for of, colour, run in (("A", "cyan", found.a), (letter, "yellow", found.b)):
        images = counted(len(run.by_place), "image")
        about = (str(run.recipe.get("name")), str(run.recipe.get("method")), run.main, images)
        what = (plain(" · ".join(about)), "dim")
        lines.append(Text.assemble("  ", (of, f"bold {colour}"), f"  {plain(str(run.out)):<{width}}  ", what))
    alone = f" ({found.only[0]} in A alone, {found.only[1]} in {letter} alone)" if any(found.only) else ""
    same = sum(pair.identical for pair in found.pairs)
    lines.append(Text(f"  {counted(len(found.pairs), 'pair')} of one class and index{alone}, {same} of them identical"))
    return lines + [Text(f"  note: {plain(note)}", "yellow") for note in found.notes]


def _keys(found: Comparison) -> list[Text]:
    if not found.keys:
        return [Text.assemble(("recipes  ", "bold"), "equal")]
    lines, shown = [Text("recipes", "bold")], found.keys[:KEYS]
    width = max(len(plain(key)) for key, _, _ in shown)
    for key, a, b in shown:
        values = (setting(a, 40), "cyan"), (" -> ", "dim"), (setting(b, 40), "yellow")
        lines.append(Text.assemble(f"  {plain(key):<{width}}  ", *values))
    if len(found.keys) > KEYS:
        lines.append(Text(f"  and {len(found.keys) - KEYS} more keys: --json has all", "dim"))
    return lines


def _measures(measures: Sequence[Compared], letter: str = "B") -> list[Text]:
    if not measures:
        return [Text("neither details, scores nor accuracies are in both runs", "dim")]
    rows = [("what differs", "A", letter, f"{letter} - A", "95 % interval")]
    for m in measures:
        a, b = (figure(value, m.measure.unit) for value in (m.a, m.b))
        rows.append((f"  {plain(m.measure.label)}", a, b, *change(m)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for n, (label, *row) in enumerate(rows):
        cells = [f"{label:<{widths[0]}}", *(f"{c:>{w}}" for c, w in zip(row, widths[1:], strict=True))]
        line = Text("  ".join(cells).rstrip(), "" if n else "bold")
        if n:
            line.stylize(_COLOURS[verdict(measures[n - 1])], start=len("  ".join(cells[:3])))
        lines.append(line)
    return lines


def _changed(found: Comparison) -> list[Text]:
    changed = [pair for pair in found.pairs if not pair.identical][:CHANGED]
    if not changed:
        return []
    width = max(len(plain(pair.class_name)) for pair in changed)
    lines = [Text("most changed", "bold")]
    for pair in changed:
        at = f"  {plain(pair.class_name):<{width}}  {pair.place[1]:>4}  pixels {100 * pair.change:4.1f} % apart"
        lines.append(Text.assemble(at, (_beside(pair, found.lead), "dim")))
    return lines


def _beside(pair: Pair, lead: Measure | None) -> str:
    a, b = pair.details.get(lead.key, (0, 0)) if lead else (0, 0)
    return f", {lead.label} {figure(a, lead.unit)} -> {figure(b, lead.unit)}" if lead and a != b else ""


def show_measures(a: Path, b: Path, measures: Sequence[Compared]) -> None:
    """Print the accuracies of two directories of draws."""
    console = Console()
    lines = [Text("concord compare", "bold")]
    for letter, colour, path in (("A", "cyan", a), ("B", "yellow", b)):
        lines.append(Text.assemble("  ", (letter, f"bold {colour}"), f"  {plain(str(path))}"))
    for line in [*lines, Text(), *_measures(measures)]:
        console.say(line)


def measures_record(measures: Sequence[Compared]) -> list[dict[str, Any]]:
    """Figures of two runs as ``--json`` prints them."""
    return [
        {
            "name": m.name,
            "label": m.measure.label,
            "form": m.measure.unit,
            "a": m.a,
            "b": m.b,
            "difference": {"mean": m.change, "ci95": m.ci95 and list(m.ci95), "n": m.n, "by": m.by, "p": m.p},
        }
        for m in measures
    ]


def record(found: Comparison, out: Path | None = None) -> dict[str, Any]:
    """A comparison as ``--json`` prints it; `out` is the page that was written."""
    return {
        "a": _about(found.a),
        "b": _about(found.b),
        "differing": [{"key": key, "a": one, "b": two} for key, one, two in found.keys],
        "samples": {
            **{"common": len(found.pairs), "only_a": found.only[0], "only_b": found.only[1]},
            **{key: sum(getattr(pair, key) for pair in found.pairs) for key in ("identical", "same_seed")},
        },
        "measures": measures_record(found.measures),
        "pairs": [
            {
                "class_name": pair.class_name,
                "index": pair.place[1],
                "files": [run.by_place[pair.place].row["file_name"] for run in (found.a, found.b)],
                "change": round(pair.change, 5),
                "identical": pair.identical,
                "details": {key: list(values) for key, values in pair.details.items()},
            }
            for pair in found.pairs
        ],
        "notes": list(found.notes),
        "page": str(out) if out is not None else None,
    }


def _about(run: Run) -> dict[str, Any]:
    recipe, images = run.recipe, len(run.by_place)
    return {"dir": str(run.out), "recipe": recipe.get("name"), "method": recipe.get("method"), "images": images}
