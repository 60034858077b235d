"""`reproduce.html`, and the same as Markdown, CSV, LaTeX and JSON: what there is of a plan, written down anew.

One file that asks for nothing; every text from outside is escaped, and a content security policy lets nothing else run.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from concord.report.distribution import HEIGHT as PLANE_HEIGHT
from concord.report.distribution import WIDTH as PLANE_WIDTH
from concord.report.safe import outside, policy
from concord.reproduce import curves, pictures, tables
from concord.reproduce.items import Item
from concord.reproduce.outcomes import VERDICTS, Found, failures
from concord.reproduce.plan import PREPARED, Plan
from concord.reproduce.run import commands_of, prepared_command
from concord.storage.atomic import write_atomically, write_json
from concord.system import machine, package_version, version
from concord.text import duration

PAGE, TABLES = "reproduce.html", "tables"
"""The page, and the folder of its tables."""


def write_pages(found: Found, asked: str) -> Path:
    """Write all pages of what there is into the plan's directory; return where the page lies.

    asked: the command that asked for it.
    """
    work = found.plan.work
    work.mkdir(parents=True, exist_ok=True)
    write_atomically(work / PAGE, render(found, asked).encode("utf-8", "replace"))
    write_atomically(work / "reproduce.md", tables.markdown(found).encode("utf-8", "replace"))
    write_json(work / "reproduce.json", record(found, asked))
    (work / TABLES).mkdir(exist_ok=True)
    for item in found.plan.items:
        if item.kind in ("accuracies", "cost"):
            outcomes = found.outcomes[item.name]
            write_atomically(work / TABLES / f"{item.name}.csv", tables.as_csv(item, outcomes).encode())
            write_atomically(work / TABLES / f"{item.name}.tex", tables.latex(item, outcomes).encode())
    return work / PAGE


def record(found: Found, asked: str) -> dict[str, Any]:
    """All numbers, claims and commands, as reproduce.json has them."""
    plan = found.plan
    return {
        "command": asked,
        "concord": version(),
        "torch": package_version("torch"),
        "machine": machine(),
        "seconds": dict(found.seconds),
        "place": {"name": plan.place.name, "about": plan.place.about, "notes": plan.place.notes},
        "cells": [
            {
                "item": one.plan.item,
                "row": one.plan.row,
                "student": one.plan.student,
                "ipc": one.plan.ipc,
                "set": one.plan.set or None,
                "missing": one.plan.missing or None,
                "values": [round(value, 4) for value in one.values],
                "of": one.of,
                "paper": {name: {"mean": c.mean, "std": c.std, "status": c.status} for name, c in one.paper.items()},
            }
            for of in found.outcomes.values()
            for one in of
        ],
        "claims": [
            {
                "item": one.item.name,
                "says": one.claim.says,
                "verdict": one.verdict,
                "unit": one.unit,
                "columns": one.columns,
                "difference": None if one.difference is None else asdict(one.difference),
            }
            for one in found.judged
        ],
        "commands": [shlex.join(command).replace(str(plan.work), "WORK") for command in commands(plan)],
        "failed": failures(plan),
    }


def commands(plan: Plan) -> list[list[str]]:
    """Every command line of the plan, in the order in which they are needed."""
    first = [prepared_command(one, plan.work / PREPARED / one.file) for one in plan.prepared.values()]
    return [*first, *(command for one in plan.sets.values() for command in commands_of(plan, one))]


def render(found: Found, asked: str) -> str:
    """The page as HTML."""
    style = Markup(_house("page.css") + _own("reproduce.css"))
    script = Markup(_own("reproduce.js"))
    there, of = found.there
    return (
        _environment()
        .get_template("reproduce.html")
        .render(
            policy=policy(style, script),
            style=style,
            script=script,
            found=found,
            plan=found.plan,
            asked=asked,
            there=there,
            of=of,
            spent={name: duration(seconds) for name, seconds in found.seconds.items() if seconds},
            verdicts=VERDICTS,
            parts=[_part(found, item) for item in found.plan.items],
            failed=tables.by_reason(failures(found.plan).items()),
        )
    )


def _part(found: Found, item: Item) -> Mapping[str, Any]:
    """What the page shows of an item."""
    outcomes, plan = found.outcomes[item.name], found.plan
    drawn = {"pairs": pictures.pairs, "strips": pictures.strips}.get(item.kind)
    measured = item.kind in ("accuracies", "cost")
    return {
        "item": item,
        "blocks": tables.blocks(item, outcomes) if measured else [],
        "curves": curves.curves(item, outcomes) if item.curve else None,
        "strips": drawn(plan, item) if drawn else [],
        "planes": pictures.plane(plan, item) if item.kind == "plane" else [],
        "phrases": pictures.phrases(plan, item) if item.kind == "phrases" else [],
        "judged": [one for one in found.judged if one.item is item],
        "missing": tables.missing(item, outcomes),
        "there": sum(len(one.values) for one in outcomes),
        "of": sum(one.of for one in outcomes),
    }


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=outside
    )
    environment.loader = PackageLoader("concord.reproduce")
    environment.globals |= {
        name: getattr(tables, name) for name in ("headline", "rule", "ours", "in_paper", "difference", "rests_on")
    }
    environment.globals |= {"size": (curves.WIDTH, curves.HEIGHT), "edges": (curves.LEFT, curves.RIGHT, curves.BOTTOM)}
    environment.globals |= {"plane_size": (PLANE_WIDTH, PLANE_HEIGHT)}
    return environment


def _house(name: str) -> str:
    return (files("concord.report") / "templates" / name).read_text(encoding="utf-8")


def _own(name: str) -> str:
    return (files("concord.reproduce") / "templates" / name).read_text(encoding="utf-8")
