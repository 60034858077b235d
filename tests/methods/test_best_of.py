"""Best of N: what is kept is the best rated of what would be made, whatever is killed, grown or pruned."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_reef import with_tiny

from concord.concepts.selection import embed_images
from concord.data import ImageSet
from concord.errors import ConcordError
from concord.methods.base import GeneratedImage
from concord.methods.candidates import candidate
from concord.methods.diffusion import Generate
from concord.plan import Sample
from concord.recipe import Recipe, identity, load, validate
from concord.runs.store import read_manifest
from concord.storage import images
from concord.workflows.distill import distill
from concord.workflows.executors import open_recipe_data
from concord.workflows.requirements import check_sampling


def recipe(models: Path, of: int = 3, **changes: Any) -> Recipe:
    """The judge is the detector, which informs nothing; four of five classes fill a batch."""
    judge = {"scorer": {"kind": "detector", "model": str(models / "detector")}}
    select = {"kind": "best", "of": of, **changes.pop("select", {})}
    return with_tiny(models, **{**judge, **changes, "select": select})


def planned(of: Recipe, count: int = 4) -> tuple[Generate, ImageSet, list[Sample]]:
    data = open_recipe_data(of)
    method = Generate(of, data)
    return method, data, [method.sample(place % 5, place // 5) for place in range(count)]


def arrays(made: list[GeneratedImage]) -> np.ndarray:
    return np.stack([np.asarray(one.image).astype(int) for one in made])


def detected(method: Generate, made: list[GeneratedImage], samples: list[Sample], data: ImageSet) -> list[float]:
    """The detector's mean probability of each image's own concepts, written out."""
    classifier = method.models.classifier(str(method._recipe.scorer.model), "scorer.model")
    with torch.no_grad():
        logits = torch.cat([classifier.logits(pixels) for pixels in images.batches(one.image for one in made)])
    means = []
    for row, sample in zip(logits.sigmoid(), samples, strict=True):
        name = data.classes[sample.class_index].class_name
        phrases = [text.removeprefix(f"{name} with ") for text in sample.positives]
        means.append(float(np.mean([float(row[classifier.labels.index(phrase)]) for phrase in phrases])))
    return means


def test_the_best_rated_candidate_of_each_place_is_kept(models: Path) -> None:
    of = recipe(models)
    method, data, batch = planned(of)
    plain = Generate(with_tiny(models), data)
    rounds = [plain.make([candidate(sample, n) for sample in batch], "images") for n in range(3)]
    ratings = np.array([detected(method, made, batch, data) for made in rounds])
    kept = method.make(batch, "images")
    best = ratings.argmax(0)
    assert [one.scores["candidate"] for one in kept] == best.tolist()
    assert len(set(best.tolist())) > 1
    np.testing.assert_allclose([one.scores["rating"] for one in kept], ratings.max(0), atol=1e-4)
    for place, n in enumerate(best):
        assert np.array_equal(arrays(kept)[place], arrays(rounds[n])[place])


def test_the_first_candidate_is_the_plans_own_and_all_have_other_seeds(models: Path) -> None:
    _, _, batch = planned(recipe(models))
    seeds = {candidate(sample, n).seed for sample in batch for n in range(5)}
    assert candidate(batch[0], 0) == batch[0]
    assert len(seeds) == 20
    assert replace(candidate(batch[0], 3), seed=0) == replace(batch[0], seed=0)


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "dpm++", "heun"])
def test_at_half_the_best_go_on_and_end_as_if_never_left(models: Path, scheduler: str) -> None:
    """Informed in the later half alone, what is finished equals what is made at once."""
    pipeline = {"model": str(models / "pipeline"), "tiny_decoder": str(models / "taesd"), "steps": 6}
    changes = {"pipeline": {**pipeline, "scheduler": scheduler}, "informing": {"window": [0.5, 1.0], "strength": 0.5}}
    with_tiny(models)  # which saves the decoder
    method, data, batch = planned(recipe(models, of=4, select={"finish": 1}, **changes))
    plain = Generate(with_tiny(models, **changes), data)
    whole = [plain.make([candidate(sample, n) for sample in batch], "images") for n in range(4)]
    halves = [method.sampler.halfway([candidate(sample, n) for sample in batch], True) for n in range(4)]
    assert method._best is not None
    early = torch.stack([method._best.rate(batch, torch.stack([half.pixels for half in of])) for of in halves])
    kept, best = method.make(batch, "images"), early.argmax(0).tolist()
    assert [one.scores["candidate"] for one in kept] == best
    assert len(set(best)) > 1  # the batch that goes on is of several rounds
    for place, n in enumerate(best):
        assert np.abs(arrays(kept)[place] - arrays(whole[n])[place]).max() <= 1


def test_percentiles_of_another_encoder_and_the_objective_rate_as_they_say(models: Path) -> None:
    other = {"by": "percentile", "model": str(models / "clip-2")}
    if not (models / "clip-2").exists():
        (models / "clip-2").symlink_to(models / "clip")
    method, data, batch = planned(recipe(models, select=other))
    assert method._best is not None
    pixels = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rated, encoder = method._best.rate(batch, pixels), method.models.encoder
    for row, sample in zip(range(4), batch, strict=True):
        real = embed_images(encoder, data, sample.class_index, 100)
        texts = encoder.texts(list(sample.positives))
        own = encoder.images(pixels)[row] @ texts.T
        shares = [float((real @ text <= value + 1e-7).float().mean()) for text, value in zip(texts, own, strict=True)]
        assert float(rated[row]) == pytest.approx(np.mean(shares), abs=0.03)
    method, data, batch = planned(recipe(models, select={"by": "objective"}, informing={"temperature": 0.2}))
    assert method._best is not None
    for row, sample in enumerate(batch):
        seen = encoder.images(pixels)[row]
        p = (encoder.texts(sample.positives) @ seen / 0.2).exp()
        n = (encoder.texts(sample.negatives) @ seen / 0.2).exp().sum()
        expected = (p / (p + n)).log().mean()
        assert float(method._best.rate(batch, pixels)[row]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("finish", [None, 1])
def test_a_set_grows_and_two_workers_make_what_one_does(models: Path, tmp_path: Path, finish: int | None) -> None:
    select = {"finish": finish}
    once = distill(recipe(models, of=2, ipc=2, select=select), tmp_path / "once")
    distill(recipe(models, of=2, ipc=1, select=select), tmp_path / "grown", measured=False)
    distill(recipe(models, of=2, ipc=2, select=select), tmp_path / "grown", measured=False)
    rows = [read_manifest(tmp_path / name / "images") for name in ("once", "grown")]
    assert rows[0] == rows[1]
    assert once["selection"] == {
        "kind": "best",
        "of": 2,
        "finish": finish,
        "judge": f"detector {models / 'detector'}",
        "rating": pytest.approx(np.mean([row["scores"]["rating"] for row in rows[0]]), abs=1e-4),
        "first_kept": pytest.approx(np.mean([row["scores"]["candidate"] == 0 for row in rows[0]]), abs=1e-4),
    }
    assert once["guide"] == [str(models / "clip")]
    assert once["judge"] == f"detector {models / 'detector'}"
    assert once["tflop_per_image"] > 0
    assert "selection" not in json.loads((tmp_path / "once" / "environment.json").read_text())


def test_uninformed_candidates_are_rated_by_the_kept_concepts(models: Path) -> None:
    of = recipe(models, informing={"enabled": False, "decoder": "full"})
    method, _, batch = planned(of)
    assert method.variants == ("images",)
    assert batch[0].positives
    assert all("rating" in one.scores for one in method.make(batch, "images"))


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["select.of=3"], "select.kind is none"),
        (["select={kind: best, of: 4, finish: 4}"], "finish: 4 of 4"),
        (["select={kind: best, by: percentle}"], 'did you mean "percentile"'),
        (["select={kind: best, by: percentile}"], "reef:clip informs, and a pupil"),
        (["select={kind: best, by: percentile, model: 'reef:clip'}"], "reef:clip informs, and a pupil"),
        (["select={kind: best, by: detector}"], "the detector needs a model"),
        (["select={kind: best, model: x}"], "select.by is completeness"),
        (["select.kind=best", "scorer={kind: none}"], "scorer.kind is none"),
        (["select={kind: best, by: objective}", "informing.enabled=false"], "there is no objective"),
        (["select.kind=best", "uninformed=true"], "no counterpart"),
    ],
)
def test_what_cannot_act_or_judge_is_refused(typed: list[str], said: str) -> None:
    with pytest.raises(ConcordError, match=said):
        load("reef", typed)


def test_a_method_on_real_images_has_no_candidates() -> None:
    with pytest.raises(ConcordError, match=r"select\.kind: method random does not read it"):
        load("photos", ["data=reef", "select.kind=best"])


def test_recipes_of_before_have_the_identity_that_they_had() -> None:
    assert "select" not in identity(load("reef"))
    assert identity(load("reef", ["select.kind=best"]))["select"]["of"] == 4


def test_a_pipeline_that_is_called_as_it_is_cannot_be_left_at_half(models: Path) -> None:
    pipeline = {"model": str(models / "pipeline"), "image_strength": 0.6, "steps": 4, "scheduler": "ddim"}
    of = {"select": {"finish": 1}, "method": "text", "informing": {"decoder": "full"}, "pipeline": pipeline}
    with pytest.raises(ConcordError, match=r"select\.finish: a .* is called as it is"):
        check_sampling(recipe(models, **of))


def test_a_stored_recipe_loads_again(models: Path) -> None:
    of = recipe(models)
    assert validate(of.model_dump(by_alias=True)) == of
