"""The closed loop: which classes students mix up decides which concepts inform again, and whether that helped.

Nothing is decided on test images that are reported: it takes a validation set, or else the real images that the set
stands for.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from concord.concepts.bank import Bank, ClassConcepts, load_bank, write_bank
from concord.concepts.llm.client import Server
from concord.concepts.llm.prompts import PROMPTS
from concord.concepts.llm.retrieve import retrieve_bank
from concord.concepts.refine import Pair, Telling, kept, mixed_up, shares, tell_apart, with_phrases
from concord.concepts.selection import bank_key, embed_images
from concord.data import ImageSet
from concord.errors import ConcordError
from concord.evaluation.settings import ProtocolConfig, Settings
from concord.events import Progress, Silent
from concord.models.cache import ModelCache
from concord.recipe import Recipe
from concord.runs.directory import earlier, open_run
from concord.storage.atomic import write_json
from concord.text import counted, meant
from concord.workflows.distill import distill
from concord.workflows.evaluate import evaluate_and_report
from concord.workflows.executors import open_recipe_data


@dataclass(frozen=True)
class Refined:
    """What a refinement came to. record: what `path` holds, beside the bank."""

    record: dict[str, Any]
    path: Path


def refine(
    directory: Path,
    out: Path,
    test: str | None,
    chosen: tuple[Settings, Sequence[ProtocolConfig]],
    *,
    pairs: int = 3,
    server: Server | None = None,
    about: str = "",
    again: Path | None = None,
    progress: Progress | None = None,
) -> Refined:
    """Write a bank to `out` whose phrases tell apart the classes that students of a run's set mix up.

    Args:
        directory: of an informed run whose concepts come from a bank.
        test: validation images: a folder, Parquet, or a data set's name; None takes the run's real images.
        chosen: student, protocol, ... of the trainings, as of `concord evaluate`.
        pairs: of classes, at most.
        server: of a language model that is asked for what tells each pair apart; None chooses among the phrases that
            there are.
        about: what kind of images these are, for the language model.
        again: where the set is made again with the new bank, at the same seeds, and evaluated; None does not.

    Raises ConcordError: the run was not informed from a bank; the test images are those that are reported on; no two
    classes are mixed up.
    """
    progress, run, recipe = progress or Silent(), open_run(directory), earlier(directory)
    if recipe is None or not recipe.uses_concepts or recipe.concepts.bank is None:
        raise ConcordError(f"{directory} was not informed by a bank's concepts, so that there are none to refine")
    if test is not None and run.evaluation.get("test") == test:
        raise ConcordError(
            f"{test} is what {directory} was evaluated on: a set that is refined on its test images says nothing any"
            " more; give a validation set, or leave --test out"
        )
    validation = test or recipe.data
    before = _confusion(directory, validation, chosen, out.with_name(f"{out.stem}-before.json"), progress)
    data = open_recipe_data(recipe)
    found = mixed_up(before, pairs)
    if not found:
        raise ConcordError(f"no student mixes up any two classes of {validation}; there is nothing to refine")
    bank = load_bank(recipe.concepts.bank)
    told = _asked(found, data, server, about) if server is not None else {}
    refined, tellings = _chosen(found, recipe, data, bank, told, out.stem)
    write_bank(refined, out)
    names = [entry.class_name for entry in data.classes]
    record: dict[str, Any] = {
        "schema": 1,
        "run": str(directory),
        "validation": validation,
        "bank": str(out),
        "model": server.model if server else None,
        "pairs": [{"classes": [names[one.first], names[one.second]], "before": round(one.share, 5)} for one in found],
        "phrases": {names[label]: [vars(one) for one in rated] for label, rated in tellings.items()},
    }
    if again is not None:
        concepts = recipe.concepts.model_copy(update={"bank": str(out.resolve())})
        progress.stage("making the set again")
        distill(recipe.model_copy(update={"concepts": concepts}), again)
        after = _confusion(again, validation, chosen, out.with_name(f"{out.stem}-after.json"), progress)
        mixed = shares(after)
        for row, one in zip(record["pairs"], found, strict=True):
            row["after"] = round(float(mixed[one.first, one.second]), 5)
        record["top1"] = {"before": _top1(before), "after": _top1(after)}
    path = out.with_name(f"{out.stem}-refined.json")
    write_json(path, record)
    return Refined(record, path)


def _top1(confusion: np.ndarray) -> float:
    return round(100 * float(np.trace(confusion) / max(1, confusion.sum())), 3)


def _confusion(
    directory: Path, test: str, chosen: tuple[Settings, Sequence[ProtocolConfig]], out: Path, progress: Progress
) -> np.ndarray:
    """Test images by true and given class, (K, K), summed over the trainings of an evaluation."""
    record = evaluate_and_report(directory, test, chosen, out, progress)
    found = [np.array(cell["confusion"]) for cell in record["cells"] if cell.get("confusion")]
    if not found:
        raise ConcordError(f"{out} has no confusion of {counted(len(record['classes']), 'class')}: they are too many")
    return sum(found[1:], start=found[0])


def _asked(found: Sequence[Pair], data: ImageSet, server: Server, about: str) -> Mapping[int, list[str]]:
    """What a language model says of each class of a pair, when the other is the only other class that there is."""
    told: dict[int, list[str]] = {}
    reasons: list[str] = []
    for one in found:
        labels = {data.classes[label].class_name: label for label in (one.first, one.second)}

        def done(name: str, concepts: ClassConcepts, labels: Mapping[str, int] = labels) -> None:
            told.setdefault(labels[name], []).extend(concepts.phrases)

        def failed(name: str, reason: str) -> None:
            reasons.append(f'"{name}" ({reason})')

        asked = retrieve_bank(
            list(labels), PROMPTS["distinctive"], server, done, failed, everyone=list(labels), about=about
        )
        asyncio.run(asked)
    if reasons:
        raise ConcordError(f"the language model has no phrases for {', '.join(reasons)}; give the command again")
    return told


def _chosen(
    found: Sequence[Pair], recipe: Recipe, data: ImageSet, bank: Bank, told: Mapping[int, list[str]], name: str
) -> tuple[Bank, dict[int, list[Telling]]]:
    """The bank with the phrases of each mixed-up class that tell it from those that it is mixed up with."""
    models, settings, skip = ModelCache(recipe), recipe.concepts, recipe.unreadable == "skip"
    others: dict[int, list[int]] = {}
    for one in found:
        others.setdefault(one.first, []).append(one.second)
        others.setdefault(one.second, []).append(one.first)
    real = {label: embed_images(models.encoder, data, label, settings.images, skip) for label in others}
    classes, tellings = dict[str, ClassConcepts](), dict[int, list[Telling]]()
    for label, rivals in others.items():
        entry = data.classes[label]
        key = meant(bank_key(entry), bank.classes)[0]
        phrases = [*told.get(label, ()), *bank.classes[key].phrases]
        rated = tell_apart(entry.class_name, phrases, real[label], [real[n] for n in rivals], models.encoder.texts)
        tellings[label] = kept(rated, settings.keep)
        look_alikes = tuple(data.classes[n].class_name for n in rivals)
        classes[key] = ClassConcepts(phrases=tuple(one.phrase for one in tellings[label]), look_alikes=look_alikes)
    return with_phrases(bank, name, classes), tellings
