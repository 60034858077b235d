"""The directory of a run, finished or not: all that lies in it is read here, and every path that it names checked.

Nothing is read before it is asked for, and no image is kept in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any, Literal

from PIL import Image

from concord.choices import TENSORS
from concord.data.classes import ClassSpec, ClassTable, class_table
from concord.errors import ConcordError
from concord.recipe import HEADER, Recipe, spec_of, validate
from concord.runs.manifest import Lazy, Rows
from concord.runs.shapes import misfit
from concord.runs.store import MANIFEST, Row, read_manifest
from concord.settings import read_yaml
from concord.storage.atomic import read_json
from concord.storage.checksums import is_inside
from concord.storage.images import read_image

Json = dict[str, Any]


Variant = Literal["images", "uninformed"]


Place = tuple[str, int]
"""A sample's class, by its folder, and its index."""


EMBEDDINGS, REPORT = "embeddings.npz", "report.html"


FILES = (
    *("recipe.yaml", "environment.json", "concepts.json", "details.json", "near_copies.json", EMBEDDINGS),
    *("results.json", "samples.png", "concepts.png", "similarity.png", TENSORS),
)
"""What a finished run leaves beside its images, once and for all; the page is drawn anew by later commands."""


@dataclass(frozen=True)
class Words:
    """What a command says of a run that it cannot use.

    `{path}` stands for the file, `{reason}` for what the decoder says, `{name}` for what stands in a manifest, `{root}`
    for the manifest's directory.
    """

    damaged: str = "{path} is damaged ({reason}): give `concord distill` again, or take it away"
    no_object: str = "{path} is damaged: expected a JSON object"
    outside: str = "{path} names {name!r}, which is not below {root}"
    link: str = "{path} is a link out of {root}"


WORDS = Words()


@dataclass(frozen=True)
class StoredSample:
    """One image of a run and its row of the manifest; `image` and `path` look at the disk, nothing else does."""

    run: Run = field(repr=False)
    variant: str
    row: Row

    @property
    def file(self) -> str:
        """Its place in the run's directory, as details.json names it."""
        return f"{self.variant}/{self.row['file_name']}"

    @cached_property
    def path(self) -> Path:
        """Its file, which need not be there. Raises ConcordError: it is a link to somewhere else."""
        root = self.run.out / self.variant
        path = root / self.row["file_name"]
        real = path.resolve() if path.is_symlink() else self.run.resolved(path.parent)
        if not real.is_relative_to(self.run.resolved(root)):
            raise ConcordError(self.run.words.link.format(path=path, root=root))
        return path

    @property
    def image(self) -> Image.Image:
        """The image, RGB, read anew. Raises ConcordError: it is gone, or no image."""
        return read_image(self.path)

    @property
    def folder(self) -> str:
        return PurePath(self.row["file_name"]).parent.as_posix()

    @property
    def label(self) -> int:
        return int(self.row["label"])

    @property
    def class_name(self) -> str:
        return str(self.row.get("class_name") or self.folder)

    @property
    def index(self) -> int:
        return int(self.row["index"])

    @property
    def seed(self) -> int | None:
        return self.row.get("seed")

    @property
    def positives(self) -> Sequence[str]:
        return self.row.get("positives") or ()

    @property
    def negatives(self) -> Sequence[str]:
        return self.row.get("negatives") or ()

    @property
    def prompt(self) -> str:
        return self.row.get("prompt") or ""

    @property
    def source(self) -> str:
        """The real image that it was made from, as the data set names it."""
        return self.row.get("source") or ""

    @property
    def scores(self) -> Mapping[str, float]:
        return self.row.get("scores") or {}

    @property
    def details(self) -> Sequence[Json]:
        """Its rows of details.json; none where it was not rated."""
        return self.run.details.get("images", {}).get(self.file, ())


class Stored(Lazy[StoredSample]):
    """The samples of a variant as `Run.samples` has them, each read when it is asked for (`rows`): for who goes through
    them once, in the memory of an index.

    Raises:
        ConcordError: the manifest is damaged, or names a file that is not below it.
    """

    def __init__(self, run: Run, variant: str) -> None:
        self._run, self._variant = run, variant
        self.rows = Rows(run.out / variant / MANIFEST)

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, places: Iterable[int]) -> Iterator[StoredSample]:
        """Yield the samples of these places, in any order."""
        return (self._run.sample(self._variant, row) for row in self.rows.at(places))


@dataclass(frozen=True)
class Pair:
    """An image, and the uninformed one of the same seed where there is one."""

    after: StoredSample
    before: StoredSample | None = None


