"""`concord compare`: two runs side by side, paired by class and index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from concord.commands.telling import AsJson, told
from concord.console import Console, counted, plain, print_json

if TYPE_CHECKING:
    from concord.comparison.measure import Comparison
    from concord.comparison.run import Run

KEYS, CHANGED = 12, 5
"""Recipe keys and most changed samples that the terminal shows."""


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The directory of a finished run.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another one, on the same data.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Also write a page with the images.")] = None,
    most: Annotated[int, typer.Option(min=1, help="Pairs on the page, the most changed first.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Compare two runs, paired by class and index: recipes, images, details, scores, accuracy and cost.

    concord compare out/informed out/plain --out compare.html
    """
    with told():
        from rich.text import Text

        from concord.comparison.measure import compare as measure
        from concord.comparison.run import read_run

        with Console(stderr=True).status(Text("comparing ...")):
            found = measure(read_run(a), read_run(b))
            if out is not None:
                from concord.comparison.page import page
                from concord.runs.store import saying, write_atomically

                with saying(out):
                    out.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(out, page(found, most).encode())
        if as_json:
            print_json(record(found, out))
        else:
            _show(found, out)


def record(found: Comparison, out: Path | None = None) -> dict[str, Any]:
    """A comparison as ``--json`` prints it."""
    only = found.only
    return {
        "a": _run(found.a),
        "b": _run(found.b),
        "differing": [{"key": key, "a": one, "b": two} for key, one, two in found.keys],
        "samples": {
            "common": len(found.pairs),
            "only_a": only[0],
            "only_b": only[1],
            "identical": sum(pair.identical for pair in found.pairs),
            "same_seed": sum(pair.same_seed for pair in found.pairs),
        },
        "measures": [
            {
                "name": m.name,
                "label": m.label,
                "form": m.form,
                "a": m.a,
                "b": m.b,
                "difference": {"mean": m.change, "ci95": list(m.ci95) if m.ci95 else None, "n": m.n, "by": m.by},
            }
            for m in found.measures
        ],
        "pairs": [
            {
                "class_name": pair.class_name,
                "index": pair.place[1],
                "files": [found.a.rows[pair.place]["file_name"], found.b.rows[pair.place]["file_name"]],
                "change": round(pair.change, 5),
                "identical": pair.identical,
                "details": {key: list(values) for key, values in pair.details.items()},
            }
            for pair in found.pairs
        ],
        "notes": list(found.notes),
        "page": str(out) if out is not None else None,
    }


def _run(run: Run) -> dict[str, Any]:
    recipe = run.recipe
    images = len(run.rows)
    return {"dir": str(run.out), "recipe": recipe.get("name"), "method": recipe.get("method"), "images": images}


def _show(found: Comparison, out: Path | None) -> None:
    from rich.text import Text

    from concord.comparison.wording import change, figure, setting, verdict

    console = Console()

    def line(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    runs = (("A", "cyan", found.a), ("B", "yellow", found.b))
    line(("concord compare", "bold"))
    paths = [plain(str(run.out)) for _, _, run in runs]
    for (letter, colour, run), path in zip(runs, paths, strict=True):
        what = f"{run.recipe.get('name')} · {run.recipe.get('method')} · {run.main} · {counted(len(run.rows), 'image')}"
        line("  ", (letter, f"bold {colour}"), f"  {path:<{max(map(len, paths))}}  ", (plain(what), "dim"))
    same = sum(pair.identical for pair in found.pairs)
    only = found.only
    alone = f" ({only[0]} in A alone, {only[1]} in B alone)" if any(only) else ""
    line(f"  {counted(len(found.pairs), 'pair')} of one class and index{alone}, {same} of them identical")
    for note in found.notes:
        line((f"  note: {plain(note)}", "yellow"))

    line()
    line(("recipes", "bold"), ("" if found.keys else "  equal", "dim"))
    shown = found.keys[:KEYS]
    width = max((len(key) for key, _, _ in shown), default=0)
    for key, one, two in shown:
        line(f"  {plain(key):<{width}}  ", (setting(one, 40), "cyan"), (" -> ", "dim"), (setting(two, 40), "yellow"))
    if len(found.keys) > KEYS:
        line((f"  and {len(found.keys) - KEYS} more keys (--json has all)", "dim"))

    line()
    headings = ("what differs", "A", "B", "B - A [95 % interval]")
    styles = {"better": "green", "worse": "red", "same": "dim", "unclear": ""}
    rows = [
        ((m.label, figure(m.a, m.form), figure(m.b, m.form), change(m)), styles[verdict(m)]) for m in found.measures
    ]
    widths = [max(len(row[column]) for row, _ in [(headings, ""), *rows]) for column in range(4)]
    for n, ((label, one, two, differs), style) in enumerate([(headings, "bold"), *rows]):
        left = (f"{'' if not n else '  '}{plain(label):<{widths[0] + (0 if n else 2)}}", "bold" if not n else "")
        line(left, f"  {one:>{widths[1]}}  {two:>{widths[2]}}  ", (f"{differs:>{widths[3]}}", style if n else "bold"))

    changed = [pair for pair in found.pairs if not pair.identical][:CHANGED]
    if changed:
        line()
        line(("most changed", "bold"))
        width = max(len(plain(pair.class_name)) for pair in changed)
        for pair in changed:
            missing = pair.details.get("likely_missing")
            lacks = (
                f"  likely missing {figure(missing[0], 'share')} -> {figure(missing[1], 'share')}" if missing else ""
            )
            at = f"{100 * pair.change:4.1f} % of the range"
            line(f"  {plain(pair.class_name):<{width}}  {pair.place[1]:>4}  {at}", (lacks, "dim"))
    if out is not None:
        line()
        line(("wrote  ", "bold green"), str(out))
