"""What a generated set came to: measured on the stored files, so that what is measured is what was kept."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from concord.data import ImageSet
from concord.data.sampling import readable
from concord.metrics.class_images import ClassImages, ClassJob, Made
from concord.metrics.measures import ALWAYS
from concord.metrics.scorers import (
    REAL_IMAGES,
    Concept,
    Percentile,
    RealEmbeddings,
    Scorer,
    Tells,
    Vocabulary,
    percentile_by,
)
from concord.metrics.unread import Unread
from concord.models.cache import ModelCache
from concord.models.teachers import Teacher, load_teacher
from concord.recipe import Recipe
from concord.recipe.sections import Scorer as ScorerSettings
from concord.registry import METRICS, SCORERS
from concord.runs.directory import Run, Stored
from concord.storage import images

REAL_IN_ALL, REAL_SIDE = 2000, 512
"""Real images that the report measures beside the made ones are so many in all, and no larger: more would take long,
and say no more."""


@dataclass(frozen=True)
class Pictures:
    """Images with their labels, (N,). Those of a run are read as they are asked for, and may be too many to keep."""

    images: Sequence[Image.Image]
    labels: np.ndarray


class Concepts(Protocol):
    """The concepts of a run that is made by models: whether they inform it, and the kept phrases of every class."""

    @property
    def used(self) -> bool: ...
    @property
    def kept(self) -> Sequence[Sequence[str]]: ...


class Kept(NamedTuple):
    """`Concepts` as they travel to another process."""

    used: bool
    kept: Sequence[Sequence[str]]


Engine = Callable[["Measuring", Sequence[str], Iterable[ClassJob]], Iterator[tuple[int, dict[str, Any]]]]
"""Has `measure_class` done somewhere for each of some classes, and yields its results in any order."""


class Measuring:
    """A run whose images are all `stored`, with what measures share; `variants` are its sets, ``images`` first.

    engine: who measures classes; this process, where None is given.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ImageSet,
        out: Path,
        variants: Sequence[str],
        models: ModelCache,
        concepts: Concepts | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.recipe, self.data, self.out, self.variants = recipe, data, out, tuple(variants)
        self.stored, self.models, self.concepts = Run(out), models, concepts
        self.names = [entry.class_name for entry in data.classes]
        self._guided = concepts is not None and recipe.is_guided
        self.skip = recipe.unreadable == "skip"
        self._embed_real = RealEmbeddings(data, self.skip)
        self._engine = engine or _here
        self._parts, self._samples = dict[str, list[Any]](), dict[str, Stored]()

    @cached_property
    def scorer(self) -> Scorer | None:
        """What the recipe rates images by; None where it names nothing."""
        kind = self.recipe.scorer.kind
        with SCORERS.blamed(kind):
            return SCORERS.build(kind, SCORERS.get(kind).build)(self.recipe, self.models, self._embed_real)

    @cached_property
    def percentile(self) -> Percentile:
        """Percentiles among real images: by the recipe's scorer, `scorer.encoder`, or the encoder that informs."""
        if isinstance(self.scorer, Percentile):
            return self.scorer
        return percentile_by(self.recipe.scorer.encoder, "scorer.encoder", self.models, self._embed_real)

    def learn(self, scorer: Percentile, concepts: Sequence[Concept], of: ClassImages) -> None:
        """Have a scorer know concepts of a class by its images, which stand for those of all classes of its name."""
        name = self.names[of.label]
        labels = [label for label, other in enumerate(self.names) if other == name]
        if any(concept not in scorer.known for concept in concepts):
            items = [item for label in labels for item in of.real(REAL_IMAGES, label=label)]
            scorer.learn(concepts, of.rows(scorer.encoder.images, items))

    @cached_property
    def teacher(self) -> Teacher | None:
        """What the recipe's teacher is; None where it names none."""
        if not self.recipe.teacher:
            return None
        return load_teacher(self.recipe.teacher, self.data.classes, device=str(self.models.device))

    @property
    def kept(self) -> Sequence[Sequence[str]] | None:
        """The kept phrases of every class; None where no concepts inform the run."""
        return self.concepts.kept if self.concepts is not None and self.concepts.used else None

    @cached_property
    def details(self) -> list[list[str]]:
        """What each class's images should show: the data set's known details, else the kept concepts."""
        known = self.data.known_details
        if known is not None:
            return [list(known[entry.key]) for entry in self.data.classes]
        return [[*phrases] for phrases in self.kept] if self.kept else [[] for _ in self.names]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary.of(self.names, self.details, shared=self.data.known_details is not None)

    @cached_property
    def sets(self) -> dict[str, Pictures]:
        """The stored sets by name, and real images as the yardstick: a set need not be more complete than these."""
        sets = {}
        for variant in self.variants:
            pictures = Unread(attrgetter("image"), self.samples(variant))
            sets[self.set_of(variant)] = Pictures(pictures, self.labels(variant))
        classes = range(len(self.names))
        some = [(c, item) for c in classes for item in readable(self.data, c, self.most_real, self.skip)]
        real = Unread(self._real, [item for _, item in some])
        return sets | {"real": Pictures(real, np.array([label for label, _ in some]))}

    def set_of(self, variant: str) -> str:
        """What results.json calls a variant: informed or uninformed."""
        return "informed" if variant == "images" and self._guided else "uninformed"

    def samples(self, variant: str = "images") -> Stored:
        """A variant's images, class by class, each row read when it is asked for: of many, the rows are large."""
        if variant not in self._samples:
            self._samples[variant] = Stored(self.stored, variant)
        return self._samples[variant]

    def labels(self, variant: str) -> np.ndarray:
        """The label of each of a variant's images, (N,), in the manifest's order: class by class."""
        return self.samples(variant).rows.labels

    @property
    def most_real(self) -> int:
        """Real images of a class that are measured beside the made ones, at most."""
        return max(1, min(REAL_IMAGES, REAL_IN_ALL // len(self.names)))

    def rows(self, of: ClassImages, network: Callable[[Tensor], Tensor]) -> dict[str, np.ndarray]:
        """What a network makes of a class's images, (N, ...), by the sets of `sets`."""
        some = {self.set_of(variant): of.rows(network, made) for variant, made in of.made.items()}
        return {
            name: rows.numpy() for name, rows in {**some, "real": of.rows(network, of.real(self.most_real))}.items()
        }

    def parts(self, name: str) -> list[Any]:
        """What a metric's `of_class` made of each class, in label order.

        All metrics of the run are asked at once, so that each class is looked at once.
        """
        if name not in self._parts:
            asked = [name, *(other for other in self.asked if METRICS.get(other).of_class and other != name)]
            found = dict(self._engine(self, asked, self._jobs()))
            self._parts |= {one: [found[label][one] for label in range(len(self.names))] for one in asked}
        return self._parts[name]

    def _jobs(self) -> Iterator[ClassJob]:
        def made(variant: str, label: int) -> list[Made]:
            first, end = np.searchsorted(self.labels(variant), (label, label + 1))
            return [Made(sample.file, sample.source, sample.path) for sample in self.samples(variant)[first:end]]

        for label in range(len(self.names)):
            yield ClassJob(label, {variant: made(variant, label) for variant in self.variants})

    @property
    def asked(self) -> list[str]:
        """The metrics that are to be measured."""
        return [*dict.fromkeys((*(() if self.concepts is None else ALWAYS), *self.recipe.metrics))]

    def _real(self, item: str) -> Image.Image:
        return images.shrunk(self.data.read(item), REAL_SIDE)

    def results(self) -> dict[str, Any]:
        """Measure what results.json shall hold, by metric; a ConcordError blames a stranger's that fails."""
        found = {}
        for name in self.asked:
            with METRICS.blamed(name):
                figures = METRICS.build(name, METRICS.get(name).compute)(self)
                json.dumps(figures, allow_nan=False)
            self._parts.pop(name, None)
            if figures is not None:
                found[name] = figures
        return found

    def roles(self) -> dict[str, Any]:
        """Who informed the images of a generated set, who measures them, and who chose them, where somebody did."""
        recipe = self.recipe
        if not recipe.is_generated:
            return {}
        found: dict[str, Any] = {"guide": recipe.informers, "judge": _named(recipe.scorer, recipe)}
        if isinstance(self.scorer, Tells):
            found |= self.scorer.facts()
        if (select := recipe.select).kind == "none":
            return found
        judge = "objective" if recipe.judge is None else _named(recipe.judge, recipe)
        if select.pooled:
            judge = {"encoder": f"encoder {recipe.encoder}", "teacher": f"teacher {recipe.teacher}"}.get(
                recipe.space, recipe.space
            )
        found["selection"] = {"kind": select.kind, "of": select.of, "judge": judge}
        if select.kind == "best":
            rows = [sample.scores for sample in self.samples()]
            found["selection"] |= {
                "finish": select.finish,
                "rating": round(float(np.mean([row["rating"] for row in rows])), 4),
                "first_kept": round(float(np.mean([row["candidate"] == 0 for row in rows])), 4),
            }
        return found

    def active_share(self) -> dict[str, Any]:
        """Where images stop early: the mean share of their gradients that were taken."""
        if not self._guided or self.recipe.informing.stop is None:
            return {}
        shares = [sample.scores["active_share"] for sample in self.samples()]
        return {"active_share": round(float(np.mean(shares)), 4)}


def measure_class(run: Measuring, names: Sequence[str], job: ClassJob) -> tuple[int, dict[str, Any]]:
    """A class's label, and what each metric's `of_class` makes of it; an image is read once for all of them."""
    images, found = ClassImages(job, run.data, run.skip), dict[str, Any]()
    for name in names:
        with METRICS.blamed(name):
            found[name] = METRICS.build(name, METRICS.get(name).of_class)(run, images)
    return job.label, found


def _here(run: Measuring, names: Sequence[str], jobs: Iterable[ClassJob]) -> Iterator[tuple[int, dict[str, Any]]]:
    return (measure_class(run, names, job) for job in jobs)


def _named(scorer: ScorerSettings, recipe: Recipe) -> str | None:
    """A scorer in words, as in ``percentile reef:clip-2``; None where nothing rates."""
    by = scorer.model or (recipe.encoder if scorer.kind == "percentile" else "")
    return None if scorer.kind == "none" else f"{scorer.kind} {by}".rstrip()
