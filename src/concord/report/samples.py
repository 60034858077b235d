"""What the page's scripts draw from (plain JSON values), and which samples are good, bad, or not helped by informing.

Of `details.json`, a detail at or above the median of the real images counts as present, one in the lowest quarter as
likely missing, one in between as weak. Where a row says `found`, a detector's word, that decides alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from concord.report import thumbnails
from concord.runs.directory import Pair, Run, StoredSample

SHOWN = 50
"""Samples of a class that a page shows at most; a set of many classes shows fewer, as its bytes are bounded."""


class Texts(dict[str, int]):
    """Places of phrases and prompts, each written once: samples of a class share nearly all of theirs."""

    def __call__(self, text: str) -> int:
        return self.setdefault(text, len(self))


@dataclass(frozen=True)
class Contents:
    """What the scripts need: `data`; for each class its samples that are shown, and their images [after, before or ""].

    `shown` of `images` are.
    pictures: data URIs; or, `beside` the page, the addresses of the files themselves, of each class's first sample.
    """

    data: dict[str, Any]
    samples: list[list[dict[str, Any]]]
    pictures: list[list[list[str]]]
    shown: int
    images: int
    beside: bool


def contents(run: Run, judge: "Judge", budget: int, standalone: bool = False) -> Contents:
    """Decide which samples are shown, make their thumbnails, and put together what the scripts need.

    Of a set whose images do not keep to the budget, the page shows the run's own files, unless it is to stand alone.
    """
    pairs = run.pairs
    lists = {"improved": judge.improved(pairs), "worst": judge.worst(pairs), "failed": judge.failed(pairs)}
    wanted = {id(pair) for listed in lists.values() for pair in listed}
    beside = not standalone and _fit(run, budget) < min(SHOWN, max(map(len, run.by_label.values()), default=0))
    pictures, side = (_addresses(run, wanted), 0) if beside else _pictures(run, wanted, budget)
    scores = _scores(pairs)
    texts, place, classes, samples, uris = Texts(), {}, [], [], []
    for position, of_class in enumerate(run.by_label.values()):
        shown = [pair for pair in of_class if id(pair) in pictures]
        for nth, pair in enumerate(shown):
            place[id(pair)] = [position, nth]
        of_run, told = _class(run, of_class, shown, judge, texts)
        classes.append(of_run)
        samples.append(told)
        if scores:
            classes[-1]["scores"] = {name: [pair.after.scores.get(name) for pair in shown] for name in scores}
        uris.append([pictures[id(pair)] for pair in (shown[:1] if beside else shown)])
    data = {
        "texts": list(texts),
        "classes": classes,
        "lists": {name: [place[id(pair)] for pair in listed if id(pair) in place] for name, listed in lists.items()},
        "after": run.made_as,
        "started": (run.recipe.get("pipeline") or {}).get("start") == "real",
        "paired": run.paired,
        "missingBelow": judge.missing_below,
        "scores": scores,
        "beside": beside,
        "exactBelow": min(side, thumbnails.EXACT + 1),  # edges of pictures that are the very pixels of their files
    }
    return Contents(data, samples, uris, len(place), len(pairs), beside)


def _scores(pairs: Sequence[Pair]) -> list[str]:
    """Names of what was noted while images were made, where it tells them apart."""
    names = dict.fromkeys(name for pair in pairs for name in pair.after.scores)
    return [name for name in names if len({pair.after.scores.get(name) for pair in pairs}) > 1]


def _fit(run: Run, budget: int) -> int:
    """How many samples of each class keep to the budget at the smallest size."""
    return thumbnails.samples_within(2 if run.paired else 1, len(run.by_label), budget)


def _addresses(run: Run, wanted: set[int]) -> dict[int, list[str]]:
    """Where the images of the samples that are shown lie: the first of each class, and the listed ones."""
    shown = (pair for pairs in run.by_label.values() for n, pair in enumerate(pairs) if n < SHOWN or id(pair) in wanted)
    return {id(pair): [quote(sample.file) for sample in _both(pair)] for pair in shown}


def _pictures(run: Run, wanted: set[int], budget: int) -> tuple[dict[int, list[str]], int]:
    """Data URIs of the samples that are shown: the first of each class, the listed ones, the second of each, ...; and
    the longest edge that they were shrunk to."""
    count = min(SHOWN, _fit(run, budget))
    rounds = [pairs[0] for pairs in run.by_label.values()]
    rounds += [pair for pairs in run.by_label.values() for pair in pairs[1:] if id(pair) in wanted]
    for nth in range(1, min(count, max(map(len, run.by_label.values()), default=0))):
        rounds += [pairs[nth] for pairs in run.by_label.values() if nth < len(pairs) and id(pairs[nth]) not in wanted]
    side = thumbnails.side_for((2 if run.paired else 1) * len(rounds), budget)
    files = ([sample.path for sample in _both(pair)] for pair in rounds)
    uris = thumbnails.fitting(files, side, budget)
    return {id(pair): of_pair for pair, of_pair in zip(rounds, uris, strict=False)}, side


def _class(
    run: Run, of_class: Sequence[Pair], shown: Sequence[Pair], judge: "Judge", texts: Texts
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A class as a whole, and those of its samples that are shown."""
    first = of_class[0].after
    phrases = list(dict.fromkeys(d["phrase"] for pair in of_class for sample in _both(pair) for d in sample.details))
    rated = run.concepts.get("classes", {}).get(first.folder, {}).get("concepts", [])
    near = run.near_copies.get("images", {})
    return {
        "name": first.class_name,
        "phrases": [texts(phrase) for phrase in phrases],
        "concepts": [[texts(c["phrase"]), c["activation"], c["kept"] + c.get("pinned", False)] for c in rated],
        "count": len(of_class),
        "shown": len(shown),
        "helped": judge.class_helped(of_class),
    }, [_sample(pair, phrases, judge, near, texts) for pair in shown]


