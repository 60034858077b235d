"""One shard of a set, made beside others; and what they made, joined and measured."""

import contextlib
from pathlib import Path
from typing import Any

from concord.data.index import INDEX, keep
from concord.errors import ConcordError
from concord.events import Progress, Silent
from concord.methods import build, needs_torch
from concord.methods.base import Fits, Informed, InTensors, Pools, Resumes
from concord.recipe import Recipe, load
from concord.runs import begin
from concord.runs.directory import Run
from concord.runs.shards import Shard, array, held, manifests, note_plan, status
from concord.runs.store import Store
from concord.storage.atomic import write_json
from concord.storage.cluster import Cluster
from concord.text import counted
from concord.workflows.distill import (
    POOL,
    SELECTION,
    distill,
    keep_form_of,
    make,
    pending,
    resolved,
    select_concepts,
    threads_of,
    unfinish,
)
from concord.workflows.executors import here, open_recipe_data, processes, require_gpus, worker_count
from concord.workflows.requirements import require_models, with_model


def make_shard(
    recipe: Recipe, out: Path, shard: Shard, progress: Progress | None = None, share_gpus: bool = False
) -> dict[str, Any]:
    """Make a shard of the recipe's set, or what is missing of it; return how many images it made, and kept.

    Nothing is measured: `merge` does, when all shards are done. Killed, the same call goes on.
    Raises ConcordError: anything the user can put right.
    """
    progress, recipe = progress or Silent(), with_model(recipe, out)
    if needs_torch(recipe):
        require_models(recipe)
    progress.stage(f"reading {recipe.data}")
    data = open_recipe_data(recipe, out / INDEX)
    for note in data.notes:
        progress.note(note)
    recipe, device = resolved(recipe)
    require_gpus(recipe, device, share_gpus)
    for note in begin.check(out, recipe, data):
        progress.note(note)
    maker = build(recipe, data)
    if isinstance(maker, Fits):
        raise ConcordError(f"method {recipe.method} fits all images together, in one process: leave --shard out")
    if isinstance(maker, Pools):
        raise ConcordError(
            f"select.kind={recipe.select.kind} chooses from a pool of all images: make that in shards, as the same"
            f" recipe with select.kind=none uninformed=false ipc={recipe.select.pool(recipe.ipc)} --out {out / POOL},"
            " then leave --shard out"
        )
    counts = [maker.count(entry.label, recipe.ipc) for entry in data.classes]
    progress.stage("planning")
    with held(out, shard) as beginning, threads_of(recipe):
        begin.check(out, recipe, data)  # again: another run may just have begun here
        begin.begin(out, recipe, data, device)
        keep(data, out / INDEX)
        stores = {
            variant: Store(
                out / variant, recipe.format, shard.manifest(out, variant), manifests(out, variant, but=shard)
            )
            for variant in maker.variants
        }
        if isinstance(maker, Resumes):
            with contextlib.suppress(ConcordError):  # damaged concepts are worked out again
                maker.resume(Run(out).concepts)
            if isinstance(maker, Informed):
                select_concepts(maker.concepts, out, recipe, data, device, progress)
            if (concepts := maker.record()) is not None:
                write_json(out / "concepts.json", concepts)
            (out / SELECTION).unlink(missing_ok=True)
        jobs = pending(maker, counts, data.classes, stores, (shard.index, shard.of))
        kept = sum(len(store.rows) for store in stores.values()) - sum(map(len, jobs.otherwise.values()))
        if jobs:
            unfinish(out)
            if isinstance(maker, InTensors):
                keep_form_of(out, maker)
        note_plan(out, shard, kept + jobs.images, recipe.ipc)
        beginning.close()
        for variant, store in stores.items():
            store.drop(jobs.otherwise[variant])
        workers = worker_count(recipe, len(jobs), device)
        executor = processes(recipe, device, workers, progress.note, None, out / INDEX) if workers > 1 else here(maker)
        made = make(executor, jobs, jobs.images, recipe, data.classes, stores, progress)
        for store in stores.values():
            store.finish()
    return {"shard": shard.index, "shards": shard.of, "made": sum(made.values()), "kept": kept}


def merge(
    out: Path, progress: Progress | None = None, *, cluster: Cluster | None = None, share_gpus: bool = False
) -> dict[str, Any]:
    """Take over what all shards made, check it, make again what is damaged, and measure, as `distill` does.

    cluster, share_gpus: as `distill` has them.
    Raises:
        ConcordError: shards are outstanding; anything that `distill` raises.
    """
    found = status(out)
    if found.outstanding:
        count = len(found.parts)
        raise ConcordError(
            f"{counted(len(found.outstanding), 'shard')} of {count} not done: {array(found.outstanding)}; give them"
            " again (--shard I/N), or `concord distill` without --shard: it takes over what is there and makes the rest"
        )
    return distill(load(str(out)), out, progress, cluster=cluster, share_gpus=share_gpus)
