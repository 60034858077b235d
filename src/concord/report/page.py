"""`report.html`: what a run made and what informing changed, as one file that opens anywhere and asks for nothing.

The images of a large set are no part of it: it shows the run's own files, which lie beside it, as they come into view.

Every text in it came from outside: the templates escape by themselves, data for the scripts is JSON without a character
that HTML reads, the scripts put text into the page as text only, and a content security policy lets no other run.
"""

import shlex
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from concord.evaluation.regimes import awaited, blocks, command
from concord.metrics.measures import figures, pick
from concord.report.accuracy import FILE as EVALUATION
from concord.report.accuracy import detailed_cells, facts, metric_columns, protocol
from concord.report.distribution import HEIGHT, WIDTH, pictures
from concord.report.figures import figure, lead, reach, shown
from concord.report.safe import source
from concord.report.samples import MISSING_BELOW, PRESENT_FROM, Judge, contents
from concord.report.similarity import likeness
from concord.report.thumbnails import BUDGET
from concord.runs.directory import EMBEDDINGS, Json, Run, open_run
from concord.storage.atomic import write_atomically

NEAREST = 12
"""Near copies that the page names."""
_TEMPLATES = resources.files("concord.report") / "templates"
_STYLES = ("page", "evaluation")
_SCRIPTS = ("tiles", "details", "finding", "order", "start")


def write_report(out: Path, standalone: bool = False) -> Path:
    """Write `report.html` into a run's directory, and return where it lies; a ConcordError if a file is damaged.

    standalone: hold images of any set, smaller and fewer, so that the page can leave the directory.
    """
    run = open_run(out)
    text, path = render(run, standalone=standalone), run.report
    write_atomically(path, text.encode("utf-8", "replace"))  # half a surrogate pair is no text that a file can hold
    return path


def render(run: Run, budget: int = BUDGET, standalone: bool = False) -> str:
    """The page of a run; the images in it take at most `budget` bytes (`contents`)."""
    judge = Judge(float(run.details.get("missing_below", MISSING_BELOW)))
    inside = contents(run, judge, budget, standalone)
    compared = [row for row in figures(run.results, "report") if row.uninformed or row.informed]
    script = f'(() => {{\n"use strict";\n{"".join(_text(f"{name}.js") for name in _SCRIPTS)}}})();\n'
    # Whether the encoder that judges the images is the one that informed them.
    own = run.made_as == "informed" and run.details.get("encoder") == run.recipe.get("encoder")
    regimes = blocks(run.evaluation, awaited(run))
    lacks = not regimes or any(block.lacks for block in regimes)
    page = _environment().get_template("page.html")
    return page.render(
        {name: getattr(run, name) for name in ("recipe", "results", "evaluation")},
        run=run,
        inside=inside,
        compared=compared,
        reach=reach(compared),
        lead=lead(compared, run.results),
        helped=_helped(run, judge),
        flattered=[row for row in compared if own and row.measure.key.startswith("details.")],
        judged=any(pair.after.details for pair in run.pairs),
        detected=any("found" in d for pair in run.pairs for d in pair.after.details),
        missing_below=judge.missing_below,
        likeness=likeness(run.concepts),
        distributions=pictures(run.out / EMBEDDINGS),
        near=_near(run.near_copies),
        again=f"concord distill {shlex.quote(f'{run.out}/recipe.yaml')} --out {shlex.quote(f'{run.out}-again')}",
        value=lambda key, values=run.results, file="results.json": pick(values, file, key),
        of_evaluation=lambda key: pick(run.evaluation, EVALUATION, key),
        regimes=regimes,
        fill=command(run.out, str(run.evaluation.get("test", "DATA")), regimes, run) if lacks else "",
        cells=detailed_cells(run.evaluation),
        metrics=metric_columns(run.evaluation),
        style=Markup("".join(_text(f"{name}.css") for name in _STYLES)),
        script=Markup(script),
        script_source=source(script),
    )


@cache
def _environment() -> Environment:
    """Templates with what they call; kept, as compiling them takes longer than a page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.loader = PackageLoader("concord.report")
    environment.globals |= {"figure": figure, "shown": shown, "facts": facts, "protocol": protocol}
    environment.globals |= {"present_from": PRESENT_FROM, "plane": (WIDTH, HEIGHT)}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    environment.filters["as_yaml"] = lambda values: yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return environment


def _helped(run: Run, judge: Judge) -> dict[str, int] | None:
    pairs = [helped for pair in run.pairs if (helped := judge.helped(pair)) is not None]
    of_classes = [helped for some in run.by_label.values() if (helped := judge.class_helped(some)) is not None]
    if not pairs:
        return None
    return {"pairs": sum(pairs), "of": len(pairs), "classes": sum(of_classes), "of_classes": len(of_classes)}


def _near(near_copies: Mapping[str, Any]) -> Json | None:
    """The images most like a real one, flagged ones first; None where nothing looked for them."""
    images = near_copies.get("images")
    if not isinstance(images, dict):
        return None
    order = sorted(images.items(), key=lambda one: (not one[1].get("flagged"), -one[1].get("similarity", 0.0), one[0]))
    flagged = sum(bool(found.get("flagged")) for found in images.values())
    same = {key: near_copies.get(key) for key in ("threshold", "encoder")}
    return {"nearest": order[:NEAREST], "flagged": flagged, "of": len(images), **same}


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
