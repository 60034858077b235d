"""The comparison as one HTML file: figures, recipe keys, and the images side by side, the most changed first.

Nothing is fetched (a content security policy says so, too); everything from outside is escaped.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, Template
from markupsafe import Markup

from concord.metrics.measures import Unit, unit_of_change, written
from concord.metrics.measures import verdict as verdict_of
from concord.registry import METRICS
from concord.report.compare import Compared, Comparison, Pair
from concord.report.safe import outside, policy
from concord.report.thumbnails import data_uri
from concord.text import counted, plain

SIDE = 256
"""Longest edge of the embedded images."""
MOST = 200
"""Samples on a page."""
ROWS = 10
"""Measures, and keys of recipes, that are not folded away."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Said:
    """What a comparison comes to: the sentence that matters most, and how many measures say what."""

    text: str
    count: str


def page(found: Comparison, *others: Comparison, most: int = MOST) -> str:
    """Return the page of runs compared with the first, with the `most` most changed samples that all have.

    others: comparisons of the same first run with further ones. Raises OSError: an image is gone.
    """
    comparisons = (found, *others)
    style, script = _template("page.css") + _template("compare.css"), _template("compare.js")
    runs = (found.a, *(one.b for one in comparisons))
    pairs = _in_all(comparisons)
    return _compiled().render(
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        runs=runs,
        letters=LETTERS,
        said=[headline(one, letter) for one, letter in zip(comparisons, LETTERS[1:], strict=False)],
        notes=list(dict.fromkeys(note for one in comparisons for note in one.notes)),
        only=found.only,
        pairs=len(pairs),
        identical=sum(all(pair.identical for pair in of) for of in pairs),
        measures=_rows(comparisons),
        most_rows=ROWS,
        keys=_keys(comparisons),
        cards=[_card(comparisons, of, n) for n, of in enumerate(pairs[:most])],
        classes=sorted({of[0].class_name for of in pairs[:most]}),
    )


def headline(found: Comparison, letter: str = "B") -> Said:
    """Say in what the second run is better or worse than the first, by the measure that matters most.

    Accuracy of students goes before what the images show; of each kind what is clear goes before what is not.
    """
    judged = [one for one in found.measures if one.measure.better and one.measure.unit != "seconds"]
    if not judged:
        return Said(f"Nothing that says which of A and {letter} is better was measured on both.", "")
    judged.sort(key=lambda one: not _is_accuracy(one))
    clear = {which: [one for one in judged if verdict(one) == which] for which in ("better", "worse")}
    lead = next((one for one in judged if one in clear["better"] or one in clear["worse"]), None)
    count = (
        f"Of {counted(len(judged), 'measure')}, {len(clear['better'])} say clearly that {letter} is better than A, and"
        f" {len(clear['worse'])} that it is worse."
    )
    if lead is None:
        return Said(f"Nothing tells {letter} clearly from A: {_in_words(judged[0])}.", count)
    accuracy = judged[0] if judged[0] is not lead and _is_accuracy(judged[0]) else None
    but = f" Accuracy does not tell them apart: {_in_words(accuracy)}." if accuracy else ""
    return Said(f"{letter} is {verdict(lead)} than A: {_in_words(lead)}.{but}", count)


def _is_accuracy(one: Compared) -> bool:
    """Whether it is of what students predict."""
    metric = one.name.partition(".")[0]
    return metric in METRICS and METRICS.get(metric).of == "predictions"


def _in_words(one: Compared) -> str:
    differs, interval = change(one)
    points = " points" if one.measure.unit in ("share", "percent") else ""
    beside = f" ({_minus(interval)})" if interval else ", without an interval"
    return f"{one.measure.label} {_minus(differs)}{points}{beside}"


def _in_all(comparisons: Sequence[Comparison]) -> list[tuple[Pair, ...]]:
    """The pairs of each sample that all runs have, one a comparison; the most changed first."""
    of_place = [{pair.place: pair for pair in one.pairs} for one in comparisons]
    common = [pair.place for pair in comparisons[0].pairs if all(pair.place in of for of in of_place)]
    found = [tuple(of[place] for of in of_place) for place in common]
    return sorted(found, key=lambda of: (-max(pair.change for pair in of), of[0].place))


def _keys(comparisons: Sequence[Comparison]) -> list[tuple[str, list[str]]]:
    """The recipe keys in which any run differs from the first, with each run's value."""
    names = dict.fromkeys(key for one in comparisons for key, _, _ in one.keys)
    first = {key: a for one in comparisons for key, a, _ in one.keys}
    seconds = [{key: b for key, _, b in one.keys} for one in comparisons]
    return [(key, [setting(first[key]), *(setting(of.get(key, first[key])) for of in seconds)]) for key in names]