class Run:
    """A run's directory. JSON files that are not there are empty objects; see `open_run`."""

    def __init__(self, out: Path, words: Words = WORDS) -> None:
        self.out, self.words = out, words
        self._samples: dict[str, tuple[StoredSample, ...]] = {}
        self._resolved: dict[Path, Path] = {}

    def __repr__(self) -> str:
        return f"Run({str(self.out)!r})"

    @property
    def finished(self) -> bool:
        return (self.out / "results.json").is_file()

    @property
    def report(self) -> Path:
        """Where its page lies."""
        return self.out / REPORT

    @cached_property
    def recipe_text(self) -> str:
        path = self.out / "recipe.yaml"
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @cached_property
    def recipe(self) -> Json:
        """The resolved recipe as it was written, by whichever version; see `earlier` for a checked one."""
        try:
            values = read_yaml(self.recipe_text) or {}
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise ConcordError(f"{self.out / 'recipe.yaml'} is damaged: expected the YAML that `concord distill` left")
        return values

    @cached_property
    def results(self) -> Json:
        return self._json("results")

    @cached_property
    def environment(self) -> Json:
        return self._json("environment")

    @cached_property
    def concepts(self) -> Json:
        return self._json("concepts")

    @cached_property
    def details(self) -> Json:
        return self._json("details")

    @cached_property
    def evaluation(self) -> Json:
        return self._json("evaluation")

    @cached_property
    def near_copies(self) -> Json:
        return self._json("near_copies")

    @property
    def made_as(self) -> Literal["informed", "uninformed", "chosen", "optimised"]:
        """What the images are; chosen: among the real ones; optimised: pixel by pixel."""
        spec = spec_of(self.recipe.get("method"))
        if spec is not None and spec.kind != "generated":
            return "chosen" if spec.kind == "real" else "optimised"
        informing = self.recipe.get("informing")
        informed = not isinstance(informing, dict) or informing.get("enabled", True)
        return "informed" if informed or self.recipe.get("guides") else "uninformed"  # as `Recipe.is_guided` has it

    @property
    def main(self) -> str:
        """Under which name `results.json` has the images."""
        return "informed" if self.made_as == "informed" else "uninformed"

    def samples(self, variant: str = "images") -> tuple[StoredSample, ...]:
        """The samples of a variant in the order of label and index; none where it was not made.

        Raises:
            ConcordError: the manifest names a file that is not below it.
        """
        if variant not in self._samples:
            root = self.out / variant
            rows = read_manifest(root) if (root / MANIFEST).is_file() else []
            self._samples[variant] = tuple(self.sample(variant, row) for row in rows)
        return self._samples[variant]

    def sample(self, variant: str, row: Row) -> StoredSample:
        """The sample of a row; a ConcordError where its file is not below the variant's directory."""
        if not is_inside(row["file_name"]):
            root = self.out / variant
            raise ConcordError(self.words.outside.format(path=root / MANIFEST, name=row["file_name"], root=root))
        return StoredSample(self, variant, row)

    def resolved(self, folder: Path) -> Path:
        """A directory of the run without links; kept, as each of its images is held against it."""
        if folder not in self._resolved:
            self._resolved[folder] = folder.resolve()
        return self._resolved[folder]

    @cached_property
    def by_place(self) -> Mapping[Place, StoredSample]:
        """The samples by class folder and index."""
        return {(sample.folder, sample.index): sample for sample in self.samples()}

    @cached_property
    def by_label(self) -> Mapping[int, Sequence[Pair]]:
        """The samples of each class, each with its uninformed one."""
        partners = {(sample.label, sample.index): sample for sample in self.samples("uninformed")}
        found: dict[int, list[Pair]] = {}
        for sample in self.samples():
            pair = Pair(sample, partners.get((sample.label, sample.index)))
            found.setdefault(sample.label, []).append(pair)
        return found

    @property
    def pairs(self) -> list[Pair]:
        return [pair for pairs in self.by_label.values() for pair in pairs]

    @property
    def paired(self) -> bool:
        return any(pair.before for pair in self.pairs)

    def classes(self, variant: str = "images") -> ClassTable:
        """The classes by their folders.

        Raises:
            ConcordError: the labels do not follow the folders' sorted order, in which readers count.
        """
        return classes_of(self.samples(variant), self.out / variant / MANIFEST)

    def counts(self, variant: str = "images") -> list[int]:
        """Images of each class, in label order."""
        found = Counter(sample.label for sample in self.samples(variant))
        return [found[entry.label] for entry in self.classes(variant)]

    def _json(self, name: str) -> Json:
        path = self.out / f"{name}.json"
        words = self.words

        def damaged(reason: str) -> str:
            return (words.damaged if reason else words.no_object).format(path=path, reason=reason)

        values = read_json(path, damaged)
        if said := misfit(name, values):
            raise ConcordError(damaged(said))
        return values


def classes_of(samples: Iterable[StoredSample], manifest: Path) -> ClassTable:
    """The classes of samples by their folders; see `Run.classes`. manifest: what the error names."""
    names: dict[str, str] = {}
    labels: dict[str, int] = {}
    for sample in samples:
        names.setdefault(sample.folder, sample.class_name)
        if labels.setdefault(sample.folder, sample.label) != sample.label:
            raise ConcordError(f'{manifest}: the folder "{sample.folder}" has two labels')
    table = class_table(ClassSpec(folder.replace(" - ", "/"), name) for folder, name in names.items())
    for entry in table:
        if labels[entry.folder] != entry.label:
            raise ConcordError(
                f'{manifest}: the folder "{entry.folder}" has label {labels[entry.folder]}, but is number'
                f" {entry.label} in sorted order, as image-folder readers count"
            )
    return table


def open_run(out: Path | str, words: Words = WORDS) -> Run:
    """Open the directory of a run; one that is not finished is read as far as it got.

    out: the ``--out`` of `concord distill`. words: what a command says of what it cannot use.
    Raises ConcordError: it holds no run.
    """
    out = Path(out)
    if not (out / "images" / MANIFEST).is_file():
        raise ConcordError(f"{out} holds no run: expected images/metadata.jsonl there, as `concord distill` leaves it")
    return Run(out, words)


def earlier(out: Path) -> Recipe | None:
    """Return the recipe that `out` was begun with, or None where concord has not begun anything.

    Raises:
        ConcordError: it is there but does not fit this version.
    """
    run = Run(out)
    return (
        validate(run.recipe, str(out / "recipe.yaml")) if run.recipe_text.startswith(HEADER.partition(".")[0]) else None
    )
