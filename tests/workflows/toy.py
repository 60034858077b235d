"""A method without a network: tiny images that depend on the whole batch, as a network's last bits may."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from concord.data import ImageSet
from concord.methods.base import Cost, GeneratedImage
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe, validate
from concord.storage.checksums import sum_of_file


class Toy:
    """Six-pixel images of two checkpoints, made for two variants."""

    variants = ("images", "uninformed")

    def __init__(self, recipe: Recipe, data: ImageSet) -> None:
        self._recipe, self._data = recipe, data
        self.batch_size = recipe.batch_size

    def count(self, class_index: int, ipc: int) -> int:
        return ipc

    def sample(self, class_index: int, index: int) -> Sample:
        key = self._data.classes[class_index].key
        seed = sample_seed(self._recipe.seed, key, index)
        checkpoint = "first" if class_index % 3 else "second"
        return Sample(class_index, index, seed, (f"{key} with größe",), (), key, "", checkpoint)

    def make(self, batch: Sequence[Sample], variant: str) -> list[GeneratedImage]:
        whole = json.dumps([vars(sample) for sample in batch])
        made = []
        for sample in batch:
            digest = hashlib.sha256(f"{variant}{sample.seed}{whole}".encode()).digest()
            made.append(
                GeneratedImage(Image.frombytes("RGB", (3, 2), digest[:18]), {"uninformed_steps": digest[0] % 2})
            )
        return made

    def resume(self, concepts: Any) -> None: ...

    def record(self) -> dict[str, Any]:
        return {"classes": {entry.folder: {"concepts": []} for entry in self._data.classes}, "größe": 1}

    def facts(self) -> dict[str, Any]:
        return {"toy": True}

    def cost(self) -> Cost:
        return Cost()


def toy_recipe(data: Path, **values: Any) -> Recipe:
    """A recipe for the toy: batches of 4 cut the classes unevenly."""
    return validate({"method": "dit", "data": str(data), "ipc": 4, "batch_size": 4, "device": "cpu", **values})


def tree(out: Path) -> dict[str, bytes]:
    """Every file that a run leaves, by its path; what results.json says of the last call alone is left out."""
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    files.pop("report.html", None)  # the page tells the time and the place; tests/report look at it
    results = json.loads(files.pop("results.json"))
    for key in results.pop("last_call")["times"]:
        results.pop(key)
    sums = json.loads(files.pop("checksums.json"))
    assert sums["files"].pop("results.json") == sum_of_file(out / "results.json")
    files.pop(".concord.lock")
    return {**files, "results": json.dumps(results).encode(), "sums": json.dumps(sums).encode()}
