"""How well percentiles of image-text similarity tell a missing detail, on reef, where the truth is known.

    concord distill reef ipc=50 seed=6000 --out out/reef
    python benchmarks/detail_auc.py out/reef

Images that informing_pareto.py has made stand beside each other, so that ways to inform are compared: what flatters its
encoder hides from it what is missing. Their record has a name of its own:

    python benchmarks/detail_auc.py --pareto "steps=12+push=0.7+solver=dpm++" \\
        "steps=12+push=0.7+solver=dpm+++views=2" --name views

Two judges: the encoder that informs, and one that does not. For every detail of the world: the area under the ROC curve
(AUC) of the percentile against whether the image shows the detail, over all images of the species that should have it.
On real instances that no model was trained on the truth is the renderer's; on the made ones, informed and not, it is
the independent detector's (100.0 % right, docs/reef.md).
Writes benchmarks/results/detail_auc.json, or detail_auc_NAME.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from informing_pareto import BLOCKS, make
from PIL import Image
from record import RESULTS, head, write
from sklearn.metrics import roc_auc_score

from concord.concepts.selection import embed_images
from concord.metrics.details import details
from concord.metrics.scorers import Percentile
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.models.hub import model_path
from concord.reef.dataset import real_set, test_set
from concord.reef.text import PHRASES
from concord.reef.world import DETAILS, SPECIES
from concord.runs.directory import open_run
from concord.storage import images

Row = tuple[str, float, bool]
"""A phrase on one image: (phrase, percentile, whether it is shown)."""
Groups = Iterator[tuple[str, list[Image.Image], np.ndarray]]
"""By species: its name, images, and which of `DETAILS` each shows, booleans (N, 16)."""
OWN = [PHRASES[detail] for detail in DETAILS if any(detail in species.details for species in SPECIES)]
JUDGES = ("reef:clip", "reef:clip-2")
"""The encoder that informs, and one that does not."""


class Judge:
    """An encoder's percentiles among real images of reef."""

    def __init__(self, model: str) -> None:
        encoder, data = Encoder.from_pretrained(model_path(model)), real_set()
        labels = {entry.class_name: entry.label for entry in data.classes}
        self._scorer = Percentile(encoder, lambda name: embed_images(encoder, data, labels[name], 100))

    def rows(self, name: str, pictures: Sequence[Image.Image], truth: np.ndarray) -> list[Row]:
        """Of images of a species and which of `DETAILS` they show, booleans (N, 16)."""
        own = next(species.details for species in SPECIES if species.name == name)
        found = details(self._scorer, name, [PHRASES[detail] for detail in own], pictures)
        columns = truth[:, [DETAILS.index(detail) for detail in own]]
        return [
            (one.phrase, one.percentile, bool(shown))
            for of_image, of_truth in zip(found, columns, strict=True)
            for one, shown in zip(of_image, of_truth, strict=True)
        ]


def real(per_species: int = 100) -> Groups:
    """Held-out instances, with the renderer's truth."""
    held_out = test_set(per_species)
    for species in SPECIES:
        items = held_out.items(held_out.classes.find(species.name).label)
        truth = np.array([held_out.fish(item).details for item in items])
        yield species.name, [held_out.read(item) for item in items], truth


def of_run(run: Path, variant: str) -> list[tuple[str, Image.Image]]:
    """Images of a run, with their species."""
    return [(sample.class_name, sample.image) for sample in open_run(run).samples(variant)]


def of_pareto(setting: str, ipc: int) -> list[tuple[str, Image.Image]]:
    """Images that were made to report a setting, with their species."""
    made, _ = make(setting, BLOCKS["report"][0], ipc)
    names = {entry.label: entry.class_name for entry in real_set().classes}
    return [(names[int(label)], image) for label, image in zip(made.labels, made.images, strict=True)]


def detected(pictures: Sequence[tuple[str, Image.Image]]) -> Groups:
    """Made images, with the detector's truth."""
    detector = Classifier.from_pretrained(model_path("reef:detector"))
    for name in sorted({name for name, _ in pictures}):
        own = [image for of, image in pictures if of == name]
        logits = [detector.logits(pixels) for pixels in images.batches(own)]
        yield name, own, torch.cat(logits).numpy() > 0


def table(rows: Sequence[Row]) -> dict[str, Any]:
    """AUC of each detail, and of all details at once; null where one of the two kinds does not occur."""
    report: dict[str, Any] = {}
    for phrase in [*OWN, "all"]:
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
    parser.add_argument("run", type=Path, nargs="?", help="the directory of a reef run with its uninformed counterpart")
    parser.add_argument("--pareto", nargs="+", default=[], metavar="SETTING", help="as reported by informing_pareto.py")
    parser.add_argument("--ipc", type=int, default=50, help="images a species of those settings")
    parser.add_argument("--name", help="of the record, where it is another question's")
    options = parser.parse_args()
    sets = [("real", real())]
    if options.run:
        sets += [("uninformed", detected(of_run(options.run, "uninformed")))]
        sets += [("informed", detected(of_run(options.run, "images")))]
    sets += [(setting, detected(of_pareto(setting, options.ipc))) for setting in options.pareto]
    rows: dict[str, dict[str, list[Row]]] = {model: {} for model in JUDGES}
    judges = {model: Judge(model) for model in JUDGES}
    for name, groups in sets:
        for group in groups:
            for model, judge in judges.items():
                rows[model].setdefault(name, []).extend(judge.rows(*group))
    tables = {model: {name: table(of) for name, of in found.items()} for model, found in rows.items()}
    for model, found in tables.items():
        print(f"{model:<34}" + "".join(f" {name[-23:]:>23}" for name in found))
        for phrase in [*OWN, "all"]:
            cells = [one[phrase] for one in found.values()]
            shown = ["-" if c["auc"] is None else f"{c['auc']:.3f}" for c in cells]
            print(
                f"{phrase:<34}"
                + "".join(f"{s:>9} ({c['missing']:>4} of {c['n']:>4})" for s, c in zip(shown, cells, strict=True))
            )
    file = f"detail_auc_{options.name}.json" if options.name else "detail_auc.json"
    write(RESULTS / file, head(None, tables=tables), {str(options.run): "out/reef"} if options.run else None)


if __name__ == "__main__":
    main()
