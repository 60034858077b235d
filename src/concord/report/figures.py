"""How the report writes figures, and what it begins with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from concord.metrics.measures import SETS, Figures, Unit, Value, pick, written

_UNKNOWN = "So few images do not tell whether informing made a difference:"


@dataclass(frozen=True)
class Lead:
    """The measure that the report begins with: what informing did to it, its figures in a sentence, and the pairs."""

    row: Figures
    did: str
    said: Markup
    pairs: Value | None


def lead(rows: Sequence[Figures], results: Mapping[str, Any]) -> Lead | None:
    """The first measure that has a sentence whose figures are all known."""
    for row in rows:
        measure, gain = row.measure, row.gain is not None
        for n, sentence in enumerate(measure.lead):
            needed = [name for name in SETS if f"{{{name}}}" in sentence]
            if all(getattr(row, name) for name in needed) and (gain or n or not measure.did):
                known = dict(zip(("better", "worse", "unclear"), measure.did, strict=False))
                did = known.get(row.verdict, _UNKNOWN) if gain and measure.did else ""
                shown_by = {name: figure(getattr(row, name), measure.unit) for name in needed}
                said = Markup.escape(sentence).format(**shown_by)
                beside = measure.key.format("informed").rpartition(".")[0]
                return Lead(row, did, said, pick(results, "results.json", f"{beside}.n"))
    return None


def figure(value: Value | None, unit: Unit) -> Markup:
    """A number as shown, with the exact one and where it comes from for programs; a dash where there is none."""
    if value is None:
        return Markup('<span class="none">\N{EN DASH}</span>')
    return Markup('<data value="{}" data-from="{}">{}</data>').format(
        repr(value.number), value.source, shown(value.number, unit)
    )


def shown(number: float, unit: Unit) -> str:
    """A number as a reader of the page wants it: with a true minus, and long times in minutes and hours."""
    text = _duration(number) if unit == "seconds" else written(number, unit)
    return text.replace("-", "\N{MINUS SIGN}").replace(" %", "\N{NO-BREAK SPACE}%")


def reach(rows: Sequence[Figures]) -> float:
    """The largest distance from 0 that an interval reaches: half the scale of the plot of changes."""
    ends = [abs(v.number) for row in rows for v in (row.low, row.high) if v is not None]
    return max(ends, default=0.0) or 1.0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.3f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
