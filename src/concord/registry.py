"""What anyone may add by a name: methods, families, guides, scorers, metrics, protocols, layouts, data sets.

A package adds one by a standard entry point, and what comes with concord is added in the same way (pyproject.toml):

    [project.entry-points."concord.methods"]
    first = "my_package.first:METHOD"

The entry is a specification of this file (a `Protocol` of `concord.evaluation.protocols` for a protocol). It is light:
what it builds is named by a text, ``module:function``, and imported when it is used. Nothing is imported before its
name is asked for, so that a package that does not import harms nobody who does not use it. Its `about` is one sentence.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any, Generic, Literal, TypeVar, get_args

from concord.errors import ConcordError
from concord.text import nearest

OURS = "concord-distill"
Place = Literal["terminal", "report", "comparison", "card"]
T = TypeVar("T")


def imported(target: str) -> Any:
    """Return what ``module:name`` names. Raises Exception: whatever the import raises."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class MethodSpec:
    """A way to make a small set.

    Args:
        name: what a recipe's `method` says.
        build: ``module:function`` of (recipe, data), which returns a `concord.methods.base.Method`.
        kind: ``generated`` by a diffusion model; ``real``: chosen among real images, or put together from them;
            ``optimised``: pixels that descend a loss.
        about: one sentence, for data cards and `concord methods`.
        pipeline: what the recipe's `pipeline` holds where the recipe does not say.
        pipeline_keys: keys of `pipeline` that only some methods read, and this one does.
        families: the families of pipelines that it takes, the first where the class is not known; none for all.
        settings: a pydantic model; the recipe gets a section of the method's name with its fields.
        models: recipe -> the models that it will load, dotted key -> directory or hub id.
        defaults: a recipe's plain values -> further keys of it, taken where the recipe does not say.
        presets: the same -> keys of the section of its name, taken where that does not say.
        check: raises ValueError where a recipe of the method lacks what it needs.
        unread: keys and sections of a recipe that mean nothing to it, so that setting one is refused.
        ipc: a ``prefix`` of the plan, so that a set grows; ``all``: IPC says nothing; ``joint``: it decides every image
            and is part of the identity.
        drawn: whether another seed gives another set.
    """

    name: str
    build: str
    kind: Literal["generated", "real", "optimised"]
    about: str
    pipeline: Mapping[str, Any] = field(default_factory=dict)
    pipeline_keys: frozenset[str] = frozenset()
    families: tuple[str, ...] = ()
    settings: type[Any] | None = None
    models: Callable[[Any], Mapping[str, str]] = lambda _: {}
    defaults: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    presets: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda _: {}
    check: Callable[[Any], None] = lambda _: None
    unread: frozenset[str] = frozenset()
    ipc: Literal["prefix", "all", "joint"] = "prefix"
    drawn: bool = True


@dataclass(frozen=True)
class FamilySpec:
    """A family of diffusers pipelines: how its images are made from planned samples.

    Args:
        name: its word, as in ``dit``.
        pipelines: the pipeline classes that it takes, and their subclasses; ``module:Class`` where diffusers has none
            of that name.
        build: ``module:name`` of (pipeline, tiny_decoder, ``**options``), which returns a
            `concord.pipelines.base.FrozenPipeline`; options: `size` and `image_strength`, where a recipe sets them.
        reads: what it takes of a sample: its ``class``, its ``prompt``, its ``image``.
        exact: whether gradients pass through its denoiser.
    """

    name: str
    pipelines: tuple[str, ...]
    build: str
    about: str
    reads: frozenset[Literal["class", "prompt", "image"]]
    exact: bool = True


@dataclass(frozen=True)
class GuideSpec:
    """A guide that a recipe can name in `guides`.

    Args:
        name: what an entry of `guides` says as its name.
        build: ``module:function`` of (settings, context), which returns a `concord.diffusion.Guide` for one batch;
            context: `concord.guidance.context.GuideContext`.
        settings: a pydantic model of the entry's other keys.
        across: it compares the images of a batch, so that a batch is never made in parts.
        models: settings -> the models that it will load, key -> directory or hub id.
        takes_image: settings -> whether it reads the real image that a sample names as its source.
        check: (settings, recipe, the fewest classes round which a batch goes): raises ConcordError where it cannot act.
    """

    name: str
    build: str
    settings: type[Any]
    about: str
    across: bool = False
    models: Callable[[Any], Mapping[str, str]] = lambda _: {}
    takes_image: Callable[[Any], bool] = lambda _: False
    check: Callable[[Any, Any, int], None] = lambda *_: None


