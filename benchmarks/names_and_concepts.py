"""Informing by a class's name, by its concepts, and by both, where the encoder knows the name and where it does not.

    names_and_concepts.py                 500 pairs each of known, held-out and counted species
    names_and_concepts.py --pairs 20      a look

Reef's encoder learnt the names of ten species together with their details, so there a name alone says what to show. It
never saw the names of six others, only their details otherwise combined: four held-out ones, and two counted ones, each
the twin of a known species but for a number. All rows share their seeds; gains are paired, with 95 % bootstrap
intervals over samples. The judge is reef's detector, which knows no names. A counted species is also read for its
number: how many samples show it, and how many the twin's.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, head, write
from reef_judges import pictures

from concord.metrics.completeness import completeness, nuisance_diversity
from concord.metrics.measure_run import Pictures
from concord.metrics.scorers import Detector, Vocabulary
from concord.models.classifier import Classifier
from concord.models.hub import model_path
from concord.recipe import load
from concord.reef.text import PHRASES
from concord.reef.world import COUNTED, HELD_OUT, SPECIES
from concord.storage import images
from concord.workflows.distill import distill

SEED = 6000
MAKE = (
    "uninformed=false",
    "scorer.kind=none",
    "teacher=null",
    "nuisance=null",
    "threads=1",
    "workers=1",
    "dtype=bfloat16",
)
OBJECTIVE = "informing.objective="
ROWS = {
    "uninformed": "informing.enabled=false",
    "name": OBJECTIVE + "{contrastive: 0, class_name: 1}",
    "concepts": OBJECTIVE + "{contrastive: 1, class_name: 0}",
    "both": OBJECTIVE + "{contrastive: 1, class_name: 1}",
}
COUNTS = [species.name for species in HELD_OUT if set(species.details) & set(COUNTED)]
GROUPS = {
    "known": [species.name for species in SPECIES],
    "held-out": [species.name for species in HELD_OUT if species.name not in COUNTS],
    "counted": COUNTS,
}
"""By group, the classes of the recipes `reef` and `reef-held-out`."""


def make(group: str, row: str, pairs: int, scratch: Path) -> Pictures:
    recipe = "reef" if group == "known" else "reef-held-out"
    names = GROUPS[group]
    settings = [f"seed={SEED}", f"ipc={pairs // len(names)}", f"classes=[{', '.join(names)}]", *MAKE, ROWS[row]]
    out = scratch / group / row
    distill(load(recipe, settings), out)
    return pictures(out)


class Judge:
    def __init__(self) -> None:
        detector, self.reader = (Classifier.from_pretrained(model_path(f"reef:{m}")) for m in ("detector", "nuisance"))
        self.detector = Detector(detector)
        self._model = detector

    def row(self, group: str, after: Pictures, before: Pictures, names: list[str]) -> dict[str, Any]:
        details = [next(s.details for s in (*SPECIES, *HELD_OUT) if s.name == name) for name in names]
        vocabulary = Vocabulary.of(names, [[PHRASES[d] for d in own] for own in details], shared=True)
        sets = {"informed": after, "uninformed": before}
        found: dict[str, Any] = {
            "completeness": completeness(self.detector, vocabulary, sets),
            "nuisance_diversity": nuisance_diversity(self.reader, sets),
        }
        if group == "counted":
            found["number"] = self._numbers(after, names)
        return found

    def _numbers(self, made: Pictures, names: list[str]) -> dict[str, dict[str, float]]:
        """Shares of samples with the species' own number of its mark, with the twin's, and with neither."""
        logits = [self._model.logits(pixels) for pixels in images.batches(made.images)]
        shown = np.concatenate([part.numpy() for part in logits]) > 0
        shares = {}
        for label, name in enumerate(names):
            own = next(s.details for s in HELD_OUT if s.name == name)
            counted = next(d for d in own if d in COUNTED)
            column = [self._model.labels.index(PHRASES[d]) for d in (counted, COUNTED[counted])]
            right, wrong = shown[made.labels == label][:, column].mean(0).tolist()
            shares[name] = {"right": round(right, 4), "twin's": round(wrong, 4)}
        return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=500)
    parser.add_argument("--scratch", type=Path, default=Path("out/names"))
    parser.add_argument("--out", type=Path, default=RESULTS / "names_and_concepts.json")
    options = parser.parse_args()
    judge, record = Judge(), head(seed=SEED, pairs=options.pairs, machine_note="1 thread")
    record["groups"] = {}
    for group in GROUPS:
        before = make(group, "uninformed", options.pairs, options.scratch)
        names = sorted(GROUPS[group])  # the order of labels
        for row in ROWS:
            made = before if row == "uninformed" else make(group, row, options.pairs, options.scratch)
            scores = judge.row(group, made, before, names)
            record["groups"].setdefault(group, {})[row] = scores
            c = scores["completeness"]
            gain = {**c["gain"], "foreign": c["gain_foreign"]}
            print(group, row, c["informed"], gain, scores.get("number", ""), flush=True)
            write(options.out, record)


if __name__ == "__main__":
    main()
