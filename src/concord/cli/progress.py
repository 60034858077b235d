"""How work gets on, as a person sees it: live lines on a terminal, plain lines where output goes to a file."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    RenderableColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from concord.cli.console import Console
from concord.events import Silent
from concord.recipe import Recipe
from concord.text import duration, plain

STAGES = ("reading", "planning", "making images", "measuring", "drawing")
"""What a run goes through, by the first words of what it says of each."""
APART = 60.0
"""Seconds between two lines on a stage that tells how it gets on, at least, where output goes to a file."""
_WATCHED = {"satisfied": ("satisfied {:.0f} %", 100.0), "objective": ("informing loss {:.3f}", 1.0)}
"""Scores of finished images whose running mean is shown, and how; those of images made without informing lack them."""


class Bar(Silent):
    """A `Progress` and a context: the stages of a run above the bar of the present one.

    The bar counts the images of this call, their pace, the time left, and how well the concepts are met where images
    come with a score of it. Without a terminal each stage and each tenth of the images is a line.
    """

    def __init__(self, recipe: Recipe, out: Path, console: Console | None = None) -> None:
        self._console = console or Console()
        self._title = plain(f"{recipe.name} · {recipe.method} · {out}")
        self._live = self._console.is_terminal
        self._stages, self._current, self._text = list(STAGES), -1, "starting"
        self._total = self._done = self._at_start = 0
        self._begun = self._making = self._last = self._staged = time.monotonic()
        self._scores: dict[str, tuple[float, int]] = {}  # name -> sum, count
        self._display = Live(get_renderable=self._render, console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._console.say(("concord ", "bold"), self._title)
        self._begun = time.monotonic()
        if self._live:
            self._display.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        if self._live:
            self._display.stop()
        if kind is not None and self._done > self._at_start:
            self._say(f"stopped with {self._done} of {self._total} images finished")

    def stage(self, text: str) -> None:
        text = plain(text)
        name = next((name for name in self._stages if text.startswith(name)), None)
        if name is None:  # one that is not foreseen comes between the present one and the next
            name = text
            self._stages.insert(self._current + 1, name)
        again, now = name not in STAGES and self._stages.index(name) == self._current, time.monotonic()
        self._current, self._text = self._stages.index(name), text
        if not self._live and not (again and now - self._staged < APART):
            self._staged = now
            self._say(text)

    def begin(self, total: int, done: int) -> None:
        self._total, self._done, self._at_start, self._making = total, done, done, time.monotonic()
        self._current, self._text, self._last = self._stages.index("making images"), "", self._making
        if done:
            self._say(f"{done} of {total} images are there already")

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        before, self._done, self._last = self._done, self._done + count, time.monotonic()
        for name in _WATCHED:
            if values := [scores[name] for scores in facts if name in scores]:
                total, number = self._scores.get(name, (0.0, 0))
                self._scores[name] = total + sum(values), number + len(values)
        if not self._live and 10 * self._done // self._total > 10 * before // self._total:
            share = 100 * self._done // self._total
            self._say(", ".join([f"{self._done} of {self._total} images ({share} %)", *self._figures()]))

    def note(self, text: str) -> None:
        self._say(f"note: {text}")

    def _figures(self) -> list[str]:
        """Pace, time left and the watched scores, as far as they are known."""
        made, left = self._done - self._at_start, self._total - self._done
        figures = []
        if made:
            each = (self._last - self._making) / made
            seconds = max(0.0, each * left - (time.monotonic() - self._last))  # it counts down between two batches
            figures += [pace(each), *([f"{duration(seconds)} left"] if left else [])]
        for name, (total, count) in self._scores.items():
            form, scale = _WATCHED[name]
            figures.append(form.format(scale * total / count))
        return figures

    def _render(self) -> Group:
        """The stages: those that are done, the present one, those to come; the time since the start; the bar."""
        parts: list[str | tuple[str, str]] = ["  "]
        for i, name in enumerate(self._stages):
            if i < self._current:
                parts += [("✓ ", "green"), (name, "dim")]
            else:
                parts += [("● ", "cyan"), (name, "bold")] if i == self._current else [("○ " + name, "dim")]
            parts.append("  ")
        parts.append((duration(time.monotonic() - self._begun), "dim"))
        return Group(Text.assemble(*parts, no_wrap=True, overflow="ellipsis"), self._present())

    def _present(self) -> Table:
        """The bar of the present stage with its figures; it pulses where there is nothing to count."""
        counts = not self._text
        made = f"{self._done} of {self._total}"
        figures = [made, *(self._figures() or ["making the first"])] if counts else [self._text]
        said = Text(" · ".join(figures), no_wrap=True, overflow="ellipsis")
        room = self._console.width - said.cell_len - 4
        total, done = self._total - self._at_start, self._done - self._at_start
        width = max(10, min(32, room))
        line = Table.grid(padding=(0, 2, 0, 0))
        line.add_row(Text(" "), ProgressBar(max(1, total), done if total > 0 else 1, width, pulse=not counts), said)
        return line

    def _say(self, text: str) -> None:
        self._console.say(("  " + plain(text), "dim" if self._live else ""))


def pace(seconds: float) -> str:
    """Say how fast images come: ``41 images/s``, ``1.3 images/s``; slower than one a second, ``12 s an image``."""
    if seconds > 1:
        return f"{duration(seconds)} an image"
    rate = 1 / max(seconds, 1e-9)
    return f"{rate:.1f} images/s" if rate < 9.95 else f"{rate:.0f} images/s"


class Counting(Silent):
    """A `Progress` and a context: a bar of counted units on a terminal, and a line for what is worth one."""

    def __init__(self, console: Console, quiet: bool, *columns: ProgressColumn, at_first: str = "") -> None:
        self._quiet, self._console = quiet, console
        self._live = console.is_terminal and not quiet
        self._total = self._done = 0
        self._bar = Progress(*columns, console=console, transient=True, disable=not self._live)
        self._task = self._bar.add_task(at_first, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.stop()

    def note(self, text: str) -> None:
        self.say(Text(f"  {plain(text)}", "dim"))

    def begin(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._bar.update(self._task, total=total, completed=done)

    def advance(self, count: int, facts: Sequence[Mapping[str, Any]] = ()) -> None:
        self._done += count
        self._bar.advance(self._task, count)
        for line in filter(None, map(self.line, facts)):
            self.say(line)

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        """What is said of a unit that is done, if anything."""
        return None

    def say(self, line: Text) -> None:
        """Print a line above the bar, whatever brackets are in it."""
        if not self._quiet:
            self._console.say(line)


class Epochs(Counting):
    """The epochs of a teacher's training, or of its labels."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = TextColumn("  epochs"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(console, quiet, *columns)

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        text = f"  epoch {fact['epoch']} of {fact['epochs']}: "
        return None if fact["accuracy"] is None else Text(f"{text}{fact['accuracy']:.1f} %")


