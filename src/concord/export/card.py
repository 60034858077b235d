"""The data card: README.md of an export, which says what the set is to someone who has nothing but the set.

Texts that came from outside (class names, paths, the recipe) are escaped: in the front matter by the YAML writer, in
the text for Markdown and HTML, in code by a fence longer than any in it.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from concord.export.made import MadeSet
from concord.export.write import Reading, redacted, redacted_recipe
from concord.metrics.measures import figures, lines, shown_metrics, written
from concord.models.hub import licence
from concord.recipe import models
from concord.registry import DATASETS, OURS
from concord.system import version
from concord.text import counted

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SHOWN = 100
"""Classes whose concepts are listed; of a thousand they would hide the rest of the card."""
_MARKUP = re.compile(r"[\\`*_{}\[\]#|~$]")


@dataclass(frozen=True)
class Shared:
    """A place on the hub that an export is for. licences: of models, as their publishers state them there."""

    name: str
    licences: Mapping[str, str] = field(default_factory=dict)


def card(made: MadeSet, layout: str, reading: Reading, shared: Shared | None = None) -> str:
    """Return the text of README.md for an export in this layout; where it will lie, only `shared` knows."""
    parts = [
        f"---\n{_front_matter(made, layout, reading)}---",
        f"# {escaped(_title(made))}",
        *_origin(made),
        "## Read it",
        *(_reading(reading) if shared is None else _on_the_hub(shared)),
        "## Models and licences",
        *_licences(made, {} if shared is None else shared.licences),
        *_figures(made),
        *_evaluation(made),
        *_concepts(made),
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
    }
    config: dict[str, Any] = {"config_name": "default", "data_files": [{"split": "train", "path": reading.files}]}
    if reading.columns and reading.rows:
        values["dataset_info"] = {"features": list(reading.columns)}
    elif reading.columns:  # beside images, `datasets` takes the types of their manifest from here alone
        config["features"] = list(reading.columns)
    values["configs"] = [config]
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
    elif not recipe.informing.enabled or not recipe.is_generated:
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


def _reading(reading: Reading) -> list[str]:
    return [fenced(reading.code, "python"), *(note.replace("<", "&lt;") for note in reading.notes)]


def _on_the_hub(shared: Shared) -> list[str]:
    load = f'from datasets import load_dataset\n\ntrain = load_dataset("{shared.name}", split="train")'
    fetch = f"pip install 'concord-distill[hub]'\nconcord fetch {shared.name} --out DIR\nconcord report DIR"
    told = "As a run's directory, every file compared with its digest, for `concord report`, `compare` and `evaluate`:"
    return [fenced(load, "python"), told, fenced(fetch, "bash")]


def models_of(made: MadeSet) -> list[tuple[str, str]]:
    """Every model that the set and its evaluation took, with what for: a key of the recipe, or the evaluation."""
    cells = made.evaluation.get("cells", ())
    teachers = dict.fromkeys(str(cell["teacher"]) for cell in cells if cell.get("teacher"))
    used = [(model, key) for key, model in models(made.recipe).items()]
    return [*used, *((teacher, "teacher of the evaluation") for teacher in teachers)]


def _licences(made: MadeSet, known_elsewhere: Mapping[str, str]) -> list[str]:
    rows = [(redacted(model), key, known_elsewhere.get(model, licence(model))) for model, key in models_of(made)]
    package, known = _data_licence(made)
    data = (
        f"The data came with {escaped(package)}, under {escaped(known)}."
        if known
        else "concord does not know the licence of the data the set was made from; whoever shares it has to: state it"
        " here and in `license` above. What a model's licence says of its output holds too."
    )
    return [_table(("model", "what for", "licence"), rows) if rows else "No model was used.", data]


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


def _evaluation(made: MadeSet) -> list[str]:
    """What evaluation.json says, a row a student, protocol and IPC; top-1 as the protocol's tables report it."""
    rows = []
    for cell in made.evaluation.get("cells", ()):
        top1 = (cell.get("top1") or {}).get(cell.get("reports", "last")) or {}
        if top1.get("mean") is not None:
            of = f"{top1['mean']:.1f} ± {top1.get('std') or 0:.1f} over {counted(len(cell['seeds']), 'seed')}"
            rows.append((cell["student"], cell["protocol"], str(cell.get("ipc") or "all"), of, cell.get("teacher", "")))
    if not rows:
        return []
    test = redacted(str(made.evaluation.get("test", "")))
    head = ("student", "protocol", "IPC", "top-1 in %", "teacher")
    told = f"Students trained on the set from nothing, and tested on real images of {escaped(test)}."
    return ["## Evaluation", told, _table(head, [[redacted(cell) for cell in row] for row in rows])]


def _concepts(made: MadeSet) -> list[str]:
    """The phrases that informed the set, by class."""
    found = made.concepts.get("classes") or {}
    kept = [
        (of.get("class_name") or folder, "; ".join(one["phrase"] for one in of.get("concepts", ()) if one["kept"]))
        for folder, of in found.items()
    ]
    if not any(phrases for _, phrases in kept):
        return []
    more = f"And {counted(len(kept) - _SHOWN, 'class')} more." if len(kept) > _SHOWN else ""
    table = _table(("class", "phrases that informed it"), kept[:_SHOWN])
    return ["## Concepts", table, *([more] if more else [])]


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
    if made.recipe.spec.kind == "optimised":
        limits.insert(1, "The images are pixels that descended a loss: they need not look like anything to a person.")
        limits.append("Test with networks that it was not optimised with, too.")
    if made.recipe.is_generated:
        limits.insert(1, "The images are generated, and carry the biases and faults of the models they came from.")
        if made.recipe.pipeline.from_images:
            limits.append(
                "Each image began from another one under noise, and may repeat it: consent and copyright of the real"
                " images hold here, too."
            )
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