@cache
def _compiled() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=outside)
    return environment.from_string(_template("compare.html"))


def _template(name: str) -> str:
    return (files("concord.report") / "templates" / name).read_text(encoding="utf-8")


def _rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """A row a measure that any comparison has, with a cell for each run after the first."""
    of_name = [{one.name: one for one in found.measures} for found in comparisons]
    rows = []
    for name in dict.fromkeys(name for of in of_name for name in of):
        cells = [of.get(name) for of in of_name]
        known = next(one for one in cells if one is not None)
        a = figure(known.a, known.measure.unit)
        rows.append({"label": known.measure.label, "a": a, "cells": [_cell(one) for one in cells]})
    return rows


def _cell(one: Compared | None) -> dict[str, Any]:
    """A run's value beside the first's, with its interval as places on a line whose middle is no difference."""
    if one is None:
        return {"value": "-", "change": "", "interval": "", "verdict": "unknown"}
    differs, interval = change(one)
    values = {"change": _minus(differs), "interval": _minus(interval), "verdict": verdict(one)}
    cell: dict[str, Any] = {"value": figure(one.b, one.measure.unit), **values}
    if one.ci95 is not None and one.change is not None:
        reach = 1.1 * max(abs(one.ci95[0]), abs(one.ci95[1])) or 1.0
        places = (50 + 50 * value / reach for value in (*one.ci95, one.change))
        cell["low"], cell["high"], cell["middle"] = (round(place, 1) for place in places)
    return cell


def _minus(text: str) -> str:
    """A number's hyphen as a true minus; a lone one stands for no number."""
    return text if text == "-" else text.replace("-", "\N{MINUS SIGN}")


def _card(comparisons: Sequence[Comparison], pairs: Sequence[Pair], n: int) -> dict[str, Any]:
    first, lead = pairs[0], comparisons[0].lead
    values = [pair.details.get(lead.key) for pair in pairs] if lead else []
    rated = [one for one in values if one is not None]
    gains = [(b - a) * (lead.better or 1) for a, b in rated] if lead else []
    shown = [rated[0][0], *(b for _, b in rated)] if rated and any(gains) and len(rated) == len(pairs) else []
    runs = (comparisons[0].a, *(one.b for one in comparisons))
    return {
        "n": n,
        "class_name": first.class_name,
        "index": first.place[1],
        "changed": "identical"
        if all(pair.identical for pair in pairs)
        else f"{100 * max(pair.change for pair in pairs):.1f} % changed",
        "lead": lead and lead.lead[0],
        "beside": [figure(value, lead.unit) for value in shown] if lead else [],
        "verdict": "" if len(pairs) > 1 or not any(gains) else "better" if gains[0] > 0 else "worse",
        "gain": max(gains, default=0),
        "loss": min(gains, default=0),
        "images": [Markup(data_uri(run.by_place[first.place].image, SIDE, effort=4)) for run in runs],
    }


def figure(value: float | None, unit: Unit) -> str:
    """A value: shares in per cent, seconds with their unit; a dash where there is none."""
    return "-" if value is None else written(value, unit) + (" %" if unit == "percent" else "")


def change(one: Compared) -> tuple[str, str]:
    """The difference, as in ``+9.8`` (of shares in points), and what stands beside it.

    That is its interval, ``+7.0 to +12.6``, with p where it is known, or of seconds how many times as long B takes.
    """
    if one.change is None:
        return "-", ""

    def signed(value: float) -> str:
        text = written(value, unit_of_change(one.measure.unit))
        return text if float(text) else text[1:]

    beside = ""
    if one.ci95 is not None:
        p = f" (p {one.p:.2g})" if one.p is not None else ""
        beside = f"{signed(one.ci95[0])} to {signed(one.ci95[1])}{p}"
    elif one.measure.unit == "seconds" and one.a and one.b:
        beside = f"{one.b / one.a:.2f} times A"
    return signed(one.change), beside


def verdict(one: Compared) -> Literal["better", "worse", "same", "unclear", "unknown"]:
    """What the interval says of the second run."""
    return "same" if one.change == 0 else verdict_of(one.ci95, one.measure.better)


def setting(value: Any, most: int = 60) -> str:
    """A recipe's value in one line, cut where it is long."""
    text = plain(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= most else text[: most - 3] + "..."
