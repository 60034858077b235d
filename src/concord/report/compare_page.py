"""Figures of a comparison as text, alike on the terminal and on the page.

The comparison as one HTML file: figures, recipe keys, and the images side by side, the most changed first.

Nothing is fetched (a strict content security policy says so, too); everything from outside is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from concord.report.compare import Comparison, Measure, Pair, Unit
from concord.runs.compared import Run
from concord.text import plain

SIDE = 256
"""Longest edge of the embedded images; those of at most `EXACT` keep every pixel."""


EXACT = 96


MOST = 200


def page(comparison: Comparison, most: int = MOST) -> str:
    """Return the page with the `most` most changed pairs.

    Raises:
        OSError: an image is gone.
    """
    style, script = _template("compare.css"), _template("compare.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_outside)
    shown = comparison.pairs[:most]
    return environment.from_string(_template("compare.html")).render(
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        runs=[_run(run) for run in (comparison.a, comparison.b)],
        notes=comparison.notes,
        only=comparison.only,
        pairs=len(comparison.pairs),
        identical=sum(pair.identical for pair in comparison.pairs),
        measures=[_measure(one) for one in comparison.measures],
        keys=[(key, setting(a), setting(b)) for key, a, b in comparison.keys],
        cards=[_card(comparison, pair, n) for n, pair in enumerate(shown)],
        classes=sorted({pair.class_name for pair in shown}),
    )


def _outside(value: Any) -> Any:
    """Texts in one line without control characters; markup of our own as it is."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return (files("concord.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _run(run: Run) -> dict[str, Any]:
    return {
        "out": str(run.out),
        "name": run.recipe.get("name", "?"),
        "method": run.recipe.get("method", "?"),
        "main": run.main,
        "images": len(run.rows),
    }


def _measure(measure: Measure) -> dict[str, Any]:
    """A row, with its interval as places on a line from 0 to 100 whose middle is no difference."""
    differs, interval = change(measure)
    row: dict[str, Any] = {
        "label": measure.label,
        "a": figure(measure.a, measure.form),
        "b": figure(measure.b, measure.form),
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
    missing = pair.details.get("likely_missing")
    return {
        "n": n,
        "class_name": pair.class_name,
        "index": pair.place[1],
        "changed": "identical" if pair.identical else f"{100 * pair.change:.1f} % changed",
        "missing": missing and [figure(value, "share") for value in missing],
        "gain": missing[0] - missing[1] if missing else 0,
        "images": [_uri(run.image(pair.place)) for run in (comparison.a, comparison.b)],
    }


def _uri(path: Path) -> Markup:
    """An image as a data URI."""
    with Image.open(path) as image:
        small = image.convert("RGB")
    exact = max(small.size) <= EXACT
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", lossless=exact, quality=82, method=4)
    return Markup("data:image/webp;base64,") + base64.b64encode(buffer.getvalue()).decode()


Verdict = Literal["better", "worse", "same", "unclear"]


def figure(value: float | None, form: Unit) -> str:
    """A value: shares in per cent, seconds with their unit; a dash where there is none."""
    if value is None:
        return "-"
    return {
        "share": f"{100 * value:.1f} %",
        "percent": f"{value:.1f} %",
        "number": f"{value:.3f}",
        "seconds": f"{value:.3g} s",
    }[form]


def change(measure: Measure) -> tuple[str, str]:
    """The difference, as in ``+9.8`` (of shares in points), and what stands beside it.

    That is its interval, ``+7.0 to +12.6``, with p where it is known, or of seconds how many times as long B takes.
    """
    if measure.change is None:
        return "-", ""
    scale, digits = {"share": (100, 1), "percent": (1, 1), "number": (1, 3), "seconds": (1, 3)}[measure.form]

    def signed(value: float) -> str:
        return f"{scale * value + 0.0:+.{digits}f}" if round(scale * value, digits) else f"{0:.{digits}f}"

    beside = ""
    if measure.ci95 is not None:
        beside = f"{signed(measure.ci95[0])} to {signed(measure.ci95[1])}"
        if measure.p is not None:
            beside += f" (p {measure.p:.2g})"
    elif measure.form == "seconds" and measure.a and measure.b:
        beside = f"{measure.b / measure.a:.2f} times A"
    return signed(measure.change), beside


def verdict(measure: Measure) -> Verdict:
    """What the interval says of the second run; "unclear" where it holds 0, is not known, or neither side is better."""
    if measure.change == 0:
        return "same"
    if measure.ci95 is None or not measure.better or measure.ci95[0] <= 0 <= measure.ci95[1]:
        return "unclear"
    return "better" if (measure.ci95[0] > 0) == (measure.better > 0) else "worse"


def setting(value: Any, most: int = 60) -> str:
    """A recipe's value in one line, cut where it is long."""
    text = plain(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= most else text[: most - 3] + "..."
