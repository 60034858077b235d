"""The comparison as one HTML file: figures, recipe keys, and the images side by side, the most changed first.

Nothing is fetched (a strict content security policy says so, too); everything from outside is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image

from concord.comparison.measure import Comparison, Measure, Pair
from concord.comparison.run import Run
from concord.comparison.wording import change, figure, setting, verdict
from concord.console import plain

SIDE = 256
"""Longest edge of the embedded images; those of at most `EXACT` keep every pixel."""
EXACT = 96
MOST = 200


def page(comparison: Comparison, most: int = MOST) -> str:
    """Return the page with the `most` most changed pairs.

    Raises:
        OSError: an image is gone.
    """
    style, script = _template("page.css"), _template("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_outside)
    shown = comparison.pairs[:most]
    return environment.from_string(_template("page.html")).render(
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
    return (files("concord.comparison") / "templates" / name).read_text(encoding="utf-8")


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
