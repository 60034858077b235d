"""Import paths of version 0.1: each answers, names the new place once, and goes with the next release.

The finder below gives a module for a name that is here no more, and lets one that is still here find the names that
moved out of it. Either way a name is looked up in the files that took the old one's work (`_PLACES`), under its own
name and under the one that it has now (`_NAMES`).
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_PLACES = """
cli.catalogue < catalogue ; cli.common < commands.telling ; cli.compare < commands.compare
cli.compare_views < commands.compare_views ; cli.concepts < commands.concepts
cli.concepts_views < commands.concepts_ratings commands.concepts_views ; cli.console < console
cli.convert < commands.convert ; cli.distill_views < terminal ; cli.evaluate < commands.evaluate
cli.evaluate_views < commands.evaluate_views ; cli.export < commands.export ; cli.findings < doctor terminal
cli.init < commands.init ; cli.labels < commands.labels
cli.progress < commands.evaluate_views commands.retrieving progress ; cli.recipes < commands.recipes
cli.report < commands.report ; cli.retrieve < commands.concepts_retrieve ; cli.retrieve_views < commands.retrieving
cli.teacher < commands.teacher
concepts.bank < concepts.importing ; concepts.compare < concepts.comparison concepts.zero_shot
concepts.llm.class_names < concepts.sources ; concepts.llm.client < concepts.chat concepts.secrets
concepts.llm.parse < concepts.answers concepts.scanning ; concepts.llm.prompts < concepts.prompts
concepts.llm.retrieve < concepts.retrieval ; concepts.plan < methods.concept_plan
concepts.selection < concepts.validity ; concepts.words < concepts.wording
data < data ; data.align < data.matching ; data.checks < data.overlap data.survey ; data.class_lists < data.lists
data.classes < data.classes ; data.parquet < data.rows ; data.parquet_columns < data.columns data.labels
data.dsa < evaluation.dsa ; data.prefetch < data.ahead ; data.sampling < scoring.embeddings ; data.source < data.splits
diffusion.attach < informing.attach ; diffusion.cfg < diffusion.guidance
evaluation.augment < evaluation.augment ; evaluation.cells < evaluation.cells
evaluation.check_teacher < evaluation.soundness ; evaluation.evaluate < evaluation.evaluating evaluation.trials
evaluation.label < evaluation.labelling ; evaluation.protocols < evaluation.protocol
evaluation.settings < evaluation.settings ; evaluation.soft_labels < evaluation.soft_labels
evaluation.train_teacher < evaluation.teaching
evaluation.training < evaluation.batches evaluation.memory evaluation.training
events < evaluation.evaluating runs.execute
export.made < export.made ; export.write < export export.private export.writing
guidance < informing ; guidance.attach < informing.attach ; guidance.concept_guide < informing.informer
guidance.objectives < informing.objectives
methods.base < methods.base ; methods.batch_sampler < methods.making
methods.class_mapping < methods.checkpoints ; methods.coreset < methods.coreset methods.features
methods.diffusion < methods.generate ; methods.rded < methods.crops ; methods.teacher < methods.rded
methods.real < methods.full methods.random methods.supply
metrics.class_images < scoring.copies scoring.embeddings
metrics.completeness < scoring.completeness scoring.details scoring.outcome ; metrics.copies < scoring.copies
metrics.ddranking < evaluation.ranking ; metrics.details < scoring.details ; metrics.embeddings < scoring.embeddings
metrics.flops < scoring.operations ; metrics.measure_run < methods.outcome scoring.outcome
metrics.measures < comparison.measure comparison.wording report.headline ; metrics.neighbours < scoring.coverage
metrics.scorers < scoring.scorer scoring.outcome ; metrics.statistics < evaluation.significance scoring.completeness
models.classifier < scoring.outcome ; models.dit_checkpoint < models.convert models.export models.timesteps
models.encoder < encoder ; models.hub < models.licences resources ; models.networks < models.convnet models.resnets
models.preprocess < preprocessing ; models.pretrained_teachers < models.trained ; models.students < models.students
pipelines.any < diffusion.families.piped methods.making ; pipelines.base < diffusion.families.family
pipelines.class_ids < methods.class_ids
pipelines.dit < diffusion.families.dit ; pipelines.load < models.pipelines
pipelines.text < diffusion.families.text ; pipelines.unclip < diffusion.families.unclip
plan < runs.plan
recipe < recipe ; recipe.sections < recipe
reef.dataset < reef reef.real
registry < recipe
report.charts < report.activations report.plotting ; report.compare < comparison.measure comparison.run
report.compare_page < comparison.page comparison.wording ; report.contact_sheet < report.sheet
report.figures < report.headline ; report.samples < report.contents report.judging
report.similarity < report.heatmap report.likeness ; report.thumbnails < comparison.page
runs.begin < runs.workspace ; runs.directory < comparison.run export.made report.page report.record
settings < overrides
storage.atomic < runs.store ; storage.images < data.reading images runs.store ; storage.processes < parallel
storage.threads < data.threads runs.writing
system < resources
text < console data.splits errors
workflows.distill < runs.execute ; workflows.draw < methods.outcome ; workflows.executors < runs.execute
workflows.preview < runs.preview ; workflows.requirements < runs.needed
"""
"""The files of today, each with those of then whose work it took: new < old old."""
_NAMES = """
BUILT_IN_DATA=DATASETS Comparison=Figures CoresetSupply=CoresetPool Course=TrainingLog Form=LabelFormat
Form=StudentForm Form=Unit HOW=RUNTIME_KEYS Informer=ConceptGuide Live=Trainings Look=StudentConfig
Made=GeneratedImage Maker=BatchSampler NAME=REPORT Named=ClassSpec Picture=StoredSample Piped=AnyPipeline
Progressing=Asking Record=Run Shot=StoredSample Supply=ImagePool Taught=TrainedTeacher Told=Progress
Way=ProtocolConfig amid=on_canvas appearing=new_directory comparisons=figures entering=layer_input
give_one=check_forward is_wired=supports_exact judged=is_eval_epoch matched=align_classes on=to_device one_line=plain
passes=num_epochs point=failpoint rate=lr_factor read_run=finished_run read_run=open_run retrieve=retrieve_bank
saying=disk_errors seen=augmented_batch shown=redacted shown_recipe=redacted_recipe told=user_errors
try_out=train_cell
"""
"""What has another name today, as old=new."""


def _places() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in _PLACES.replace("\n", ";").split(";"):
        new, _, olds = entry.strip().partition(" < ")
        for old in olds.split():
            found.setdefault(f"concord.{old}", []).append(f"concord.{new}")
    return found


def old_names(old: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module of then: it finds a name where it is now, and says so once."""

    def find(name: str) -> Any:
        names = [*(pair.partition("=")[2] for pair in _NAMES.split() if pair.partition("=")[0] == name), name]
        for place in PLACES.get(old, ()) if not name.startswith("__") else ():
            module = importlib.import_module(place)
            for new in names:
                if new in vars(module):
                    value = vars(sys.modules[old])[name] = vars(module)[new]
                    warnings.warn(
                        f"{old}.{name} is {place}.{new} now; the old name goes with the next release",
                        DeprecationWarning,
                        stacklevel=2,
                    )
                    return value
        raise AttributeError(f"module {old!r} has no attribute {name!r}")

    return find


class _Here(SourceFileLoader):
    """Loads a module that is still here, and gives it what moved out of it."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        vars(module).setdefault("__getattr__", old_names(module.__name__))


class _Gone:
    """Makes a module that is here no more, of old names alone."""

    def create_module(self, spec: ModuleSpec) -> None: ...

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__getattr__"] = old_names(module.__name__)


class _Finder:
    """Answers for the modules of `PLACES` and the packages that they lay in, and for no others."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in PLACES and name not in PACKAGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:  # none, or a folder of data
            return ModuleSpec(name, _Gone(), is_package=name in PACKAGES)  # type: ignore[arg-type]
        if name in PLACES and type(spec.loader) is SourceFileLoader:
            spec.loader = _Here(spec.loader.name, spec.loader.path)
        return spec


PLACES = _places()
PACKAGES = {old.rpartition(".")[0] for old in PLACES} - {"concord"}


def install() -> None:
    """Let the old paths be imported."""
    sys.meta_path.insert(0, _Finder())
