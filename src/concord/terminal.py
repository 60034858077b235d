"""What the terminal shows: a progress bar with time left, the plan of a dry run, the closing summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from concord.doctor import Finding
from concord.recipe import Recipe
from concord.runs.execute import Silent
from concord.runs.preview import Preview

Line = tuple[str, str]
_UNKNOWN = "unknown"


class Quiet(Silent):
    """Says nothing, as a context."""

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *error: object) -> None: ...


class Bar:
    """Progress of a run: a live bar on a terminal; where output goes to a file, a line at every tenth."""

    def __init__(self, recipe: Recipe, out: Path, console: Console | None = None) -> None:
        self._console = console or _console()
        self._title = f"{recipe.name} · {recipe.method} · {out}"
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=32),
            TextColumn("{task.fields[count]}", markup=False),
            TimeRemainingColumn(),
            TextColumn("{task.fields[left]}"),
            console=self._console,
            transient=True,
        )
        self._live = self._console.is_terminal
        self._task = self._bar.add_task("starting", total=None, count="", left="")
        self._total, self._done, self._start, self._at_start = 0, 0, 0.0, 0

    def __enter__(self) -> Bar:
        self._console.print(Text.assemble(("concord ", "bold"), self._title), soft_wrap=True)
        if self._live:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._live:
            self._bar.stop()
        if kind is not None and self._done > self._at_start:
            self._say(f"stopped with {self._done} of {self._total} images finished")

    def stage(self, text: str) -> None:
        if self._live:
            self._bar.update(self._task, description=text, total=None, completed=0, count="", left="")
        else:
            self._say(text)

    def begin(self, total: int, done: int) -> None:
        self._total, self._done, self._at_start, self._start = total, done, done, time.monotonic()
        if done:
            self._say(f"{done} of {total} images are there already")
        # The bar counts what this call makes: else the images of an earlier one would look infinitely fast.
        self._bar.reset(
            self._task, total=max(1, total - done), description="making images", count=self._count(), left="left"
        )
        if total == done:
            self._bar.update(self._task, completed=1)

    def advance(self, images: int) -> None:
        before, self._done = self._done, self._done + images
        self._bar.update(self._task, advance=images, count=self._count())
        if not self._live and 10 * self._done // self._total > 10 * before // self._total:
            made, left = self._done - self._at_start, self._total - self._done
            seconds = (time.monotonic() - self._start) * left / made
            rest = f", {duration(seconds)} left" if left else ""
            self._say(f"{self._count()} images ({100 * self._done // self._total} %){rest}")

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _count(self) -> str:
        return f"{self._done} of {self._total}"

    def _say(self, text: str) -> None:
        self._console.print(Text("  " + text, "dim" if self._live else ""), soft_wrap=True)


def show_results(results: Mapping[str, Any], out: Path, console: Console | None = None) -> None:
    """Print what a run made, what informing changed, and where to look."""
    console = console or _console()
    images, classes, made, kept = (results[key] for key in ("images", "classes", "made", "kept"))
    what = f"{_n(images, 'image')} of {_n(classes, 'class')}"
    each = f", {results['seconds_per_image']:.2g} s an image" if results["seconds_per_image"] else ""
    share = "nothing to do: all there already" if not made else f"{made} made now" + (f", {kept} kept" if kept else "")
    console.print()
    console.print(
        Text.assemble(("done  ", "bold green"), (what, "bold"), f" ({share}) in {duration(results['seconds'])}{each}"),
        soft_wrap=True,
    )
    for warning in _warnings(results):
        console.print(Text(f"      {warning}", "yellow"), soft_wrap=True)
    rows = list(_measures(results))
    if rows:
        console.print()
        for line in _table(rows):
            console.print(line, soft_wrap=True)
    console.print()
    places = [("images", "images", "an image folder: one folder a class, metadata.jsonl beside them")]
    places += [("before", "uninformed", "the same samples without informing")]
    places += [("concepts", "concepts.png", "concepts kept and dropped, by activation on real images")]
    places += [("", "similarity.png", "how alike the classes' names are")]
    places += [("details", "details.json", "which detail each image is likely to lack")]
    places += [("look", "samples.png", "a sheet of samples, class by class"), ("report", "report.html", "open it")]
    places += [("figures", "results.json", "all that was measured"), ("recipe", "recipe.yaml", "every setting")]
    there = [(about, str(out / name), meaning) for about, name, meaning in places if (out / name).exists()]
    width = max((len(path) for _, path, _ in there), default=0)
    for about, path, meaning in there:
        console.print(
            Text.assemble((f"  {about:<9}", "dim"), f"{path:<{width}}", (f"  {meaning}", "dim")), soft_wrap=True
        )


def show_preview(plan: Preview, console: Console | None = None) -> None:
    """Print what a run would make, and what it needs."""
    console = console or _console()
    recipe, names, counts = plan.recipe, plan.classes, plan.counts
    shown = ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
    per_class = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    pairs = f", each also {' and '.join(plan.variants[1:])}" if len(plan.variants) > 1 else ""
    lines: list[Line] = [
        ("data", recipe.data),
        ("classes", shown),
        ("plan", f"{_n(len(names), 'class')} x {per_class} = {_n(plan.images, 'image')}{pairs}"),
        ("to make", f"{plan.missing}" + (f" ({plan.there} are there already)" if plan.there else "")),
        ("batches", f"{plan.batches} of {plan.batch_size}, {_n(plan.workers, 'worker')} on {plan.device}"),
    ]
    for need in plan.models:
        way = "reinstall concord" if need.model.startswith("reef:") else "fetched at first use if online"
        state = f"present, {size(need.bytes)}" if need.path is not None else f"missing: {way}"
        lines.append((need.key, f"{need.model} ({state})"))
    if not plan.models:
        lines.append(("models", "none needed"))
    lines += [
        ("disk", f"{'about ' + size(plan.disk) if plan.disk is not None else _UNKNOWN}, {size(plan.disk_free)} free"),
        ("memory", f"about {size(plan.memory)}" if plan.memory is not None else _UNKNOWN),
        ("time", f"about {duration(plan.seconds)}" if plan.seconds is not None else f"{_UNKNOWN} until it runs"),
    ]
    console.print(
        Text.assemble(("concord ", "bold"), f"{recipe.name} · {recipe.method} · {plan.out} ", ("(dry run)", "yellow")),
        soft_wrap=True,
    )
    _lines(console, lines)
    for note in plan.notes:
        console.print(Text(f"  note: {note}", "dim"), soft_wrap=True)
    if plan.disk is not None and plan.disk > plan.disk_free:
        console.print(Text("  the disk is too small for this plan", "bold red"), soft_wrap=True)


def show_doctor(findings: Mapping[str, Sequence[Finding]], console: Console | None = None) -> None:
    """Print findings by heading, with advice where something is wrong."""
    console = console or _console()
    marks = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "dim")}
    for i, (heading, group) in enumerate(findings.items()):
        if i:
            console.print()
        console.print(Text(heading, "bold"))
        width = max(len(f.about) for f in group)
        for f in group:
            advice = (f"  {f.advice}", "yellow") if f.well is False and f.advice else ("", "")
            line = Text.assemble("  ", marks[f.well], f" {f.about:<{width}}  ", f.found, advice)
            console.print(line, soft_wrap=True)
            for detail in f.lines:
                console.print(Text(f"      {detail}", "dim"), soft_wrap=True)


def duration(seconds: float) -> str:
    """Say a time as people do: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Say bytes in the unit that fits: ``640 kB``, ``19 MB``, ``2.4 GB``."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def _console() -> Console:
    return Console(highlight=False)