@dataclass(frozen=True)
class ScorerSpec:
    """What rates images against a class's concepts.

    name: what a recipe's `scorer.kind` says. build: ``module:function`` of (recipe, models, real), which returns a
    `concord.metrics.scorers.Scorer` or None; models: a `ModelCache`; real: (encoder, class name) -> unit embeddings (N,
    D) of some of its real images. models: recipe -> the models that it will load, dotted key -> directory or hub id.
    asks: whether it asks a server, which one process does then, however many share the work.
    """

    name: str
    build: str
    about: str
    models: Callable[[Any], Mapping[str, str]] = lambda _: {}
    asks: bool = False


@dataclass(frozen=True)
class Measure:
    """One figure that programs and people read: where it stands, what it is called, and which way is better.

    Args:
        key: dotted key in results.json, or in a cell's `metrics`; ``{}`` stands for the set (informed, ...). Of a
            phrase, its key in the rows of details.json.
        label: what a reader calls it, in lower case.
        unit: how it is written: a ``share`` in per cent, a plain ``number``, ``seconds``, ``percent`` as it stands.
        better: 1 where more is better, -1 where less is, 0 where neither.
        gain: dotted key of what informing changed, with its interval; empty where there is none.
        explained: one sentence for the report.
        name: what a comparison's record calls it; the key where it is empty.
        title: the head of its row in the report; the label where it is empty.
        of: whether it is of a ``set``, or of each ``phrase`` on each image.
        lead: sentences for the head of the report with {before}, {after} and {real}; the first whose figures are all
            known is written. Of a phrase: what stands before its two values beside a pair of images.
        did: what informing did to the set, where it made it better, worse, or neither; said before `lead`.
        places: where it is shown.
    """

    key: str
    label: str
    unit: Literal["share", "number", "seconds", "percent", "count"]
    better: Literal[-1, 0, 1]
    gain: str = ""
    explained: str = ""
    name: str = ""
    title: str = ""
    of: Literal["set", "phrase"] = "set"
    lead: tuple[str, ...] = ()
    did: tuple[str, ...] = ()
    places: tuple[Place, ...] = get_args(Place)


@dataclass(frozen=True)
class MetricSpec:
    """A metric, of a run's images or of a student's predictions.

    Args:
        name: its key in results.json, or in a cell's `metrics`.
        of: ``run``: `compute` is a function of `concord.metrics.measure_run.Measuring`, which returns JSON values, or
            None where there is nothing to measure; ``predictions``: of (logits (N, K), labels (N,)), which returns a
            float.
        of_class: of a run's metric that needs the images class by class, a function of (Measuring,
            `concord.metrics.class_images.ClassImages`), which several workers may call; what it returns travels between
            machines, and reaches `compute` by `Measuring.parts`.
        rows: how its figures are shown.
        sheet: lines for the head of the contact sheet, formats of what `compute` returned, as in ``{informed[n]}``; a
            line whose figures are not all there is left out.
        card: the same for the data card.
        limit: what the data card of a generated set names as a limit where this was not measured.
        rank: where its rows stand among those of others, the least first.
    """

    name: str
    of: Literal["run", "predictions"]
    compute: str
    about: str
    rows: tuple[Measure, ...] = ()
    sheet: tuple[str, ...] = ()
    card: tuple[str, ...] = ()
    limit: str = ""
    rank: int = 100
    of_class: str = ""


@dataclass(frozen=True)
class LayoutSpec:
    """A layout that a set can be exported in.

    name: what `--layout` says. write: ``module:function`` of (set, directory to fill, options), which returns how it is
    read; see `concord.export`. sharded: whether it writes several images a file, of `options.shard_size`. images:
    ``module:function`` of (directory, rows of the manifest), which yields each row's file as bytes, in their order; a
    layout without it cannot be made a run's directory again, so that `--push` does not take it.
    """

    name: str
    write: str
    about: str
    sharded: bool = False
    images: str = ""


@dataclass(frozen=True)
class DatasetSpec:
    """A data set that `data` can name, beside folders and files.

    name: what `data` says. open: ``module:function`` of (part), ``train`` or ``test``, which returns a
    `concord.data.ImageSet`. licence: an SPDX name, or empty where it is not known.
    """

    name: str
    open: str
    about: str
    licence: str = ""


