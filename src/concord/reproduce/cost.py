"""What a plan would cost here: a few steps are timed of each kind of image and of each network, and nothing is kept.

Seconds are of one worker; images that need a model which is not here are not timed, and neither are descents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from concord.data import ImageSet, open_data, open_test
from concord.errors import ConcordError
from concord.evaluation.cells import compute_of
from concord.evaluation.protocols import is_eval_epoch, num_epochs
from concord.evaluation.settings import ProtocolConfig, Settings, read_settings
from concord.methods import build
from concord.models.students import build_student, canonical, default_size, has_norm
from concord.recipe import Recipe, load
from concord.reproduce.outcomes import lacking
from concord.reproduce.plan import Plan, SetPlan
from concord.reproduce.run import is_made, job_of, unprepared
from concord.system import timed_steps
from concord.workflows.executors import open_recipe_data
from concord.workflows.requirements import Needed, needed_models

BATCH = 10
"""Images that a network is timed with."""


@dataclass(frozen=True)
class Cost:
    """Images and trainings that lack, seconds of each where they are known, and what is not timed."""

    images: int
    trainings: int
    image_seconds: float
    training_seconds: float
    untimed: Sequence[str]


def missing_models(plan: Plan) -> dict[str, Needed]:
    """Models that are not on this machine, by id; what the plan itself prepares is none of them."""
    found = {}
    for one in plan.sets.values():
        for need in needed_models(one.base):
            if need.path is None and str(plan.work) not in need.model:
                found[need.model] = need
    return found


def missing_data(plan: Plan) -> list[str]:
    """What of the real images cannot be read here, and why."""
    found = []
    for what, source, opened in (("data", plan.place.data, open_data), ("test", plan.place.test, open_test)):
        try:
            if source:
                opened(source)
        except ConcordError as error:
            found.append(f"{what}: {error}")
    return found


def cost(plan: Plan) -> Cost:
    """Time a few steps of what lacks, and carry it over."""
    untimed: dict[str, None] = {}
    images, image_seconds, trainings, training_seconds = 0, 0.0, 0, 0.0
    by_kind: dict[tuple[str, bool, int], float | None] = {}
    by_network: dict[tuple[str, ...], tuple[float, float]] = {}
    for one in plan.sets.values():
        unmade = [seed for seed in one.seeds if not is_made(job_of(plan, one, seed))]
        (classes, whole), each = _real(one.base), one.ipc or 0
        count = len(unmade) * each * classes
        images += count
        if count and one.base.is_generated:
            kind = (one.base.method, one.base.is_guided, one.base.pipeline.steps)
            known = kind[0], kind[1]
            if kind not in by_kind:
                same = next((k for k in by_kind if k[:2] == known and by_kind[k] is not None), None)
                if same is not None:
                    by_kind[kind] = (by_kind[same] or 0.0) * kind[2] / same[2]
                else:
                    lacks = one.needs or any(need.path is None for need in needed_models(one.base))
                    by_kind[kind] = None if lacks else _seconds_an_image(one)
            if (seconds := by_kind[kind]) is None:
                untimed[f"{one.base.method}'s images"] = None
            else:
                image_seconds += count * seconds
        elif count and not one.base.is_real:
            untimed[f"{one.base.method}'s descent"] = None
        for training in one.trainings:
            for seed in one.seeds:
                for ipc, seeds in lacking(plan.draw(one.name, seed), training).items():
                    if not (lack := len(seeds)):
                        continue
                    trainings += lack
                    settings, ways = read_settings(training.settings)
                    key = tuple(
                        text for text in training.settings if not text.startswith(("seeds=", "epochs=", "teacher="))
                    )
                    if key not in by_network:
                        by_network[key] = _network(settings, ways[0], classes)
                    step, looking = by_network[key]
                    seen = (ipc or whole // max(1, classes)) * classes
                    epochs = num_epochs(ways[0].protocol, max(1, seen // classes), classes)
                    judged = sum(is_eval_epoch(ways[0].protocol, epoch, epochs) for epoch in range(epochs))
                    training_seconds += lack * (epochs * seen * step + judged * _tested(plan) * looking)
    untimed |= {f"what is prepared first ({one})": None for one in unprepared(plan) if one.name != "test"}
    return Cost(images, trainings, image_seconds, training_seconds, list(untimed))


_COUNTS: dict[tuple[str, ...], tuple[int, int]] = {}


def _counts(name: tuple[str, ...], opened: Callable[[], ImageSet], otherwise: tuple[int, int]) -> tuple[int, int]:
    """Classes and images of a data set, counted once a process; `otherwise` where it cannot be read."""
    if name not in _COUNTS:
        try:
            data = opened()
            _COUNTS[name] = len(data.classes), sum(len(data.items(entry.label)) for entry in data.classes)
        except ConcordError:
            _COUNTS[name] = otherwise
    return _COUNTS[name]


def _real(recipe: Recipe) -> tuple[int, int]:
    """Classes and images of a recipe's real set: ten classes where it cannot be read."""
    name = "real", recipe.data, *(recipe.classes or ())
    return _counts(name, lambda: open_recipe_data(recipe), (10, 0))


def _tested(plan: Plan) -> int:
    """Images that students are tested on, about; where they are made first, as many as will be."""
    if (one := plan.prepared.get("test")) is not None and one.ipc:
        return one.ipc * 10
    return _counts(("test", plan.place.test), lambda: open_test(plan.place.test), (0, 0))[1]


def _seconds_an_image(one: SetPlan) -> float | None:
    try:
        recipe = load(one.recipe, one.settings(one.seeds[0]))
        return build(recipe, open_recipe_data(recipe)).cost().seconds_per_image
    except ConcordError:
        return None


def _network(settings: Settings, way: ProtocolConfig, classes: int) -> tuple[float, float]:
    """Seconds of an image in a step of training, with a teacher of the same network, and in a look at it."""
    name, protocol = canonical(settings.student[0]), way.protocol
    size = settings.size or protocol.student_size or default_size(name)
    norm = settings.norm or (protocol.norm if has_norm(name) else None)
    compute = compute_of(settings)
    with torch.random.fork_rng(devices=[]):
        net = build_student(name, classes, size, norm=norm, pool=settings.pool, width=settings.width).to(compute.device)
    pixels = torch.rand(BATCH, 3, size, size, device=compute.device)

    def look() -> None:
        with torch.no_grad(), compute.autocast():
            float(net(pixels).sum())

    def step() -> None:
        if protocol.labels != "hard":
            look()
        if protocol.double_pass:
            look()
        with compute.autocast():
            loss = net(pixels).float().square().mean()
        loss.backward()

    of_step, of_look = (timed_steps([what] * 2, compute.device)[0] / BATCH for what in (step, look))
    return of_step, of_look