def _sample(
    pair: Pair, phrases: Sequence[str], judge: "Judge", near: Mapping[str, Any], texts: Texts
) -> dict[str, Any]:
    row = pair.after.row
    values: dict[str, Any] = {"index": row["index"], "seed": row.get("seed"), "file": pair.after.file}
    for key in ("prompt", "negative_prompt", "source", "start", "checkpoint"):
        if row.get(key):
            values[key] = texts(str(row[key]))
    values |= {key: [texts(str(text)) for text in row.get(key, [])] for key in ("positives", "negatives")}
    values["after"] = _judged(pair.after, phrases, judge)
    if pair.before:
        values["before"] = _judged(pair.before, phrases, judge)
    if found := near.get(pair.after.file):
        values["near"] = {key: value for key, value in found.items() if value is not False}
    return values


def _judged(sample: StoredSample, phrases: Sequence[str], judge: "Judge") -> dict[str, Any]:
    """Marks, a letter a phrase (a space where it was not judged), and percentiles."""
    of = {detail["phrase"]: detail for detail in sample.details}
    rows = [of.get(phrase) for phrase in phrases] if of else []
    marks = "".join(mark(row, judge.missing_below) if row else " " for row in rows)
    return {"marks": marks, "percentiles": [row and row["percentile"] for row in rows]}


def _both(pair: Pair) -> list[StoredSample]:
    return [pair.after, *([pair.before] if pair.before else [])]


PRESENT, WEAK, MISSING = "p", "w", "m"
PRESENT_FROM, MISSING_BELOW = 0.5, 0.25
LISTED = 8
"""Samples in each list of the worst and the best."""


class Standing(NamedTuple):
    """How an image stands: details likely missing, and the mean percentile of all; fewer, then higher, is better."""

    missing: int
    mean: float

    @property
    def rank(self) -> tuple[int, float]:
        """Smaller is better."""
        return self.missing, -self.mean


def mark(detail: dict[str, Any], missing_below: float = MISSING_BELOW) -> str:
    """`PRESENT`, `WEAK` or `MISSING`, for one row of `details.json`."""
    found = detail.get("found")
    if isinstance(found, bool):
        return PRESENT if found else MISSING
    percentile = float(detail["percentile"])
    return PRESENT if percentile >= PRESENT_FROM else WEAK if percentile >= missing_below else MISSING


class Judge:
    """Ranks the samples of a run; `missing_below` is that of `details.json`."""

    def __init__(self, missing_below: float) -> None:
        self.missing_below = missing_below

    def standing(self, sample: StoredSample) -> Standing | None:
        """Of one image; None where nothing judged it."""
        if not sample.details:
            return None
        marks = [mark(detail, self.missing_below) for detail in sample.details]
        percentiles = [float(detail["percentile"]) for detail in sample.details]
        return Standing(marks.count(MISSING), sum(percentiles) / len(percentiles))

    def both(self, pair: Pair) -> tuple[Standing, Standing] | None:
        """Standings before and after informing; None where either is not judged."""
        after = self.standing(pair.after)
        before = self.standing(pair.before) if pair.before else None
        return (before, after) if before and after else None

    def helped(self, pair: Pair) -> bool | None:
        """Whether fewer details are missing than without informing or, with as many, the mean percentile rose."""
        both = self.both(pair)
        return both and both[1].rank < both[0].rank

    def class_helped(self, pairs: Sequence[Pair]) -> bool | None:
        """The same for a class as a whole; None where nothing is judged."""
        both = [standings for pair in pairs if (standings := self.both(pair))]
        if not both:
            return None
        sides = zip(*both, strict=True)
        before, after = (Standing(sum(s.missing for s in of), sum(s.mean for s in of) / len(both)) for of in sides)
        return after.rank < before.rank

    def worst(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples with the most details missing, then the lowest percentiles, the worst first."""
        judged = [(standing.rank, pair) for pair in pairs if (standing := self.standing(pair.after))]
        return _first(judged, lambda rank: (-rank[0], -rank[1]))

    def improved(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples that informing helped most, the most improved first."""
        judged = [(both, pair) for pair in pairs if (both := self.both(pair)) and self.helped(pair)]
        return _first(judged, lambda both: (both[1].missing - both[0].missing, both[0].mean - both[1].mean))

    def failed(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Samples that informing did not help, those with the most missing and the largest loss first."""
        judged = [(both, pair) for pair in pairs if (both := self.both(pair)) and not self.helped(pair)]
        return _first(judged, lambda both: (-both[1].missing, both[1].mean - both[0].mean))


def _first(judged: Sequence[tuple[Any, Pair]], key: Callable[[Any], Any]) -> list[Pair]:
    order = sorted(judged, key=lambda one: (key(one[0]), one[1].after.label, one[1].after.index))
    return [pair for _, pair in order[:LISTED]]
