"""The site and the pages it is made of: none is left out, no link leads nowhere, every command and setting exists.

`make docs` builds the site; what it would stumble over in the pages is found here without Sphinx. Guides are run by
tests of their own; here every command that any page names, run or not, is held against the command line.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

from concord.cli.commands import app
from concord.evaluation.protocols import RDED
from concord.evaluation.settings import Settings
from concord.evaluation.soft_labels import LabelFormat
from concord.evaluation.train_teacher import TeacherSettings
from concord.methods.experts import ExpertSettings
from concord.recipe import Recipe
from concord.recipe.model import recipe_class
from concord.registry import METHODS
from concord.reproduce.places import Choices
from concord.settings import keys
from concord.workflows.finetune import FinetuneSettings

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(ROOT / name / "README.md" for name in ("benchmarks", "examples")),
    *sorted((ROOT / "docs").glob("*.md")),
]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pytest.fixture(scope="module")
def site() -> ModuleType:
    """docs/conf.py, which imports Sphinx nowhere."""
    spec = importlib.util.spec_from_file_location("site_conf", ROOT / "docs" / "conf.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation_once(site: ModuleType) -> None:
    listed = [(ROOT / "docs" / f"{name}.md").resolve() for names in site.NAVIGATION.values() for name in names]
    assert sorted([ROOT / "README.md", *listed]) == sorted(PAGES)


def test_the_reference_has_every_file_of_the_library(site: ModuleType) -> None:
    modules = {name for names in site.rooms().values() for name in names}
    assert {"concord.guidance.shifts", "concord.export.hub", "concord.registry", "concord.data"} <= modules
    assert not [name for name in modules if name.startswith(("concord.cli", "concord.moved"))]


def test_a_docstring_becomes_what_sphinx_reads(site: ModuleType) -> None:
    text = [
        "Sample x * y, or |x|, as `Run` and `key=value` have it; all `Cell`s.",
        "",
        "    images = sample(x)",
        "",
        "x, y: two tensors,",
        "    of one shape.",
        "Raises ConcordError: they differ.",
        "",
        "Args:",
        "    z: *not* in the list.",
    ]
    site.as_rst(None, "function", "sample", None, None, text)
    assert text == [
        r"Sample x \* y, or \|x\|, as :py:obj:`Run` and ``key=value`` have it; all :py:obj:`Cell`\ s.",
        "",
        ".. code-block:: python",
        "",
        "    images = sample(x)",
        "",
        "* x, y: two tensors,",
        "  of one shape.",
        "* Raises ConcordError: they differ.",
        "",
        "Args:",
        r"    z: \*not\* in the list.",
        "",
    ]


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub, and the site, name them in links."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    heads = re.findall(r"^#{1,3} (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@EACH_PAGE
def test_every_heading_that_a_link_names_is_there(page: Path) -> None:
    for name, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        assert anchor in anchors(page.parent / name if name else page), f"{name}#{anchor}"


@EACH_PAGE
def test_a_page_has_one_title_and_its_data_can_be_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
    assert re.sub(r"^```.*?^```", "", text, flags=re.M | re.S).count("\n# ") == 0 and text.startswith("# ")
    read: dict[str, Any] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    for language, block in blocks:
        read.get(language, str)(block)


COMMANDS = get_command(app)
KNOWN = {
    "key",
    *(key for method in METHODS for key in keys(recipe_class(method))),
    *keys(Recipe),
    *(key for shape in (Settings, TeacherSettings, LabelFormat, type(RDED)) for key in keys(shape)),
    *(key for shape in (FinetuneSettings, ExpertSettings, Choices) for key in keys(shape)),
    *(f"banks.{name}" for name in ("descriptive", "distinctive", "another")),
    "students.resnet18",
}
"""Every ``key`` that a command's ``key=value`` may set."""


def commands(text: str) -> Iterator[str]:
    """What a page has a reader type: lines of blocks, with the next where they go on, and code in sentences."""
    for block in re.findall(r"^```(?:bash|text|)\n(.*?)^```", text, re.M | re.S):
        joined = re.sub(r"\\\n|\n +(?=\[?--)", " ", block)
        yield from (line.removeprefix("$ ") for line in joined.splitlines())
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


@EACH_PAGE
def test_every_command_has_the_options_and_settings_that_a_page_gives_it(page: Path) -> None:
    for line in commands(page.read_text(encoding="utf-8")):
        words = line.split("  #")[0].replace("[", " ").replace("]", " ").split()
        if words[:1] != ["concord"] or len(words) < 2 or words[1].startswith("-"):
            continue
        command = COMMANDS
        for word in words[1:]:
            below = getattr(command, "commands", {})
            if not below:
                break
            assert word in below, line
            command = below[word]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0].rstrip(".,") in options | {"--help"}, line
            elif words[1] != "concepts" and (key := re.match(r"([a-z][\w.]*)=", word)):
                assert key[1] in KNOWN or any(known.startswith(f"{key[1]}.") for known in KNOWN), line
