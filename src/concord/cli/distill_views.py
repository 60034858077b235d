"""What `concord distill` shows: the plan of a dry run, and the closing summary."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from concord.cli.console import Console
from concord.cli.first_steps import show_first_steps
from concord.evaluation.regimes import command
from concord.metrics.measures import figures, written
from concord.registry import DATASETS
from concord.runs.directory import Run
from concord.text import between, counted, duration, plain, size
from concord.workflows.preview import Preview
from concord.workflows.requirements import no_hub_id

Line = tuple[str, str]
_UNKNOWN = "unknown"
_PLACES = (
    ("images", "images", "an image folder: one folder a class, metadata.jsonl beside them"),
    ("before", "uninformed", "the same samples without informing"),
    ("concepts", "concepts.png", "concepts kept and dropped, by activation on real images"),
    ("", "similarity.png", "how alike the classes' names are"),
    ("details", "details.json", "which detail each image is likely to lack"),
    ("look", "samples.png", "a sheet of samples, class by class"),
    ("report", "report.html", "open it"),
    ("figures", "results.json", "all that was measured"),
    ("recipe", "recipe.yaml", "every setting"),
)


def show_results(results: Mapping[str, Any], out: Path, console: Console | None = None) -> None:
    """Print what a run made, what informing changed, and where to look."""
    console = console or Console()
    images, classes = results["images"], results["classes"]
    made, kept = ({**results.get("last_call", {}), **results}[key] for key in ("made", "kept"))
    what = f"{counted(images, 'image')} of {counted(classes, 'class')}"
    each = f", {results['seconds_per_image']:.2g} s an image" if results["seconds_per_image"] else ""
    share = "nothing to do: all there already" if not made else f"{made} made now" + (f", {kept} kept" if kept else "")
    console.print()
    console.say(("done  ", "bold green"), (what, "bold"), f" ({share}) in {duration(results['seconds'])}{each}")
    for warning in _warnings(results):
        console.say((f"      {plain(warning)}", "yellow"))
    if rows := list(_measures(results)):
        console.print()
        for line in _table(rows):
            console.say(line)
    console.print()
    there = [(about, plain(str(out / name)), meaning) for about, name, meaning in _PLACES if (out / name).exists()]
    width = max((len(path) for _, path, _ in there), default=0)
    for about, path, meaning in there:
        console.say((f"  {about:<9}", "dim"), f"{path:<{width}}", (f"  {meaning}", "dim"))
    console.say(("  next     ", "dim"), plain(_evaluation(out)))


def show_shard(results: Mapping[str, Any], out: Path, console: Console | None = None) -> None:
    """Print what a shard made, and what is next."""
    console = console or Console()
    what = f"shard {results['shard']}/{results['shards']}"
    console.say(("done  ", "bold green"), (what, "bold"), f" ({results['made']} made now, {results['kept']} kept)")
    console.say(("  next     ", "dim"), plain(f"concord status {out}, then concord merge {out}"))


def _evaluation(out: Path) -> str:
    """The command that says what a set is worth: on the data's own test images where concord knows them."""
    run = Run(out)
    test = f"{run.recipe.get('data')}-test"
    return command(out, test if test in DATASETS else "DATA", run=run)


def show_preview(plan: Preview, typed: str = "", console: Console | None = None) -> None:
    """Print what a run would make, and what it needs. typed: the recipe as the user named it, for what to do next."""
    console = console or Console()
    recipe, names, counts = plan.recipe, plan.classes, plan.counts
    shown = ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
    per_class = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    pairs = f", each also {' and '.join(plan.variants[1:])}" if len(plan.variants) > 1 else ""
    lines: list[Line] = [
        ("data", recipe.data),
        ("classes", shown),
        ("plan", f"{counted(len(names), 'class')} x {per_class} = {counted(plan.images, 'image')}{pairs}"),
        ("to make", f"{plan.missing}" + (f" ({plan.there} are there already)" if plan.there else "")),
        ("batches", f"{plan.batches} of {plan.batch_size}, {counted(plan.workers, 'worker')} on {plan.device}"),
    ]
    for need in plan.models:
        way = no_hub_id(need.model) or "fetched at first use if online"
        state = f"present, {size(need.bytes)}" if need.path is not None else f"missing: {way}"
        lines.append((need.key, f"{need.model} ({state})"))
    if not plan.models:
        lines.append(("models", "none needed"))
    lines += [
        ("disk", f"{'about ' + size(plan.disk) if plan.disk is not None else _UNKNOWN}, {size(plan.disk_free)} free"),
        ("memory", f"about {size(plan.memory)}" if plan.memory is not None else _UNKNOWN),
        ("time", between(plan.seconds_range) if plan.seconds_range is not None else f"{_UNKNOWN} until it runs"),
    ]
    about = plain(f"{recipe.name} · {recipe.method} · {plan.out}")
    console.say(("concord ", "bold"), f"{about} ", ("(dry run)", "yellow"))
    console.rows(lines)
    for note in plan.notes:
        console.say((f"  note: {plain(note)}", "dim"))
    if plan.disk is not None and plan.disk > plan.disk_free:
        console.say(("  the disk is too small for this plan", "bold red"))
    if recipe.is_generated:
        show_first_steps(console, recipe.data, typed or recipe.name, plan.models)


def _warnings(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if steps := results.get("uninformed_steps"):
        lines.append(f"{counted(steps, 'image-step')} left uninformed: the gradient was not finite")
    if results.get("unreadable"):
        files = results["unreadable_files"]
        some = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "")
        lines.append(f"{counted(results['unreadable'], 'unreadable image')} left out: {some}")
    return lines


def _measures(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of (measure, uninformed, informed, gain with its interval) of what results.json holds."""
    for row in figures(results, "terminal"):
        if row.uninformed and row.informed:
            digits = 2 if row.measure.unit == "number" else None
            before, after = (written(v.number, row.measure.unit, digits) for v in (row.uninformed, row.informed))
            yield row.measure.label, before, after, row.interval(row.change, digits)


def _table(rows: Sequence[tuple[str, str, str, str]]) -> list[Text]:
    """Lay rows out in columns as wide as they need, so that no terminal cuts a figure off."""
    headings = ("what informing changed", "uninformed", "informed", "gain [95 % interval]")
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(4)]
    lines = []
    for number, (label, *cells) in enumerate([headings, *rows]):
        styles = ("", "bold" if number else "", "")
        figures = [(f"  {c:>{w}}", style) for c, w, style in zip(cells, widths[1:], styles, strict=True)]
        lines.append(Text.assemble(f"  {label:<{widths[0]}}", *figures, style="" if number else "dim"))
    return lines
