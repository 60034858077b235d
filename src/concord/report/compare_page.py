"""The comparison as one HTML file: figures, recipe keys, and the images side by side, the most changed first.

Nothing is fetched (a content security policy says so, too); everything from outside is escaped.
"""

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from jinja2 import Environment, Template
from markupsafe import Markup

from concord.metrics.measures import Unit, unit_of_change, written
from concord.metrics.measures import verdict as verdict_of
from concord.report.compare import Compared, Comparison, Pair
from concord.report.thumbnails import data_uri
from concord.text import plain

SIDE = 256
"""Longest edge of the embedded images."""
MOST = 200
"""Pairs on a page."""


def page(comparison: Comparison, most: int = MOST) -> str:
    """Return the page with the `most` most changed pairs. Raises OSError: an image is gone."""
    style, script = _template("compare.css"), _template("compare.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    shown = comparison.pairs[:most]
    return _compiled().render(
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        runs=(comparison.a, comparison.b),
        notes=comparison.notes,
        only=comparison.only,
        pairs=len(comparison.pairs),
        identical=sum(pair.identical for pair in comparison.pairs),
        measures=[_measure(one) for one in comparison.measures],
        keys=[(key, setting(a), setting(b)) for key, a, b in comparison.keys],
        cards=[_card(comparison, pair, n) for n, pair in enumerate(shown)],
        classes=sorted({pair.class_name for pair in shown}),
    )


@cache
def _compiled() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_outside)
    return environment.from_string(_template("compare.html"))


def _outside(value: Any) -> Any:
    """Texts in one line without control characters; markup of our own as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return (files("concord.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _measure(measure: Compared) -> dict[str, Any]:
    """A row, with its interval as places on a line from 0 to 100 whose middle is no difference."""
    differs, interval = change(measure)
    row: dict[str, Any] = {
        "label": measure.measure.label,
        "a": figure(measure.a, measure.measure.unit),
        "b": figure(measure.b, measure.measure.unit),
        "change": _minus(differs),
        "interval": _minus(interval),
        "verdict": verdict(measure),
    }
    if measure.ci95 is not None and measure.change is not None:
        reach = 1.1 * max(abs(measure.ci95[0]), abs(measure.ci95[1])) or 1.0
        places = (50 + 50 * value / reach for value in (*measure.ci95, measure.change))
        row["low"], row["high"], row["middle"] = (round(place, 1) for place in places)
    return row


def _minus(text: str) -> str:
    """A number's hyphen as a true minus; a lone one stands for no number."""
    return text if text == "-" else text.replace("-", "\N{MINUS SIGN}")


def _card(comparison: Comparison, pair: Pair, n: int) -> dict[str, Any]:
    lead = comparison.lead
    values = pair.details.get(lead.key, ()) if lead else ()
    first, second = values[:: lead.better or 1] if lead and values else (0, 0)
    return {
        "n": n,
        "class_name": pair.class_name,
        "index": pair.place[1],
        "changed": "identical" if pair.identical else f"{100 * pair.change:.1f} % changed",
        "lead": lead and lead.lead[0],
        "beside": [figure(value, lead.unit) for value in values] if lead else [],
        "gain": second - first,
        "images": [
            Markup(data_uri(run.by_place[pair.place].image, SIDE, effort=4)) for run in (comparison.a, comparison.b)
        ],
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