def _n(count: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else plural}".replace(",", " ")


def _lines(console: Console, lines: Sequence[Line]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        console.print(Text.assemble((f"  {name:<{width}}  ", "dim"), text), soft_wrap=True)


def _warnings(results: Mapping[str, Any]) -> list[str]:
    lines = []
    if results.get("uninformed_steps"):
        lines.append(f"{_n(results['uninformed_steps'], 'image-step')} left uninformed: the gradient was not finite")
    if results.get("unreadable"):
        files = results["unreadable_files"]
        some = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "")
        lines.append(f"{_n(results['unreadable'], 'unreadable image')} left out: {some}")
    return lines


def _measures(results: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return rows of (measure, uninformed, informed, gain with its interval) of what results.json holds."""
    complete, shown = results.get("completeness") or {}, results.get("details") or {}
    rows: list[tuple[str, str, str, str]] = []

    def add(label: str, before: Any, after: Any, gain: Any, percent: bool = False) -> None:
        if not isinstance(before, int | float) or not isinstance(after, int | float):
            return

        def say(value: float) -> str:
            return f"{100 * value:.1f} %" if percent else f"{value:.2f}"

        change = ""
        if isinstance(gain, Mapping) and "ci95" in gain:
            scale, digits = (100, 1) if percent else (1, 2)
            low, high = (scale * value for value in gain["ci95"])
            change = f"{scale * gain['mean']:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
        rows.append((label, say(before), say(after), change))

    before, after = complete.get("uninformed") or {}, complete.get("informed") or {}
    add("details shown (completeness)", before.get("mean"), after.get("mean"), complete.get("gain"), percent=True)
    gain = complete.get("gain_complete")
    add("images with all their details", before.get("complete"), after.get("complete"), gain, percent=True)
    add("foreign details an image", before.get("foreign"), after.get("foreign"), complete.get("gain_foreign"))
    less, more = ((shown.get(name) or {}).get("likely_missing") for name in ("uninformed", "informed"))
    add("details likely missing (by percentile)", less, more, None, percent=True)
    for key, label, percent in (
        ("teacher_accuracy", "recognised by the teacher", True),
        ("nuisance_diversity", "nuisance diversity", False),
    ):
        report = results.get(key) or {}
        add(label, report.get("uninformed"), report.get("informed"), report.get("gain"), percent)
    return rows


def _table(rows: Sequence[tuple[str, str, str, str]]) -> list[Text]:
    """Lay rows out in columns as wide as they need, so that no terminal cuts a figure off."""
    headings = ("what informing changed", "uninformed", "informed", "gain [95 % interval]")
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(4)]
    lines = []
    for number, row in enumerate([headings, *rows]):
        label, *cells = row
        line = Text(f"  {label:<{widths[0]}}")
        for column, cell in enumerate(cells, 1):
            line.append(f"  {cell:>{widths[column]}}", "bold" if column == 2 and number else "")
        if not number:
            line.stylize("dim")
        lines.append(line)
    return lines
