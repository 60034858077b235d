"""What a plan lacks, made: what is prepared, then draw after draw of every set, each with its students.

Each draw is a job of its own for this process, for several, or for the nodes of a cluster that see the directory.
Killed at any point, the same command goes on: what is finished is not made again, and what is half made is resumed.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from concord.data import open_data, restrict
from concord.errors import ConcordError
from concord.events import Progress, Silent
from concord.recipe import load
from concord.reproduce.outcomes import FAILED, lacking
from concord.reproduce.places import Prepared
from concord.reproduce.plan import PREPARED, Plan, SetPlan, Training
from concord.runs.directory import Run
from concord.storage.atomic import lock, write_json
from concord.storage.cluster import Cluster
from concord.storage.processes import spread
from concord.system import cores, resolve_device

SHARED = ("test", "teacher")
"""What is prepared for students, and so for all."""


@dataclass(frozen=True)
class Job:
    """One draw of a set, and the students that are trained on it."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    place: Path
    ipc: int | None
    measured: bool
    trainings: tuple[Training, ...]
    test: str

    def __str__(self) -> str:
        return f"{self.name}, {self.place.name}"


@dataclass(frozen=True)
class Preparing:
    """Something that is prepared, and where it lies."""

    name: str
    what: Prepared
    out: Path

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Done:
    """What became of a job: nothing to say, or why it ended."""

    job: str
    why: str = ""


def run(
    plan: Plan, progress: Progress | None = None, workers: int | None = None, cluster: Cluster | None = None
) -> Iterator[Done]:
    """Make what a plan lacks, and yield after each draw; what cannot be made says why, and the rest goes on.

    workers: processes; as many as there are cores if not given, and one on a GPU. cluster: whose nodes work instead.
    progress: counts draws. Raises ConcordError: another process works on the same directory.
    """
    hears = progress or Silent()
    plan.work.mkdir(parents=True, exist_ok=True)
    with lock(plan.work):
        jobs = [job_of(plan, one, seed) for one, seed in plan.draws]
        # What is measured takes longest, and goes first: at the end no process waits for another.
        waiting = sorted((job for job in jobs if lacks(job)), key=lambda job: not job.measured)
        here = int(cluster.resources().get("CPU", 1)) if cluster else cores() if resolve_device("auto") == "cpu" else 1
        count = workers or here
        left = unprepared(plan)
        # What only some sets need is made beside those that do not, where several work.
        beside = {one.name: one for one in left if one.name not in SHARED and count > 1}
        lost = _prepare([one for one in left if one.name not in beside], hears)
        hears.stage("making sets and training students")
        hears.begin(len(jobs), len(jobs) - len(waiting))
        failed: dict[str, str] = {}
        now: list[Job | Preparing] = [*beside.values()]
        later: list[Job | Preparing] = []
        for job in waiting:
            (now if beside.keys().isdisjoint(plan.sets[job.name].needs) else later).append(job)
        for wave in (now, later):
            for done in _dealt(wave, plan, lost, count, cluster, hears):
                if done.job in beside:
                    lost |= {done.job: done.why} if done.why else {}
                    hears.note(done.why or f"{done.job} is prepared")
                    continue
                if done.why:
                    failed[done.job] = done.why
                hears.advance(1, [{"job": done.job, "why": done.why}])
                yield done
        write_json(plan.work / FAILED, {"failed": lost | failed})


def job_of(plan: Plan, one: SetPlan, seed: int) -> Job:
    """A draw of a set as a job; a set that has more images a class already keeps them."""
    place = plan.draw(one.name, seed)
    least = _images(place)
    return Job(
        one.name,
        one.recipe,
        tuple(one.settings(seed, least)),
        place,
        one.ipc,
        one.measured and seed == one.seeds[0],
        one.trainings,
        plan.test,
    )


def _images(place: Path) -> int:
    """Images a class of a finished set; 0 where it is not finished."""
    try:
        return int(Run(place).results.get("ipc") or 0)
    except ConcordError:
        return 0


def is_made(job: Job) -> bool:
    """Whether a set is there, as large as it is wanted, and measured where it shall be."""
    run = Run(job.place)
    if not run.finished or (job.measured and not run.report.is_file()):
        return False
    return job.ipc is None or _images(job.place) >= job.ipc


def lacks(job: Job) -> bool:
    """Whether anything of a job is still to be done."""
    return not is_made(job) or any(_untrained(job, training) for training in job.trainings)


def _untrained(job: Job, training: Training) -> list[int | None]:
    """IPC at which a student of some seed is not trained yet; None is all images."""
    return [ipc for ipc, seeds in lacking(job.place, training).items() if seeds]


def _without(job: Job, lost: Mapping[str, str]) -> Job:
    """A job without the trainings that nothing could be prepared for."""
    why = lost.get("test") or lost.get("teacher")
    return replace(job, trainings=()) if why else job


