"""What the page's scripts draw from: classes, samples, marks and pictures, as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from concord.report import thumbnails
from concord.report.judging import Judge, mark
from concord.report.record import Pair, Record, Shot

SHOWN = 50
"""Samples of a class that a page shows at most; a set of many classes shows fewer, as its bytes are bounded."""


@dataclass
class Texts:
    """Phrases and prompts, each written once: samples of a class share nearly all of theirs."""

    all: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> int:
        if text not in self._places:
            self._places[text] = len(self.all)
            self.all.append(text)
        return self._places[text]


@dataclass(frozen=True)
class Contents:
    """`data` for the scripts; `pictures`: for each class its samples' data URIs, [after, before or ""].

    `shown` of `images` samples are on the page.
    """

    data: dict[str, Any]
    pictures: list[list[list[str]]]
    shown: int
    images: int


def contents(record: Record, judge: Judge, budget: int) -> Contents:
    """Decide which samples are shown, make their thumbnails, and put together what the scripts need."""
    pairs = record.pairs
    lists = {"improved": judge.improved(pairs), "worst": judge.worst(pairs), "failed": judge.failed(pairs)}
    wanted = {id(pair) for listed in lists.values() for pair in listed}
    pictures = _pictures(record, wanted, budget)
    texts, place, classes, uris = Texts(), {}, [], []
    for position, of_class in enumerate(record.classes.values()):
        shown = [pair for pair in of_class if id(pair) in pictures]
        for nth, pair in enumerate(shown):
            place[id(pair)] = [position, nth]
        classes.append(_class(record, of_class, shown, judge, texts))
        uris.append([pictures[id(pair)] for pair in shown])
    data = {
        "texts": texts.all,
        "classes": classes,
        "lists": {name: [place[id(pair)] for pair in listed if id(pair) in place] for name, listed in lists.items()},
        "after": record.made_as,
        "paired": record.paired,
        "missingBelow": judge.missing_below,
    }
    return Contents(data, uris, len(place), len(pairs))


def _pictures(record: Record, wanted: set[int], budget: int) -> dict[int, list[str]]:
    """Data URIs of the samples that are shown: the first of each class, the listed ones, the second of each, ..."""
    images = 2 if record.paired else 1
    count = min(SHOWN, thumbnails.samples_within(images, len(record.classes), budget))
    rounds = [pairs[0] for pairs in record.classes.values()]
    rounds += [pair for pairs in record.classes.values() for pair in pairs[1:] if id(pair) in wanted]
    for nth in range(1, min(count, max(map(len, record.classes.values()), default=0))):
        rounds += [pairs[nth] for pairs in record.classes.values() if nth < len(pairs) and id(pairs[nth]) not in wanted]
    side = thumbnails.side_for(images * len(rounds), budget)
    files = ([record.out / shot.file for shot in (pair.after, pair.before) if shot] for pair in rounds)
    return {id(pair): uris for pair, uris in zip(rounds, thumbnails.fitting(files, side, budget), strict=False)}


def _class(
    record: Record, of_class: Sequence[Pair], shown: Sequence[Pair], judge: Judge, texts: Texts
) -> dict[str, Any]:
    row = of_class[0].row
    folder = str(Path(row["file_name"]).parent.as_posix())
    phrases = list(dict.fromkeys(d["phrase"] for pair in of_class for shot in _shots(pair) for d in shot.details))
    rated = record.concepts.get("classes", {}).get(folder, {}).get("concepts", [])
    near = record.near_copies.get("images", {})
    return {
        "name": str(row.get("class_name", folder)),
        "phrases": [texts(phrase) for phrase in phrases],
        "concepts": [
            [texts(c["phrase"]), c["activation"], int(c["kept"]) + int(c.get("pinned", False))] for c in rated
        ],
        "count": len(of_class),
        "helped": judge.class_helped(of_class),
        "samples": [_sample(pair, phrases, judge, near, texts) for pair in shown],
    }


def _sample(pair: Pair, phrases: Sequence[str], judge: Judge, near: Mapping[str, Any], texts: Texts) -> dict[str, Any]:
    row = pair.row
    values: dict[str, Any] = {"index": row["index"], "seed": row.get("seed"), "file": pair.after.file}
    for key in ("prompt", "source", "checkpoint"):
        if row.get(key):
            values[key] = texts(str(row[key]))
    for key in ("positives", "negatives"):
        values[key] = [texts(str(text)) for text in row.get(key, [])]
    values["after"] = _judged(pair.after, phrases, judge)
    if pair.before:
        values["before"] = _judged(pair.before, phrases, judge)
    if pair.after.file in near:
        values["near"] = near[pair.after.file]
    return values


def _judged(shot: Shot, phrases: Sequence[str], judge: Judge) -> dict[str, Any]:
    """Marks, a letter a phrase (a space where it was not judged), and percentiles."""
    of = {detail["phrase"]: detail for detail in shot.details}
    return {
        "marks": "".join(mark(of[p], judge.missing_below) if p in of else " " for p in phrases) if of else "",
        "percentiles": [of[p]["percentile"] if p in of else None for p in phrases] if of else [],
    }


def _shots(pair: Pair) -> Iterator[Shot]:
    yield pair.after
    if pair.before:
        yield pair.before