class Registry(Generic[T]):
    """The things of one kind that installed packages add, by name. first: names that lead where they are listed."""

    def __init__(self, group: str, word: str, *first: str) -> None:
        self.group, self.word, self._first = group, word, first
        self.added: dict[str, T] = {}
        """What this process adds, for a notebook or a test; worker processes do not know it."""

    def __iter__(self) -> Iterator[str]:
        """Names, sorted but for those that lead; nothing is imported."""
        found = {*self._entries(), *self.added}
        leading = [name for name in self._first if name in found]
        return iter(leading + sorted(found.difference(leading)))

    def __contains__(self, name: object) -> bool:
        return name in self._entries() or name in self.added

    def items(self) -> Iterator[tuple[str, str, T | ConcordError]]:
        """Names, the packages that add them, and what they stand for, or why that cannot be had."""
        for name in self:
            try:
                yield name, self.package(name), self.get(name)
            except ConcordError as error:
                yield name, self.package(name), error

    def package(self, name: str) -> str:
        """The package that adds a name, with its version."""
        return "this process" if name in self.added else _package(self._entries()[name][0])

    def get(self, name: str) -> T:
        """Return what a name stands for, imported now; a ConcordError names the nearest, or the package to blame."""
        if name in self.added:
            return self.added[name]
        found = self._entries().get(name)
        if not found:
            known = ", ".join(self) or f"none; concord is not installed (`pip install {OURS}`)"
            raise ConcordError(f'unknown {self.word} "{name}"{nearest(name, self)}; there are {known}')
        if len(found) > 1:
            both = " and ".join(_package(entry) for entry in found)
            raise ConcordError(f'{self.word} "{name}" is added by {both}: uninstall one of them')
        try:
            return found[0].load()
        except Exception as error:  # whatever a stranger's module does
            raise self._broken(name, "which does", error) from error

    def build(self, name: str, target: str) -> Any:
        """Return what ``module:function`` of a specification names; a ConcordError if it does not import."""
        try:
            return imported(target)
        except ConcordError:
            raise
        except (ImportError, AttributeError, SyntaxError) as error:
            raise self._broken(name, f"of which {target} does", error) from error

    def _broken(self, name: str, does: str, error: Exception) -> ConcordError:
        source = f'{self.word} "{name}" comes from the package {self.package(name)}'
        return ConcordError(f"{source}, {does} not import ({_reason(error)}); mend it, or uninstall it")

    @contextlib.contextmanager
    def blamed(self, name: str) -> Iterator[None]:
        """Call what a specification names in here: a ConcordError blames a stranger's package where it fails."""
        try:
            yield
        except ConcordError:
            raise
        except Exception as error:  # whatever a stranger's function does
            package = self.package(name)
            if package.startswith(f"{OURS} "):
                raise
            raise ConcordError(f'{self.word} "{name}" of the package {package} fails ({_reason(error)})') from error

    def _entries(self) -> Mapping[str, list[metadata.EntryPoint]]:
        return _entries().get(self.group, {})


@cache
def _entries() -> Mapping[str, Mapping[str, list[metadata.EntryPoint]]]:
    """By group and name, read once: every installed package is looked into."""
    there = metadata.entry_points()
    found: dict[str, dict[str, list[metadata.EntryPoint]]] = {}
    for group in (group for group in there.groups if group.startswith("concord.")):
        named = found.setdefault(group, {})
        for entry in there.select(group=group):
            named.setdefault(entry.name, []).append(entry)
    return found


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _package(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else entry.module.partition(".")[0]


METHODS: Registry[MethodSpec] = Registry(
    "concord.methods", "method", "dit", "minimax", "unclip", "text", "generate", "random", "full", "k_center"
)
FAMILIES: Registry[FamilySpec] = Registry("concord.families", "family")
GUIDES: Registry[GuideSpec] = Registry("concord.guides", "guide")
SCORERS: Registry[ScorerSpec] = Registry("concord.scorers", "scorer", "detector", "percentile")
METRICS: Registry[MetricSpec] = Registry("concord.metrics", "metric")
PROTOCOLS: Registry[Any] = Registry("concord.protocols", "protocol", "rded", "paper", "hard", "dc", "plain")
LAYOUTS: Registry[LayoutSpec] = Registry("concord.layouts", "layout", "folder", "rded", "ddranking", "webdataset")
DATASETS: Registry[DatasetSpec] = Registry("concord.datasets", "data set")
REGISTRIES: tuple[Registry[Any], ...] = (METHODS, FAMILIES, GUIDES, SCORERS, METRICS, PROTOCOLS, LAYOUTS, DATASETS)
