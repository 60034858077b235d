"""Best of N: several candidates of each place of a batch, rated by a judge, the best kept (`select: {kind: best}`).

The batch stays the unit: its candidates are made together, as batches of its size, so that what is kept is a function
of the batch alone. Candidate 0 has the plan's seed; the others differ from it in their seed only.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from concord.concepts.bank import concept_text
from concord.data import ImageSet
from concord.errors import ConcordError
from concord.guidance.objectives import total
from concord.methods.base import GeneratedImage
from concord.methods.batch_sampler import BatchSampler
from concord.metrics.scorers import Concept, RealEmbeddings, Scorer
from concord.models.cache import ModelCache
from concord.plan import Sample, sample_seed
from concord.recipe import Recipe
from concord.registry import SCORERS
from concord.storage import images


def candidate(sample: Sample, number: int) -> Sample:
    """Candidate `number` of a place, from 0: the sample itself, and then the same from other noise."""
    return sample if number == 0 else replace(sample, seed=sample_seed(sample.seed, "candidate", number))


class BestOf:
    """Makes batches of which each image is the best of its place's candidates."""

    def __init__(self, recipe: Recipe, data: ImageSet, models: ModelCache, sampler: BatchSampler) -> None:
        self._recipe, self._data, self._models, self._sampler = recipe, data, models, sampler
        self._select = recipe.select
        self._real = RealEmbeddings(data, recipe.unreadable == "skip")

    @property
    def share(self) -> float:
        """What the steps of an image cost, in those of one candidate."""
        of, finish = self._select.of, self._select.finish
        return of if finish is None else (of + finish) / 2

    @cached_property
    def _scorer(self) -> Scorer | None:
        """What rates by concepts; None where the objective does."""
        if (judge := self._recipe.judge) is None:
            return None
        recipe = self._recipe.model_copy(update={"scorer": judge})
        with SCORERS.blamed(judge.kind):
            return SCORERS.build(judge.kind, SCORERS.get(judge.kind).build)(recipe, self._models, self._real)

    def make(self, batch: Sequence[Sample], guided: bool) -> list[GeneratedImage]:
        """Make a batch, in its order; scores tell the `candidate` that was kept of each place, and how it was rated."""
        rounds = [[candidate(sample, n) for sample in batch] for n in range(self._select.of)]
        if self._select.finish is None:
            made = [self._sampler.make(samples, guided) for samples in rounds]
            numbers = [[n] * len(batch) for n in range(len(rounds))]
        else:
            made, numbers = self._pruned(rounds, self._select.finish, guided)
        ratings = torch.stack([self._rated(batch, of_round) for of_round in made])  # (rounds, B)
        kept = []
        for place, best in enumerate(_best(ratings, numbers)):
            one = made[best][place]
            scores = {"candidate": numbers[best][place], "rating": round(float(ratings[best, place]), 4)}
            kept.append(replace(one, scores={**one.scores, **scores}))
        return kept

    def _pruned(
        self, rounds: Sequence[Sequence[Sample]], finish: int, guided: bool
    ) -> tuple[list[list[GeneratedImage]], list[list[int]]]:
        """Finish the best of the candidates at half of their steps: rounds of one a place, and their numbers."""
        halves = [self._sampler.halfway(samples, guided) for samples in rounds]
        batch = rounds[0]
        ratings = torch.stack([self.rate(batch, torch.stack([half.pixels for half in of])) for of in halves])
        order = ratings.argsort(dim=0, descending=True, stable=True)[:finish].tolist()
        made = []
        for numbers in order:
            chosen = [(rounds[n][place], halves[n][place]) for place, n in enumerate(numbers)]
            samples, states = zip(*chosen, strict=True)
            made.append(self._sampler.finish(samples, states, guided))
        return made, order

    def _rated(self, batch: Sequence[Sample], made: Sequence[GeneratedImage]) -> Tensor:
        """Ratings (B,) of the pictures as they are stored."""
        pixels = images.batches((one.image for one in made), len(made))
        return self.rate(batch, next(iter(pixels)))

    def rate(self, batch: Sequence[Sample], pixels: Tensor) -> Tensor:
        """How well images (B, 3, H, W) in [-1, 1] show what their samples are to show, (B,), more is better.

        By a scorer: the mean of an image's ratings for its positives. By the objective: the loss's negative.
        """
        scorer = self._scorer
        if scorer is None:
            encoder = self._models.encoder if self._sampler.embeds else None
            with torch.no_grad():
                return -total(self._sampler.objectives(batch), pixels.to(self._models.device), encoder).cpu()
        own = [self._concepts(sample) for sample in batch]
        concepts = list(dict.fromkeys(concept for of_image in own for concept in of_image))
        column = {concept: n for n, concept in enumerate(concepts)}
        with torch.no_grad():
            found = scorer.rate(pixels.to(self._models.device), concepts).float().cpu()
        rows = [row[[column[concept] for concept in of_image]].mean() for row, of_image in zip(found, own, strict=True)]
        return torch.stack(rows)

    def _concepts(self, sample: Sample) -> list[Concept]:
        name = self._data.classes[sample.class_index].class_name
        if not sample.positives:
            raise ConcordError(f'select.by: no concept is kept for the class "{name}" to rate by; see concepts.bank')
        return [(name, text.removeprefix(concept_text(name, ""))) for text in sample.positives]


def _best(ratings: Tensor, numbers: Sequence[Sequence[int]]) -> list[int]:
    """The round, of ratings (rounds, B), that is kept at each place: the best rated, of equals the first candidate."""
    best = []
    for place in range(ratings.shape[1]):
        order = [(-float(ratings[n, place]), numbers[n][place], n) for n in range(len(ratings))]
        best.append(min(order)[2])
    return best