def _dealt(
    wave: Sequence[Job | Preparing],
    plan: Plan,
    lost: Mapping[str, str],
    count: int,
    cluster: Cluster | None,
    progress: Progress,
) -> Iterator[Done]:
    """Work that goes on together, done; what needs something that is lost is lost itself."""
    able: list[Job | Preparing] = []
    for one in wave:
        if isinstance(one, Preparing):
            able.append(one)
        elif needed := lost.keys() & plan.sets[one.name].needs:
            yield Done(str(one), lost[needed.pop()])
        else:
            able.append(_without(one, lost))
    count = min(count, len(able))
    if not able:
        return
    if cluster is not None:
        yield from cluster.spread(work, able, count, _begin, (1,), progress.note)
    elif count < 2:
        yield from map(work, able)
    else:
        yield from spread(work, able, count, _begin, (max(1, cores() // count),), progress.note)


def _begin(rank: int, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


def work(job: Job | Preparing) -> Done:
    """Make one draw and train its students, or prepare something, as far as that is not done; what goes wrong is said,
    not raised."""
    if isinstance(job, Preparing):
        return Done(job.name, _prepared(job, Silent()))
    from concord.evaluation.evaluate import evaluate
    from concord.evaluation.settings import read_settings
    from concord.workflows.distill import distill

    try:
        if not is_made(job):
            settings = [*job.settings, *([] if _given(job.settings, "workers") else ["workers=1"])]
            distill(load(job.recipe, settings), job.place, measured=job.measured)
        for training in job.trainings:
            if missing := _untrained(job, training):
                ipc = [] if missing == [None] else [f"ipc={','.join(str(one) for one in missing)}"]
                evaluate(job.place, job.test, *read_settings([*training.settings, *ipc, "workers=1"]))
    except ConcordError as error:
        return Done(str(job), str(error))
    return Done(str(job))


def _given(texts: Sequence[str], key: str) -> bool:
    return any(text.startswith(f"{key}=") for text in texts)


def unprepared(plan: Plan) -> list[Preparing]:
    """What is still to be prepared."""
    found = [Preparing(name, one, plan.work / PREPARED / one.file) for name, one in plan.prepared.items()]
    return [one for one in found if not is_prepared(one.what, one.out)]


def _prepare(left: Sequence[Preparing], progress: Progress) -> dict[str, str]:
    """Train and make what sets need; return what could not be, by name, and why."""
    lost = {}
    # The test images first: a teacher is not judged on them here, and nothing else reads them.
    for one in sorted(left, key=lambda one: one.name != "test"):
        progress.stage(f"preparing {one}: {' '.join(prepared_command(one.what, one.out))}")
        if why := _prepared(one, progress):
            lost[one.name] = why
            progress.note(why)
    return lost


def _prepared(one: Preparing, progress: Progress) -> str:
    """Prepare something; return why it could not be, or nothing."""
    one.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        _VERBS[one.what.verb](one.what, one.out, progress)
    except ConcordError as error:
        return f"{one} could not be prepared: {error}"
    return ""


def is_prepared(one: Prepared, out: Path) -> bool:
    """Whether something is there and finished."""
    if one.verb == "teacher":
        return out.is_file() and not out.with_name(f".{out.name}.checkpoint").exists()
    if one.verb == "distill":
        return Run(out).finished
    if one.verb == "finetune":
        return (out / "finetune.json").is_file()
    from concord.methods.experts import expert_file, read_expert_settings

    return (out / expert_file(read_expert_settings(one.set).experts - 1)).is_file()


def prepared_command(one: Prepared, out: Path) -> list[str]:
    """The command line that prepares something."""
    what = one.recipe if one.verb == "distill" else one.data
    ipc = [f"ipc={one.ipc}"] if one.ipc else []
    return ["concord", one.verb, what, *one.set, *ipc, "--out", str(out)]


def commands_of(plan: Plan, one: SetPlan) -> list[list[str]]:
    """The command lines that make a set's draws and train students on them."""
    home = str(plan.draw(one.name, one.seeds[0]).parent)
    seeds = f"seed={','.join(map(str, one.seeds))}"
    ipc = [f"ipc={one.ipc}"] if one.ipc else []
    if len(one.seeds) > 1:
        found = [["concord", "distill", one.recipe, *one.texts, *ipc, seeds, "--out", home]]
    else:
        found = [["concord", "distill", one.recipe, *one.texts, *ipc, seeds, "--out", f"{home}/seed-{one.seeds[0]}"]]
    for training in one.trainings:
        ipcs = [f"ipc={','.join(map(str, training.ipc))}"] if training.ipc else []
        found.append(["concord", "evaluate", home, "--test", plan.test, *training.settings, *ipcs])
    return found


def _teacher(one: Prepared, out: Path, progress: Progress) -> None:
    from concord.evaluation.train_teacher import read_teacher_settings, teach

    settings, protocol = read_teacher_settings(one.set)
    whole = open_data(one.data, grey_range=settings.grey_range, max_pixels=settings.max_pixels)
    teach(restrict(whole, settings.classes, {}), None, settings, protocol, out, progress)


def _finetune(one: Prepared, out: Path, progress: Progress) -> None:
    from concord.workflows.finetune import finetune, read_finetune_settings

    finetune(one.data, read_finetune_settings(one.set), out, progress)


def _experts(one: Prepared, out: Path, progress: Progress) -> None:
    from concord.methods.experts import read_expert_settings, train_experts

    settings = read_expert_settings(one.set)
    whole = open_data(one.data, grey_range=settings.grey_range, max_pixels=settings.max_pixels)
    train_experts(restrict(whole, settings.classes, {}), settings, out, progress)


def _distill(one: Prepared, out: Path, progress: Progress) -> None:
    from concord.workflows.distill import distill

    distill(load(one.recipe, [*one.set, *([f"ipc={one.ipc}"] if one.ipc else [])]), out, progress, measured=False)


_VERBS: Mapping[str, Callable[[Prepared, Path, Progress], Any]] = {
    "teacher": _teacher,
    "finetune": _finetune,
    "experts": _experts,
    "distill": _distill,
}
