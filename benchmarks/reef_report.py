"""What informing does on reef, over several draws: completeness, teacher, and how the layout varies, in one table.

    concord distill reef ipc=50 seed=6000,6001,6002 --out out/report
    python benchmarks/reef_report.py out/report

All draws are pooled: a gain is the mean over pairs of the same seed, with a 95 % bootstrap interval over samples. The
spread of a nuisance is its deviation within a species as a share of that of 1,000 real instances of the test seed.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from record import RESULTS, head, write
from reef_generator import spread
from reef_judges import Judge, pictures

from concord.metrics.measure_run import Pictures
from concord.models.classifier import Classifier
from concord.models.hub import model_path
from concord.reef import test_set
from concord.reef.world import NUISANCES
from concord.runs.draws import draws_in
from concord.storage import images


def pooled(draws: list[Path], variant: str) -> Pictures:
    sets = [pictures(draw, variant) for draw in draws]
    return Pictures([image for one in sets for image in one.images], np.concatenate([one.labels for one in sets]))


def real(per_species: int = 100) -> Pictures:
    data = test_set(per_species)
    items = [(entry.label, item) for entry in data.classes for item in data.items(entry.label)]
    return Pictures([data.read(item) for _, item in items], np.array([label for label, _ in items]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("draws", type=Path, help="the directory of draws, each with its uninformed counterpart")
    options = parser.parse_args()
    draws = draws_in(options.draws)
    sets = {"informed": pooled(draws, "images"), "uninformed": pooled(draws, "uninformed"), "real": real()}
    scores = Judge().compare(sets["informed"], sets["uninformed"])
    reader = Classifier.from_pretrained(model_path("reef:nuisance"))
    spreads: dict[str, Any] = {}
    for name, one in sets.items():
        logits = np.concatenate([reader.logits(pixels).numpy() for pixels in images.batches(one.images)])
        spreads[name] = spread(logits.astype(np.float64), one.labels)
    shares = {
        name: dict(zip(NUISANCES, (value / spreads["real"]).round(3).tolist(), strict=True))
        for name, value in spreads.items()
    }
    found = {"draws": [draw.name for draw in draws], "pairs": len(sets["informed"].images), **scores, "spread": shares}
    for key, value in found.items():
        print(key, value)
    write(RESULTS / "reef_report.json", head(f"reef_report.py {options.draws}", **found))


if __name__ == "__main__":
    main()
