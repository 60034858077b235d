"""Which concepts a run informs by: selected on real images in the parent, and drawn for every sample."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from concord.concepts.bank import Bank, concept_text, load_bank
from concord.concepts.journal import Journal
from concord.concepts.negatives import Quick, Race, class_weights, draw_negatives
from concord.concepts.selection import (
    Concept,
    candidates,
    name_similarity,
    select_class,
    selection_record,
)
from concord.concepts.shares import Shares
from concord.data import ImageSet
from concord.errors import ConcordError
from concord.models.cache import ModelCache
from concord.plan import sample_seed
from concord.recipe import Recipe


class Drawn(NamedTuple):
    """The concepts of one sample.

    positives, negatives: as texts, class name with phrase. own, others: what fills the slots of prompts with phrases of
    the class, and those of negative prompts with phrases of look-alikes; empty where there are none.
    """

    positives: tuple[str, ...] = ()
    negatives: tuple[str, ...] = ()
    own: Mapping[str, str] = {}
    others: Mapping[str, str] = {}


class ConceptPlan:
    """The concepts of a recipe on its data set. Nothing is embedded before it is asked for."""

    def __init__(self, recipe: Recipe, data: ImageSet, models: ModelCache) -> None:
        self._recipe, self._data, self._models = recipe, data, models
        self._names = [entry.class_name for entry in data.classes]
        self._races: dict[int, Race] = {}
        self._shares: dict[int, Shares] = {}
        self._selected: dict[int, list[Concept]] = {}
        self._journal: Journal | None = None

    @cached_property
    def used(self) -> bool:
        """Whether concepts inform, beside or instead of class names and classifiers, or stand in prompts."""
        return self._recipe.uses_concepts  # kept, as each sample asks, and the answer goes through the registry

    @cached_property
    def _in_prompts(self) -> bool:
        """Whether a prompt or a negative one has slots for concepts."""
        return self._recipe.pipeline.asks_concepts or self._recipe.pipeline.asks_negatives

    @cached_property
    def _bank(self) -> Bank | None:
        return None if (name := self._recipe.concepts.bank) is None else load_bank(name)

    @cached_property
    def _candidates(self) -> list[tuple[Sequence[str], Sequence[str]]]:
        """Of every class, the phrases that are selected from, and those that are kept in any case; [] without any."""
        settings, bank = self._recipe.concepts, self._bank
        if bank is None:
            pinned = {self._data.classes.find(name).label for name, phrases in settings.pinned.items() if phrases}
            if self.used and len(pinned) < len(self._names):
                asked = self._recipe.pipeline.asks_concepts or self._recipe.pipeline.asks_negatives
                if asked:
                    raise ConcordError(
                        "prompts that hold concepts need concepts.bank (a bundled name or a JSON file), or"
                        " concepts.pinned for every class; or take {concept} and {concepts} out of them"
                    )
                raise ConcordError(
                    "informing by concepts needs concepts.bank (a bundled name or a JSON file), or concepts.pinned for"
                    " every class; or inform by the class name alone (informing.objective.contrastive=0"
                    " informing.objective.class_name=1)"
                )
            if not pinned:
                return []
        return candidates(self._data, bank, settings.pinned)

    @cached_property
    def selection(self) -> list[list[Concept]]:
        """Every class's phrases with their activations on its real images, the kept ones marked; [] without a bank."""
        if not self._candidates:
            return [[] for _ in self._names]
        for label in self.unselected:
            self.take(label, self.select(label))
        return [self._selected[label] for label in range(len(self._names))]

    def select(self, label: int) -> list[Concept]:
        """Rate the phrases of one class on its real images, and keep the best (Eq. 10)."""
        settings, (phrases, pins) = self._recipe.concepts, self._candidates[label]
        how: dict[str, Any] = {"keep": settings.keep, "most": settings.images, "pinned": pins}
        skip = self._recipe.unreadable == "skip"
        return select_class(self._data, label, phrases, self._models.encoder, **how, skip_unreadable=skip)

    @property
    def unselected(self) -> list[int]:
        """The classes that are still to be selected, where a selection is needed at all."""
        if "selection" in self.__dict__ or not self._candidates:
            return []
        return [label for label in range(len(self._names)) if label not in self._selected]

    def take(self, label: int, concepts: Sequence[Concept]) -> None:
        """Take what was selected of a class, and keep it where `keep_in` says."""
        self._selected[label] = list(concepts)
        if self._journal is not None:
            self._journal.add(self._data.classes[label].folder, concepts)

    def keep_in(self, journal: Journal | None) -> None:
        """Keep each class's selection as it is made, and take what an earlier call kept; None: keep no more."""
        self._journal = journal
        if journal is not None and self.used and "selection" not in self.__dict__:
            for label, (phrases, pins) in enumerate(self._candidates):
                if (found := journal.find(self._data.classes[label].folder, {*phrases, *pins})) is not None:
                    self._selected[label] = found

    def resume(self, concepts: Mapping[str, Any]) -> None:
        """Take the selection of an earlier call's concepts.json: on a large set it takes hours to work out."""
        known = concepts.get("classes", {})
        if self.used and all(entry.folder in known for entry in self._data.classes):
            self.selection = [
                [Concept(**concept) for concept in known[entry.folder]["concepts"]] for entry in self._data.classes
            ]

    @cached_property
    def kept(self) -> list[list[str]]:
        """The kept phrases of every class."""
        return [[concept.phrase for concept in concepts if concept.kept] for concepts in self.selection]

    @cached_property
    def _texts(self) -> list[dict[str, str]]:
        """Of every class, its kept phrases and the texts that they are embedded as."""
        named = zip(self._names, self.kept, strict=True)
        return [{phrase: concept_text(name, phrase) for phrase in phrases} for name, phrases in named]

    def _own(self, label: int, index: int) -> Sequence[str]:
        """Those of a class's kept phrases that its image `index` gets."""
        if (each := self._recipe.concepts.positives) is None:
            return self.kept[label]
        if label not in self._shares:
            seed = sample_seed(self._recipe.seed, self._data.classes[label].key, "positives")
            self._shares[label] = Shares(self.kept[label], each, seed)
        return self._shares[label].of(index)

    @cached_property
    def similarity(self) -> np.ndarray:
        """Cosine between the embeddings of the bare class names, (C, C)."""
        return name_similarity(self._models.encoder, self._names)

    def _race_of(self, class_index: int) -> Race:
        """In which order classes give negatives to one; kept, as each of its samples asks."""
        if class_index not in self._races:
            settings, cosine = self._recipe.concepts.negatives, self.similarity[class_index]
            self._races[class_index] = Race(class_weights(cosine.tolist(), class_index, settings.kind, settings.k))
        return self._races[class_index]

    def draw(self, class_index: int, seed: int, index: int) -> Drawn:
        """The concepts of one sample: of its class's kept ones all or its share, and negatives drawn by its seed."""
        if not self.used:
            return Drawn()
        settings = self._recipe.concepts.negatives
        rng, own, race = Quick(seed), self._own(class_index, index), self._race_of(class_index)
        drawn = draw_negatives(self.kept, class_index, race, settings.count, rng, settings.kind)
        positives = tuple(map(self._texts[class_index].__getitem__, own))
        negatives = tuple([self._texts[c][phrase] for c, phrase in drawn])
        if not self._in_prompts:
            return Drawn(positives, negatives)
        others = [phrase for _, phrase in drawn]
        return Drawn(
            positives,
            negatives,
            # After the negatives, which are those that they were before prompts held concepts.
            {"{concept}": own[rng.integers(len(own))], "{concepts}": ", ".join(own)} if own else {},
            {"{concept}": others[rng.integers(len(others))], "{concepts}": ", ".join(others)} if others else {},
        )

    def record(self) -> dict[str, Any] | None:
        """What concepts.json holds; None where no concepts inform."""
        if not self.used:
            return None
        bank = self._bank.name if self._bank else None
        return selection_record(bank, self._recipe.encoder, self._data.classes, self.selection, self.similarity)
