"""What a run would do, without doing it: the plan's size, what is there, and what it will cost."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from concord.data.index import INDEX
from concord.methods import build
from concord.recipe import Recipe
from concord.runs import begin
from concord.runs.directory import Run
from concord.workflows.distill import resolved
from concord.workflows.executors import open_recipe_data, worker_count
from concord.workflows.requirements import Needed, check_sampling, needed_models, with_model


@dataclass(frozen=True)
class Preview:
    """The answer to ``--dry-run``; None is unknown. Bytes and seconds are estimates: a median, and quartiles of it."""

    recipe: Recipe
    out: Path
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    variants: tuple[str, ...]
    batch_size: int
    batches: int
    there: int
    notes: tuple[str, ...]
    models: tuple[Needed, ...]
    device: str
    workers: int
    disk: float | None
    disk_free: int
    memory: float | None
    seconds: float | None
    seconds_range: tuple[float, float] | None

    @property
    def images(self) -> int:
        return sum(self.counts)

    @property
    def missing(self) -> int:
        """Images still to be made, in all variants."""
        return max(0, self.images * len(self.variants) - self.there)


def preview(recipe: Recipe, out: Path) -> Preview:
    """Plan a run and look at what it needs; nothing is written. Raises ConcordError: as the run itself would."""
    recipe = with_model(recipe, out)
    check_sampling(recipe)
    recipe, device = resolved(recipe)
    data = open_recipe_data(recipe, out / INDEX)
    notes = (*data.notes, *begin.check(out, recipe, data))
    method = build(recipe, data)
    counts = tuple(method.count(entry.label, recipe.ipc) for entry in data.classes)
    there = sum(len(Run(out).samples(variant)) for variant in method.variants)
    missing = sum(counts) * len(method.variants) - there
    batches = -(-missing // method.batch_size)
    workers = worker_count(recipe, max(1, batches), device)
    cost = method.cost()
    # seconds_per_image covers all variants of an image, hence the division.
    share = missing / len(method.variants) / workers
    seconds = cost.seconds_per_image * share if cost.seconds_per_image else None
    low, high = cost.seconds_range or (cost.seconds_per_image or 0.0,) * 2
    existing = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    return Preview(
        recipe=recipe,
        out=out,
        classes=tuple(entry.class_name for entry in data.classes),
        counts=counts,
        variants=method.variants,
        batch_size=method.batch_size,
        batches=batches,
        there=there,
        notes=notes,
        models=tuple(needed_models(recipe)),
        device=device,
        workers=workers,
        disk=cost.bytes_per_image * missing if cost.bytes_per_image else None,
        disk_free=shutil.disk_usage(existing).free,
        memory=cost.memory * workers if cost.memory else None,
        seconds=seconds,
        seconds_range=None if seconds is None else (low * share, high * share),
    )


def record(plan: Preview) -> dict[str, Any]:
    """A preview as ``--dry-run --json`` prints it: bytes and seconds are estimates, null where they are not known."""
    return {
        "recipe": plan.recipe.name,
        "method": plan.recipe.method,
        "data": plan.recipe.data,
        "out": str(plan.out),
        "classes": [{"class_name": n, "images": c} for n, c in zip(plan.classes, plan.counts, strict=True)],
        "variants": list(plan.variants),
        **{key: getattr(plan, key) for key in ("images", "missing", "there", "batches", "batch_size", "workers")},
        "device": plan.device,
        "models": [{**m.record, "bytes": m.bytes} for m in plan.models],
        "disk_bytes": plan.disk,
        "disk_free_bytes": plan.disk_free,
        "memory_bytes": plan.memory,
        "seconds": plan.seconds,
        "seconds_range": plan.seconds_range,
        "notes": list(plan.notes),
    }
