"""How well percentiles of image-text similarity tell a missing detail, on reef, where the truth is known.

    concord distill reef --out out/reef
    python benchmarks/detail_auc.py out/reef

For every detail of the world: the area under the ROC curve (AUC) of the percentile against whether the image shows the
detail, over all images of the species that should have it. On real instances that no model was trained on the truth is
the renderer's; on the made ones, informed and not, it is the independent detector's (100.0 % right, docs/reef.md).
The made images' percentiles are those of the run's details.json. Writes benchmarks/results/detail_auc.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import RESULTS, head, write
from sklearn.metrics import roc_auc_score

from concord.concepts.selection import embed_images
from concord.metrics.details import details
from concord.metrics.scorers import Detector, Percentile
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.models.hub import model_path
from concord.reef.dataset import real_set, test_set
from concord.reef.text import PHRASES
from concord.reef.world import DETAILS, SPECIES
from concord.storage import images

Row = tuple[str, float, bool]
"""A phrase on one image: (phrase, percentile, whether it is shown)."""


def real_rows(per_species: int = 100) -> list[Row]:
    """Held-out instances, with the renderer's truth."""
    data, held_out = real_set(), test_set(per_species)
    encoder = Encoder.from_pretrained(model_path("reef:clip"))
    labels = {entry.class_name: entry.label for entry in data.classes}
    scorer = Percentile(encoder, lambda name: embed_images(encoder, data, labels[name], 100))
    rows: list[Row] = []
    for species in SPECIES:
        items = held_out.items(held_out.classes.find(species.name).label)
        phrases = [PHRASES[detail] for detail in species.details]
        found = details(scorer, species.name, phrases, [held_out.read(item) for item in items])
        for item, of_image in zip(items, found, strict=True):
            shown = held_out.fish(item).details
            truth = [bool(shown[DETAILS.index(detail)]) for detail in species.details]
            rows += [(d.phrase, d.percentile, t) for d, t in zip(of_image, truth, strict=True)]
    return rows


def made_rows(run: Path, variant: str) -> list[Row]:
    """Images of a run, with the detector's truth."""
    record = json.loads((run / "details.json").read_text(encoding="utf-8"))
    files = [name for name in record["images"] if name.startswith(f"{variant}/")]
    detector = Detector(Classifier.from_pretrained(model_path("reef:detector")))
    vocabulary = [("", phrase) for phrase in PHRASES.values()]
    column = {phrase: k for k, (_, phrase) in enumerate(vocabulary)}
    rows: list[Row] = []
    for name in files:
        with Image.open(run / name) as picture:
            pixels = images.to_pixels(picture)[None]
        shown = detector.rate(pixels, vocabulary)[0] >= detector.threshold
        of_image = record["images"][name]
        rows += [(one["phrase"], one["percentile"], bool(shown[column[one["phrase"]]])) for one in of_image]
    return rows


def table(rows: Sequence[Row]) -> dict[str, Any]:
    """AUC of each detail, and of all details at once; null where one of the two kinds does not occur."""
    report: dict[str, Any] = {}
    for phrase in [*PHRASES.values(), "all"]:
        own = [(p, t) for name, p, t in rows if phrase in (name, "all")]
        truth = np.array([t for _, t in own])
        auc = float(roc_auc_score(truth, [p for p, _ in own])) if 0 < truth.sum() < len(truth) else None
        low = np.array([p < Percentile.threshold for p, _ in own])
        report[phrase] = {
            "auc": None if auc is None else round(auc, 3),
            "n": len(own),
            "missing": int((~truth).sum()),
            "said_missing": int(low.sum()),
            "rightly": int((low & ~truth).sum()),
        }
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the directory of a reef run with its uninformed counterpart")
    options = parser.parse_args()
    sets = {"real": real_rows()} | {
        name: made_rows(options.run, variant)
        for name, variant in (("uninformed", "uninformed"), ("informed", "images"))
    }
    tables = {name: table(rows) for name, rows in sets.items()}
    print(f"{'detail':<34}" + "".join(f"{name:>24}" for name in tables))
    for phrase in [*PHRASES.values(), "all"]:
        cells = [tables[name][phrase] for name in tables]
        shown = ["-" if c["auc"] is None else f"{c['auc']:.3f}" for c in cells]
        print(
            f"{phrase:<34}"
            + "".join(f"{s:>9} ({c['missing']:>4} of {c['n']:>4})" for s, c in zip(shown, cells, strict=True))
        )
    write(RESULTS / "detail_auc.json", head("detail_auc.py out/reef", tables=tables))


if __name__ == "__main__":
    main()
