"""The data card: README.md of an export, which says what the set is to someone who has nothing but the set.

Texts that came from outside (class names, paths, the recipe) are escaped: in the front matter by the YAML writer, in
the text for Markdown and HTML, in code by a fence longer than any in it.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import yaml

from concord.export.made import MadeSet
from concord.export.write import Reading, redacted, redacted_recipe
from concord.metrics.measures import figures, lines, shown_metrics, written
from concord.models.hub import licence
from concord.recipe import models
from concord.registry import DATASETS, OURS
from concord.system import version

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_MARKUP = re.compile(r"[\\`*_{}\[\]#|~$]")


def card(made: MadeSet, layout: str, reading: Reading) -> str:
    """Return the text of README.md for an export in this layout; where it will lie, it does not know."""
    parts = [
        f"---\n{_front_matter(made, layout, reading)}---",
        f"# {escaped(_title(made))}",
        *_origin(made),
        "## Read it",
        fenced(reading.code, "python"),
        *(note.replace("<", "&lt;") for note in reading.notes),
        "## Models and licences",
        *_licences(made),
        *_figures(made),
        "## Known limits",
        "\n".join(f"- {limit}" for limit in _limits(made)),
        "## Classes",
        _classes(made),
        "## Recipe",
        "Every setting; paths are cut to their last part.",
        fenced(yaml.safe_dump(redacted_recipe(made.recipe), sort_keys=False, allow_unicode=True, width=120), "yaml"),
    ]
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """A text from outside as one line of Markdown that shows it as it is: no markup, no HTML, no table cell's end."""
    plain = " ".join("".join(c if _harmless(c) else " " for c in text).split())
    plain = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(lambda found: "\\" + found[0], plain)


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than every run of backticks in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _harmless(c: str) -> bool:
    """No control character, and none that turns the direction of the text after it."""
    turns = unicodedata.bidirectional(c) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return not turns and unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")


def _title(made: MadeSet) -> str:
    informed = "" if made.variant == "images" else ", the uninformed counterpart"
    return f"{made.recipe.name}: a distilled set of {len(made.classes)} classes{informed}"


def _front_matter(made: MadeSet, layout: str, reading: Reading) -> str:
    ours = {_data_licence(made)[1], *(licence(m) for m in models(made.recipe).values())} == {"Apache-2.0"}
    count = len(made.pictures)
    values: dict[str, Any] = {
        "license": "apache-2.0" if ours else "other",
        **({} if ours else {"license_name": "see-models-and-licences", "license_link": "README.md"}),
        "pretty_name": _title(made),
        "task_categories": ["image-classification"],
        "size_categories": [next((size for most, size in _SIZES if count < most), "n>1M")],
        "tags": ["dataset-distillation", "concord", made.recipe.method, layout],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": reading.files}]}],
    }
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def _origin(made: MadeSet) -> list[str]:
    recipe, results, environment, counts = made.recipe, made.results, made.environment, made.counts
    each = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    real = environment.get("data") or {}
    of = f", {real['images']} images of {real['classes']} classes" if {"images", "classes"} <= {*real} else ""
    phrases = "concepts, short visual phrases that tell a class from its look-alikes"
    informed = f" The sampling was informed by {phrases} (mode {recipe.informing.mode})."
    if made.variant == "uninformed":
        informed = " This is the counterpart without informing, from the same seeds."
    elif not recipe.informing.enabled or recipe.is_real:
        informed = ""
    packages = ", ".join(f"{name} {number}" for name, number in (environment.get("packages") or {}).items())
    rows = [
        ("images", f"{len(made.pictures)}: {len(made.classes)} classes, {each} of each"),
        *([("IPC", f"{results['ipc']}")] if results.get("ipc") else []),
        ("made from", f"{redacted(recipe.data)}{of}"),
        ("method", f"{recipe.method}: {recipe.spec.about}"),
        ("seed", f"{recipe.seed}; each image's own is in its row"),
        ("made by", f"concord {environment.get('concord', version())}" + (f" with {packages}" if packages else "")),
    ]
    text = "A small training set that stands for a large one (dataset distillation): meant for training a classifier"
    return [f"{text} from nothing.{informed}", _table(("", ""), rows)]


def _licences(made: MadeSet) -> list[str]:
    rows = [(redacted(model), key, licence(model)) for key, model in models(made.recipe).items()]
    package, known = _data_licence(made)
    data = (
        f"The data came with {escaped(package)}, under {escaped(known)}."
        if known
        else "concord does not know the licence of the data the set was made from; whoever shares it has to: state it"
        " here and in `license` above. What a model's licence says of its output holds too."
    )
    return [_table(("model", "key in the recipe", "licence"), rows) if rows else "No model was used.", data]


def _data_licence(made: MadeSet) -> tuple[str, str]:
    """The package that the data came with, and their licence; empty where it is not known."""
    name = made.recipe.data
    if name not in DATASETS:
        return "", ""
    package = DATASETS.package(name)
    return "concord" if package.startswith(f"{OURS} ") else package, DATASETS.get(name).licence


def _figures(made: MadeSet) -> list[str]:
    """What results.json says, a row a measure and a column a set."""
    rows = []
    for row in figures(made.results, "card"):
        sets = (written(value.number, "number") if value else "" for value in (row.informed, row.uninformed, row.real))
        rows.append((row.measure.label, *sets, row.interval("change")))
    head = ("measure", "informed", "uninformed", "real", "gain [95 % interval]")
    found = [*([_table(head, rows)] if rows else []), *lines(made.results, "card")]
    return ["## Figures", *found] if found else []


def _limits(made: MadeSet) -> list[str]:
    real = made.recipe.is_real
    limits = [
        "A label is what the image was made for; nobody has checked that each image shows it."
        if not real
        else "The images are real ones of the data set, or parts of them: what holds for it, consent and copyright"
        " included, holds here.",
        "A small set trains a classifier worse than the whole data set does; state the protocol with any accuracy.",
        "It covers less than the data set: what is rare there is rarer or missing here.",
    ]
    if not real:
        limits.insert(1, "The images are generated, and carry the biases and faults of the models they came from.")
        limits.append("Test on real images that none of the models above was trained on.")
        limits += [m.limit for m in shown_metrics(made.results) if m.limit and not made.results.get(m.name)]
    return limits


def _classes(made: MadeSet) -> str:
    counted = zip(made.classes, made.counts, strict=True)
    rows = [(str(entry.label), entry.folder, entry.class_name, str(count)) for entry, count in counted]
    return _table(("label", "folder in the run", "class", "images"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *[[escaped(cell) for cell in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
