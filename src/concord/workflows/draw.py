"""The pictures of a finished run: samples.png, concepts.png, similarity.png and report.html."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from concord.concepts.plan import ConceptPlan
from concord.metrics.measure_run import Measuring
from concord.metrics.measures import lines
from concord.metrics.scorers import found
from concord.recipe import Format
from concord.report.contact_sheet import Band, Tile, contact_sheet
from concord.storage.atomic import read_json, write_atomically
from concord.storage.images import encode
from concord.text import plain

CLASSES, SAMPLES = 12, 8
"""How many classes the sheet of samples shows, and how many samples of each."""
HEATMAP_CLASSES = 100
"""Classes beyond which the picture of their names' likeness cannot be read."""


def draw_samples(run: Measuring) -> None:
    """Leave samples.png: what was found in each image stands under it, and results.json above all."""
    bands = []
    for c, pairs in sorted(run.stored.by_label.items())[:CLASSES]:
        after = _tiles(run, [pair.after.image for pair in pairs[:SAMPLES]], c)
        partners = [pair.before.image for pair in pairs[:SAMPLES] if pair.before]
        before: Sequence[Tile | None] = _tiles(run, partners, c) if partners else [None] * len(after)
        # In the vocabulary's order, which is that of the tiles' marks.
        phrases = tuple(phrase for _, phrase in run.vocabulary.of_class(c))
        bands.append(Band(plain(run.names[c]), tuple(map(plain, phrases)), list(zip(before, after, strict=True))))
    notes = list(lines(read_json(run.out / "results.json"), "sheet"))
    sheet = contact_sheet(bands, f"concord distill {run.recipe.name}", notes)
    write_atomically(run.out / "samples.png", encode(sheet, Format()))


def draw_concepts(names: Sequence[str], concepts: ConceptPlan, out: Path) -> None:
    """Leave concepts.png, which phrases were kept and why, and similarity.png, how alike the classes' names are."""
    from concord.report.charts import activation_chart, save
    from concord.report.similarity import by_likeness, heatmap

    rated = list(zip(names, concepts.selection, strict=True))
    save(activation_chart(rated, "Concepts kept and dropped by their activation on real images"), out / "concepts.png")
    if 1 < len(names) <= HEATMAP_CLASSES:
        order = by_likeness(concepts.similarity)
        ordered = concepts.similarity[np.ix_(order, order)]
        save(heatmap([names[i] for i in order], ordered), out / "similarity.png")


def _tiles(run: Measuring, pictures: list[Image.Image], c: int) -> list[Tile]:
    if run.scorer is None or not run.details[c]:
        return [Tile(picture) for picture in pictures]
    marks = [row for rows in found(run.scorer, pictures, run.vocabulary.of_class(c)) for row in rows]
    return [Tile(picture, tuple(map(bool, row))) for picture, row in zip(pictures, marks, strict=True)]