class Teachers(Counting):
    """The trainings of a sweep of teachers: a line for each that ended."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = TextColumn("  teachers"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(console, quiet, *columns)

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        said = "" if fact["accuracy"] is None else f": {fact['accuracy']:.1f} %"
        return Text(f"  {plain(fact['name'])}{said}")


class Tuning(Counting):
    """The epochs of a diffusion model's fine-tuning."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = TextColumn("  epochs"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(console, quiet, *columns)

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        return Text(f"  epoch {fact['epoch']} of {fact['epochs']}: error of the noise {fact['loss']:.4f}")


class Asking(Counting):
    """Classes that a language model is asked for; without a terminal a line for each."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = TextColumn("  asking"), BarColumn(32), TextColumn("{task.completed:.0f} of {task.total:.0f} classes")
        super().__init__(console, quiet, *columns, TimeRemainingColumn(), TextColumn("left"))

    def begin(self, total: int, done: int) -> None:
        if done:
            self.say(Text(f"  {done} of {total} classes are there already"))
        super().begin(total, done)

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        if "trouble" in fact:
            return Text(f"  {fact['name']}: {fact['trouble']}", "yellow")
        return None if self._live else Text(f"  {fact['name']} ({self._done} of {self._total})")


class Trainings(Counting):
    """The trainings of an evaluation: a line for each that ended, and a bar of the images that all of them see.

    title: what a training goes by, of its cell.
    """

    def __init__(self, console: Console, quiet: bool, title: Callable[[Mapping[str, Any]], str]) -> None:
        columns = TextColumn("  {task.description}"), BarColumn(24), RenderableColumn(self)
        super().__init__(console, quiet, *columns, at_first="reading")
        self._title, self._since = title, time.monotonic()
        self._seen: Callable[[], int] = lambda: 0

    def stage(self, text: str) -> None:
        self._bar.update(self._task, description=plain(text), total=None)

    def begin(self, total: int, done: int) -> None:
        if done:
            self.note(f"{done} of {total} trainings are there already")
        self._total, self._done = total, done

    def watch(self, total: int, seen: Callable[[], int]) -> None:
        self._seen, self._since = seen, time.monotonic()
        self._bar.update(self._task, description="training", total=max(1, total), completed=0)

    def __rich__(self) -> Text:
        """How far the trainings are, and when they will be done; it moves the bar to there."""
        task = self._bar.tasks[0]
        if task.total is None:
            return Text("")
        task.completed = self._seen()
        share, passed = task.completed / task.total, time.monotonic() - self._since
        when = f" · {duration(passed * (1 - share) / share)} left" if 0.01 < share < 1 else ""
        return Text(f"{self._done} of {self._total} · {share:.0%}{when}")

    def line(self, fact: Mapping[str, Any]) -> Text:
        cell, place = fact["cell"], fact["cell"]["seeds"].index(fact["seed"])
        last, best = (cell["top1"][which]["values"][place] for which in ("last", "best"))
        return Text.assemble(
            f"  {self._title(cell)}, seed {fact['seed']}: ",
            (f"{last:.1f} %", "bold"),
            f" last, {best:.1f} % best",
            (f"  ({duration(time.monotonic() - self._since)} since the start)", "dim"),
        )
