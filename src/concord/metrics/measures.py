"""What a measure is: the one table, from which terminal, report, comparison, contact sheet and data card are written.

A built-in metric is an entry of this file, and a stranger's one of a package: both are found by the registry, and no
view names one. Here is also how a value is written in its unit, and what an interval says.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from concord.registry import METRICS, Measure, MetricSpec, ScorerSpec

# fmt: off
DETAILS = MetricSpec(
    "details", "run", "concord.metrics.details:measure",
    "Which details an image is likely to lack, by percentiles among real images.",
    (
        Measure(
            "details.{}.likely_missing", "details likely missing (by percentile)", "share", -1, "details.gain",
            "share of details that look fainter than on three quarters of the real images", title="Likely missing",
            lead=(
                "Of their classes’ details, {informed} are likely missing, and {uninformed} without informing at the"
                " same seeds.",
                "Of their classes’ details, {informed} are likely missing.",
            ),
            places=("terminal", "report"),  # a comparison has it pair by pair
        ),
        Measure("found", "details found by the detector", "share", 1, of="phrase"),
        Measure("likely_missing", "details likely missing", "share", -1, of="phrase", lead=("likely missing",)),
        Measure("percentile", "mean percentile among real images", "number", 1, of="phrase"),
    ),
    rank=2,
    of_class="concord.metrics.details:of_class",
)
NEAR_COPIES = MetricSpec(
    "near_copies", "run", "concord.metrics.copies:measure", "How many images are real ones, or nearly.",
    card=(
        "Near copies: {flagged:d} of {of:d} images lie closer to a real image of their class than real images lie to"
        " each other; {identical:d} equal one in every pixel.",
    ),
    limit="It was not examined for near copies of real images.",
    of_class="concord.metrics.copies:of_class",
)
EMBEDDINGS = MetricSpec(
    "embeddings", "run", "concord.metrics.embeddings:measure",
    "Where made and real images lie beside each other; it leaves embeddings.npz, and no figure.",
    of_class="concord.metrics.embeddings:of_class",
)
COMPLETENESS = MetricSpec(
    "completeness", "run", "concord.metrics.completeness:measure",
    "How many of its class's details an image shows, by the recipe's scorer.",
    (
        Measure(
            "completeness.{}.mean", "details shown (completeness)", "share", 1, "completeness.gain",
            "share of the details of its class that an image shows", "completeness", "Completeness",
            lead=(
                "an image shows {informed} of its class’s details, and {uninformed} without informing at the same seed."
                " Among real images it is {real}.",
                "An image shows {informed} of its class’s details.",
            ),
            did=(
                "Informing made them more complete:",
                "Informing made them less complete:",
                "Informing changed their completeness by less than the uncertainty:",
            ),
        ),
        Measure(
            "completeness.{}.complete", "images with all their details", "share", 1, "completeness.gain_complete",
            "share of images that show every detail of their class", "complete", "Complete images",
        ),
        Measure(
            "completeness.{}.foreign", "foreign details an image", "number", -1, "completeness.gain_foreign",
            "details an image that its class does not have", "foreign", "Foreign details",
        ),
    ),
    sheet=(
        "Completeness {uninformed[mean]:.3f} uninformed, {informed[mean]:.3f} informed: {gain[mean]:+.3f}"
        " ({informed[n]} pairs at the same seeds).",
        "The 95 % interval of that gain is {gain[ci95][0]:+.3f} to {gain[ci95][1]:+.3f}.",
        "Complete samples {uninformed[complete]:.0%}, {informed[complete]:.0%}. Foreign details an image"
        " {uninformed[foreign]:.2f}, {informed[foreign]:.2f}.",
        "A filled number: the scorer finds the concept in the image. A crossed one: it does not.",
    ),
    rank=1,
    of_class="concord.metrics.completeness:of_class",
)
TEACHER_ACCURACY = MetricSpec(
    "teacher_accuracy", "run", "concord.metrics.completeness:measure_teacher_accuracy",
    "How many images the recipe's teacher recognises.",
    (
        Measure(
            "teacher_accuracy.{}", "recognised by the teacher", "share", 1, "teacher_accuracy.gain",
            "share of images that a classifier of real images recognises", "teacher_accuracy", "Teacher accuracy",
        ),
    ),
    rank=3,
    of_class="concord.metrics.completeness:recognised_of_class",
)
NUISANCE_DIVERSITY = MetricSpec(
    "nuisance_diversity", "run", "concord.metrics.completeness:measure_nuisance_diversity",
    "How much images of a class differ in what carries no meaning.",
    (
        Measure(
            "nuisance_diversity.{}", "nuisance diversity", "number", 1, "nuisance_diversity.gain",
            "spread of what carries no meaning, within classes; real images have about 1",
            "nuisance_diversity", "Nuisance diversity",
        ),
    ),
    rank=4,
    of_class="concord.metrics.completeness:nuisances_of_class",
)
# fmt: on
DETECTOR = ScorerSpec(
    "detector",
    "concord.metrics.scorers:detector",
    "An attribute detector, named in scorer.model.",
    lambda recipe: {"scorer.model": recipe.scorer.model},
)
PERCENTILE = ScorerSpec(
    "percentile",
    "concord.metrics.scorers:percentile",
    "Percentiles of image-text similarity among real images.",
    lambda recipe: {"encoder": recipe.encoder} | ({"scorer.model": m} if (m := recipe.scorer.model) else {}),
)
VQA = ScorerSpec(
    "vqa",
    "concord.metrics.vqa:build",
    "A vision-language model on a server with the chat protocol, asked VQAScore's question.",
    asks=True,
)
NO_SCORER = ScorerSpec("none", "concord.metrics.scorers:no_scorer", "Nothing rates images.")
ALWAYS = ("details", "near_copies", "embeddings", "completeness", "teacher_accuracy", "nuisance_diversity")
"""Metrics of informed sets that no recipe has to name, in the order of results.json; each says where it applies."""


def shown_metrics(results: Mapping[str, Any]) -> list[MetricSpec]:
    """The metrics of runs that a view of `results.json` loops over, in the order in which they are shown."""
    names = dict.fromkeys((*ALWAYS, *(name for name in METRICS if name in results)))
    return sorted((spec for name in names if (spec := METRICS.get(name)).of == "run"), key=lambda spec: spec.rank)


def phrase_measures(results: Mapping[str, Any]) -> list[Measure]:
    """What `details.json` may say of a phrase on an image."""
    return [row for spec in shown_metrics(results) for row in spec.rows if row.of == "phrase"]


def lines(results: Mapping[str, Any], where: Literal["sheet", "card"]) -> Iterator[str]:
    """What the metrics say in whole sentences on a contact sheet or a data card."""
    for spec in shown_metrics(results):
        if figures := results.get(spec.name):
            for line in getattr(spec, where):
                with contextlib.suppress(KeyError, IndexError, TypeError, ValueError):  # a figure is not there
                    yield line.format(**figures)


@dataclass(frozen=True)
class Value:
    """A number, and where it stands: file and dotted key."""

    number: float
    source: str


def pick(values: Mapping[str, Any], file: str, key: str) -> Value | None:
    """The number at a dotted key (a list's place is a number), or None where there is none."""
    level: Any = values
    for name in key.split("."):
        if isinstance(level, Mapping):
            level = level.get(name)
        elif isinstance(level, list) and name.isdigit() and int(name) < len(level):
            level = level[int(name)]
        else:
            return None
    return Value(level, f"{file}:{key}") if isinstance(level, int | float) and not isinstance(level, bool) else None


SETS = ("uninformed", "informed", "real")
Verdict = Literal["better", "worse", "unclear", "unknown"]


@dataclass(frozen=True)
class Figures:
    """What results.json says of one measure: of each set, and what informing changed, with its 95 % interval."""

    measure: Measure
    uninformed: Value | None
    informed: Value | None
    real: Value | None
    gain: Value | None
    low: Value | None
    high: Value | None

    @property
    def verdict(self) -> Verdict:
        return verdict((self.low.number, self.high.number) if self.low and self.high else None, self.measure.better)

    @property
    def change(self) -> "Unit":
        """The unit of what informing changed."""
        return unit_of_change(self.measure.unit)

    def interval(self, unit: "Unit", digits: int | None = None) -> str:
        """What informing changed, as in ``+12.8 [+9.8, +15.8]``; empty where it is not known."""
        known = [written(value.number, unit, digits) for value in (self.gain, self.low, self.high) if value]
        return f"{known[0]} [{', '.join(known[1:]) or 'no interval'}]" if self.gain else ""


def figures(results: Mapping[str, Any], place: Literal["terminal", "report", "card"] = "report") -> list[Figures]:
    """The rows that a view of `results.json` shows, the most telling first; each has a value of some set."""
    found = []
    for measure in (row for spec in shown_metrics(results) for row in spec.rows):
        if measure.of == "set" and place in measure.places:
            keys = [measure.key.format(name) for name in SETS]
            if "{}" not in measure.key:  # of the run as it is
                keys = ["", measure.key, ""]
            keys += [f"{measure.gain}.{key}" for key in ("mean", "ci95.0", "ci95.1")]
            row = Figures(measure, *(pick(results, "results.json", key) for key in keys))
            if row.uninformed or row.informed or row.real:
                found.append(row)
    return found


def verdict(ci95: Sequence[float] | None, better: int) -> Verdict:
    """What an interval says; "unclear" where it holds 0, or neither direction is better, "unknown" without one."""
    if ci95 is None:
        return "unknown"
    if not better or ci95[0] <= 0 <= ci95[1]:
        return "unclear"
    return "better" if (ci95[0] > 0) == (better > 0) else "worse"


Unit = Literal["share", "points", "number", "change", "count", "seconds", "similarity", "percent", "gain"]
_FORMATS: dict[str, tuple[float, str, int, str]] = {  # scale, sign or separator, digits, kind and what follows
    "share": (100, "", 1, "f %"),
    "points": (100, "+", 1, "f"),
    "number": (1, "", 3, "f"),
    "change": (1, "+", 3, "f"),
    "count": (1, ",", 0, "f"),
    "seconds": (1, "", 3, "g s"),
    "similarity": (1, "", 2, "f"),
    "percent": (1, "", 1, "f"),
    "gain": (1, "+", 1, "f"),
}


def written(number: float, unit: Unit, digits: int | None = None) -> str:
    """A number in its unit: shares in per cent and their changes in points, as in ``88.6 %`` and ``+12.8``.

    Accuracies are in per cent as they stand ("percent"), and so are their differences ("gain").
    """
    scale, sign, usual, kind = _FORMATS[unit]
    return f"{scale * number:{sign}.{usual if digits is None else digits}{kind[0]}}{kind[1:]}"


def unit_of_change(unit: Unit) -> Unit:
    """The unit of a difference of two values."""
    changes: dict[Unit, Unit] = {"share": "points", "percent": "gain"}
    return changes.get(unit, "change")
