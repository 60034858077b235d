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
    "concord.progress:Quiet": "`concord.events.Silent` is no context",
    "concord.export:Layout": "layouts are the names that `concord.registry.LAYOUTS` knows",
    "concord.comparison.measure:DETAILS": "what may stand there, `concord.metrics.measures.phrase_measures` says",
    "concord.report.sheet:sheet_notes": "`concord.metrics.measures.lines` has them, and those of other metrics",
    "concord.cli:distill": "a file of that name stands there",
    "concord.cli:doctor": "a file of that name stands there",
    "concord.recipe:CHOSEN": "a closed list; Recipe.is_real says it",
    "concord.recipe:DEFAULTS": "a closed list; each MethodSpec has its own",
}
"""What no old path gives any more, and why."""


@pytest.mark.parametrize("old", sorted({path.partition(":")[0] for path in OLD}))
def test_an_old_path_gives_the_object_of_its_new_place(old: str) -> None:
    module = importlib.import_module(old)
    for name in [path.partition(":")[2] for path in OLD if path.startswith(f"{old}:") and path not in GONE]:
        value = getattr(module, name)
        if (inspect.isfunction(value) or inspect.isclass(value)) and value.__module__.startswith("concord"):
            if value.__name__.startswith("_"):
                continue  # a variable that holds a function
            assert value.__name__ == name or f"{name}={value.__name__}" in moved._NAMES.split(), (name, value)
            home = sys.modules[value.__module__]
            assert getattr(home, value.__name__) is value
            assert home.__spec__ is not None and home.__spec__.origin, f"{name} is from {home}"


def test_every_place_is_there() -> None:
    for places in moved.PLACES.values():
        for place in places:
            assert importlib.import_module(place).__spec__.origin, f"{place} is itself an old name"


def test_nothing_is_kept_that_was_not_lost_long_ago() -> None:
    assert set(GONE) <= set(OLD)


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
