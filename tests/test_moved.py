"""The import paths of version 0.1 answer, and say where a name is now (fixtures/old_paths.txt: all that was public)."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from concord import moved

OLD = (Path(__file__).parent / "fixtures" / "old_paths.txt").read_text().split()
GONE = {
    "concord.cli:distill": "a file of that name stands there",
    "concord.cli:doctor": "a file of that name stands there",
    "concord.data.splits:walk": "concord.data.source.look",
    "concord.export:Layout": "names of concord.registry.LAYOUTS",
    "concord.methods.coreset:coreset": "a function of each order, as k_center_set",
    "concord.concepts.chat:Unanswered": "an empty concord.concepts.llm.client.Reply with its reason",
    "concord.concepts.scanning:Group": "JSON is mended by json-repair",
    "concord.concepts.scanning:listed_lines": "concord.concepts.llm.parse.read_answer",
    "concord.concepts.scanning:quoted_groups": "JSON is mended by json-repair",
    "concord.concepts.secrets:secrets_of": "concord.concepts.llm.client.Server.secrets",
    "concord.methods.making:SMALL": "operations are counted whatever the model's size",
    "concord.methods.outcome:Outcome": "measured by metrics.measure_run, drawn by workflows.draw",
    "concord.methods.outcome:SHEET_CLASSES": "private to workflows.draw",
    "concord.methods.outcome:SHEET_SAMPLES": "private to workflows.draw",
    "concord.progress:Quiet": "concord.events.Silent",
    "concord.recipe:CHOSEN": "the kind of each of concord.registry.METHODS",
    "concord.recipe:DEFAULTS": "the pipeline of each of concord.registry.METHODS",
    "concord.report.sheet:sheet_notes": "concord.metrics.measures.lines",
    "concord.runs.execute:Encoded": "a worker gives concord.workflows.executors.Finished",
    "concord.scoring.embeddings:embed": "concord.metrics.class_images.ClassImages.rows",
    "concord.models.pipelines:EXPECTED": "the pipelines of each of concord.registry.FAMILIES",
    "concord.models.pipelines:WIRED_TEXT": "the pipelines of the family text",
    "concord.models.pipelines:check_pipeline_class": "concord.pipelines.load.recipe_family",
}
"""What no old path gives any more, being of use inside the package alone, and what took its place."""


@pytest.mark.parametrize("old", sorted({path.partition(":")[0] for path in OLD}))
def test_an_old_path_gives_the_object_of_its_new_place(old: str) -> None:
    module = importlib.import_module(old)
    for name in [path.partition(":")[2] for path in OLD if path.startswith(f"{old}:") and path not in GONE]:
        value = getattr(module, name)
        if inspect.isfunction(value) or (inspect.isclass(value) and value.__module__ not in ("builtins", "typing")):
            if value.__name__.startswith("_"):
                continue  # a variable that holds a function
            assert value.__name__ == name or f"{name}={value.__name__}" in moved._NAMES.split(), (name, value)
            home = sys.modules[value.__module__]
            assert getattr(home, value.__name__) is value
            assert value.__module__.startswith("concord."), f"{name} is another library's"
            assert home.__spec__ is not None and home.__spec__.origin, f"{name} is from {home}"


def test_every_place_is_there() -> None:
    for places in moved.PLACES.values():
        for place in places:
            assert importlib.import_module(place).__spec__.origin, f"{place} is itself an old name"


def test_what_is_gone_is_gone() -> None:
    for path in GONE:
        module, _, name = path.partition(":")
        assert path in OLD
        assert inspect.ismodule(getattr(importlib.import_module(module), name, moved)), path


CODE = """
import concord.encoder, concord.resources
from concord.informing import Informer
from concord.informing.informer import Informer as again
from concord.runs.execute import distill
from concord.errors import nearest
from concord.resources import model_path
import concord.diffusion.families.dit as dit
from concord.guidance.concept_guide import ConceptGuide
dit.DiT
assert again is Informer is ConceptGuide
try:
    from concord.informing import nonsense
except ImportError as error:
    print(error)
try:
    import concord.informing.nonsense
except ImportError as error:
    print(error)
"""


def test_a_name_says_once_where_it_is_now() -> None:
    done = subprocess.run([sys.executable, "-W", "always", "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "DeprecationWarning: concord" in line]
    assert len(said) == len(set(said))
    assert "concord.informing.Informer is concord.guidance.ConceptGuide now" in said[0]
    assert said[0].startswith("<string>:3:"), "the line that imports is named"
    assert "nonsense" in done.stdout
