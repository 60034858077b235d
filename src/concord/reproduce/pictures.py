"""What figures show of images, read from sets: pairs, strips, a plane of embeddings, and phrases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from concord.concepts.bank import load_bank
from concord.errors import ConcordError
from concord.report import distribution
from concord.report.samples import MISSING_BELOW, Judge
from concord.report.thumbnails import thumbnail
from concord.reproduce.items import Item
from concord.reproduce.plan import CellPlan, Plan
from concord.runs.directory import EMBEDDINGS, Run, StoredSample

SIDE = 192
"""Longest edge of an embedded image."""
FIGURES = "figures"
"""Where data of figures lie that are of several sets."""


@dataclass(frozen=True)
class Shown:
    """One image as a data URI, and what stands below it. file: where it lies, below the directory of all."""

    uri: str
    text: str
    file: str


@dataclass(frozen=True)
class Strip:
    """Images beside each other. title: what they are of."""

    title: str
    images: Sequence[Shown]


@dataclass(frozen=True)
class Phrases:
    """A class's phrases of one bank, and which of them were kept on real images (None: not selected yet)."""

    bank: str
    class_name: str
    phrases: Sequence[tuple[str, bool | None]]


def runs_of(plan: Plan, item: Item) -> list[tuple[CellPlan, Run]]:
    """The first draws of an item's sets that are finished, by row."""
    found = []
    for cell in plan.of(item):
        if cell.set and (run := Run(plan.draw(cell.set, plan.sets[cell.set].seeds[0]))).finished:
            found.append((cell, run))
    return found


def pairs(plan: Plan, item: Item) -> list[Strip]:
    """Images, each beside the uninformed one of its seed where the row is paired: the first, those that informing
    helped most, or not."""
    strips = []
    for cell, run in runs_of(plan, item):
        judge = Judge(float(run.details.get("missing_below", MISSING_BELOW)))
        together = sorted(run.pairs, key=lambda pair: (pair.after.index, pair.after.label))
        if item.pick in ("improved", "failed"):
            together = judge.improved(together) if item.pick == "improved" else judge.failed(together)
        for pair in together[: item.count]:
            named = [(cell.row.removesuffix(" informed"), pair.before)] if pair.before else []
            shown = [
                _shown(plan, sample, _said(name, sample, judge)) for name, sample in [*named, (cell.row, pair.after)]
            ]
            strips.append(Strip(f"{pair.after.class_name}, number {pair.after.index}", shown))
    return strips


def _said(name: str, sample: StoredSample, judge: Judge) -> str:
    standing = judge.standing(sample)
    if standing is None:
        return name
    missing = f"{standing.missing} of {len(sample.details)} details missing"
    return f"{name}: {missing}"


def strips(plan: Plan, item: Item) -> list[Strip]:
    """One sample of each of the first classes by every row, a strip a series, its weights rising."""
    rows = {row.name: row for row in item.rows}
    found = [(rows[cell.row], run) for cell, run in runs_of(plan, item)]
    if not found:
        return []
    plain = [(row, run) for row, run in found if not row.series]
    shown = []
    # A set that a table has more images of shows no more of them here.
    for sample in [one for one in found[0][1].samples() if not one.index][: item.count]:
        for series in dict.fromkeys(row.series for row, _ in found if row.series):
            some = [*plain, *((row, run) for row, run in found if row.series == series)]
            images = [
                _shown(plan, other, f"{row.x:g}")
                for row, run in some
                if (other := run.by_place.get((sample.folder, sample.index))) is not None
            ]
            shown.append(Strip(f"{sample.class_name}: {series}", images))
    return shown


def _shown(plan: Plan, sample: StoredSample, text: str) -> Shown:
    return Shown(thumbnail(sample.path, SIDE), text, sample.path.relative_to(plan.work).as_posix())


def plane(plan: Plan, item: Item) -> list[distribution.Picture]:
    """Where the images of each method's rows and real ones lie: t-SNE of those of one method together."""
    by_method: dict[str, dict[str, np.ndarray]] = {}
    for cell, run in runs_of(plan, item):
        path, row = run.out / EMBEDDINGS, item.row(cell.row)
        if not path.is_file():
            continue
        arrays = by_method.setdefault(row.method, {})
        with np.load(path, allow_pickle=False) as archive:
            for name in ("real", "conditions", "informed", "uninformed"):
                if name in archive.files and (row.informed or name == "uninformed"):
                    arrays |= {key: archive[key] for key in (name, f"labels_{name}") if key in archive.files}
    found = []
    for method, arrays in by_method.items():
        if "informed" not in arrays:
            continue
        out = plan.work / FIGURES / f"{item.name}-{method}.npz"
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
        called = next(row.name for row in item.rows if row.method == method).removesuffix(" informed")
        found += [replace(one, title=f"{called}: {one.title}") for one in distribution.pictures(out)]
    return found


def phrases(plan: Plan, item: Item) -> list[Phrases]:
    """The phrases of the first classes, by bank."""
    found = []
    for cell in plan.of(item):
        if not cell.set:
            continue
        one = plan.sets[cell.set]
        if (name := one.base.concepts.bank) is None:
            continue
        try:
            bank = load_bank(name)
        except ConcordError:
            continue
        run = Run(plan.draw(one.name, one.seeds[0]))
        for class_name in list(bank.classes)[: item.count]:
            of_class = _kept(run, class_name) or {}
            rows = [(phrase, of_class.get(phrase) if of_class else None) for phrase in bank.classes[class_name].phrases]
            found.append(Phrases(f"{cell.row} ({Path(name).name})", class_name, rows))
    return found


def _kept(run: Run, class_name: str) -> dict[str, bool] | None:
    for of in run.concepts.get("classes", {}).values():
        if of.get("class_name") == class_name:
            return {c["phrase"]: bool(c["kept"]) for c in of["concepts"]}
    return None
