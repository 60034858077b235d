"""What `concord reproduce` shows: the plan of a dry run, its progress, and what came of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from concord.cli.console import Console, print_json
from concord.cli.progress import Counting
from concord.reproduce.cost import cost, missing_data, missing_models
from concord.reproduce.outcomes import Found, failures, read
from concord.reproduce.page import commands
from concord.reproduce.plan import Plan
from concord.reproduce.run import unprepared
from concord.reproduce.tables import headline, missing, sentence
from concord.system import cores
from concord.text import counted, duration, plain


class Counted(Counting):
    """The draws of a reproduction: a bar, and a line for what could not be made."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = TextColumn("  sets"), BarColumn(24), MofNCompleteColumn(), TimeRemainingColumn()
        super().__init__(console, quiet, *columns)
        self._reasons = set[str]()

    def stage(self, text: str) -> None:
        if text.startswith(("preparing", "making")):
            self.say(Text(f"  {plain(text)}", "dim"))

    def line(self, fact: Mapping[str, Any]) -> Text | None:
        if "job" not in fact:
            return None
        done, why = f"  {plain(str(fact['job']))}", plain(str(fact["why"]))
        if not why:
            return Text(f"{done}: done", "dim")
        known = why in self._reasons
        self._reasons.add(why)
        return Text(f"{done}: {'for the same reason not made' if known else why}", "yellow")


def show_plan(plan: Plan, as_json: bool, console: Console | None = None) -> None:
    """Print what a plan has, what it lacks and what that costs here; or all of it as JSON, with its commands."""
    away, lost, taken, found = missing_models(plan), missing_data(plan), cost(plan), read(plan)
    there, of = found.there
    hours = (taken.image_seconds + taken.training_seconds) / cores()
    reasons = {item.name: missing(item, found.outcomes[item.name]) for item in plan.items}
    if as_json:
        print_json(
            {
                "place": plan.place.name,
                "out": str(plan.work),
                "items": [
                    {"name": i.name, "title": i.title, "cells": len(plan.of(i)), "missing": reasons[i.name]}
                    for i in plan.items
                ],
                "sets": len(plan.sets),
                "values": {"there": there, "of": of},
                "images": taken.images,
                "trainings": taken.trainings,
                "models": [need.record for need in away.values()],
                "data": lost,
                "seconds": {"images": taken.image_seconds, "trainings": taken.training_seconds, "cores": cores()},
                "untimed": list(taken.untimed),
                "commands": [" ".join(command) for command in commands(plan)],
            }
        )
        return
    console = console or Console()
    console.say(("concord ", "bold"), plain(f"reproduce on {plan.place.about}"), (" (dry run)", "yellow"))
    for item in plan.items:
        cells = plan.of(item)
        able = sum(not cell.missing for cell in cells)
        console.say((f"  {item.name:<10}", "dim"), f"{item.title}: {able} of {counted(len(cells), 'cell')}")
        for text in reasons[item.name]:
            console.say((f"            not made: {plain(text)}", "dim"))
    rows = [
        ("there", f"{there} of {counted(of, 'value')}"),
        ("to make", f"{counted(taken.images, 'image')}, {counted(taken.trainings, 'training')}"),
        ("of", f"{counted(len(plan.sets), 'set')} in all"),
        ("first", ", ".join(map(str, unprepared(plan))) or "nothing is left to prepare"),
        ("time", f"about {duration(hours)} on {counted(cores(), 'core')}" if hours else "not estimated"),
    ]
    if taken.untimed:
        rows.append(("", f"without {', '.join(taken.untimed)}"))
    for need in away.values():
        rows.append(
            (
                "missing",
                f"{need.model} ({need.key}, {need.licence}): `concord download` fetches it, or give a directory",
            )
        )
    rows += [("missing", text) for text in lost]
    rows.append(("out", str(plan.work)))
    for name, text in rows:
        console.say((f"  {name:<10}", "dim"), plain(text))


def show_found(found: Found, path: Path, console: Console | None = None) -> None:
    """Print the claims and where the page lies."""
    console = console or Console()
    console.print()
    console.say((headline(found), "bold"))
    for one in found.judged:
        if one.difference is not None:
            console.say((f"  {one.item.name:<10}", "dim"), plain(sentence(one)))
    if lost := failures(found.plan):
        console.say((f"  {counted(len(lost), 'set')} could not be made: the page says why", "yellow"))
    console.say(("  page      ", "dim"), plain(str(path)))
