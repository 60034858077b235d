"""A rehearsal goes the way of a run with random weights, and carries over what it measured by plain arithmetic."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import tiny_pipelines
from concord.concepts.bank import load_bank
from concord.errors import ConcordError
from concord.guidance import ConceptGuide
from concord.recipe import Recipe, load
from concord.system import begin_peak, peak_memory
from concord.workflows import rehearse as rehearsing
from concord.workflows import whole_run
from concord.workflows.rehearse import check, rehearse
from concord.workflows.whole_run import Rehearsal, Timed, record


def unclip(folder: Path, *texts: str) -> Recipe:
    """The recipe `custom` with networks of two layers; no data are there."""
    tiny_pipelines.unclip().save_pretrained(folder / "unclip")
    tiny.tiny_autoencoder().save_pretrained(folder / "taesd")
    tiny.save_encoder(folder / "clip", tiny.clip())
    models = [f"pipeline.model={folder}/unclip", f"pipeline.tiny_decoder={folder}/taesd", f"encoder={folder}/clip"]
    return load("custom", [f"data={folder}/none", "size=null", *models, *texts])


def test_two_images_go_through_every_stage_without_data(tmp_path: Path) -> None:
    recipe = unclip(tmp_path, "pipeline.steps=10", "classes=[imagewoof]", "concepts.bank=imagewoof")
    stages: list[str] = []

    class Heard(rehearsing.Silent):
        def stage(self, text: str) -> None:
            stages.append(text)

    found = rehearse(recipe, progress=Heard())
    assert stages == ["building the models", "sampling, uninformed", "sampling, informed", "measuring"]
    assert {one["key"] for one in found.models} == {"pipeline.model", "pipeline.tiny_decoder", "encoder"}
    whole = tiny_pipelines.unclip()
    networks = [part for part in whole.components.values() if isinstance(part, torch.nn.Module)]
    counted = {one["key"]: one["parameters"] for one in found.models}
    assert counted["pipeline.model"] == sum(p.numel() for network in networks for p in network.parameters())
    assert counted["encoder"] == sum(p.numel() for p in tiny.clip().parameters())
    assert {name: one.images for name, one in found.timed.items()} == {"uninformed": 2, "informed": 2}
    assert all(min(one.step, one.decoding, one.conditions) > 0 for one in found.timed.values())
    assert found.text is not None and found.rating is not None
    assert found.fits and found.largest_batch >= recipe.batch_size
    assert (found.classes, found.images) == (10, 100)  # ImageWoof's, at IPC 10, informed alone
    assert record(found)["images"] == 100


def test_the_estimate_is_what_was_measured_times_what_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """50 steps of which each third of the second half takes a gradient, both variants, 10 classes at IPC 10."""
    times = iter([Timed(2, 1.0, 4.0, 2.0, 0), Timed(2, 9.0, 10.0, 2.0, 0)])
    monkeypatch.setattr(rehearsing, "_batch", lambda *_: next(times))
    monkeypatch.setattr(rehearsing, "_encoding", lambda *_: (0.5, 0.25))
    monkeypatch.setattr(rehearsing, "_rating", lambda *_: 0.125)
    texts = ("classes=[imagewoof]", "concepts.bank=imagewoof", "uninformed=true", "workers=4")
    found = rehearse(unclip(tmp_path, *texts))
    gradients = len(range(25, 50, 3))
    assert (found.evaluations, found.gradients) == (50, gradients)
    # A batch's conditions, steps and decoding for two images; a gradient adds 10 - 4 to a batch's step.
    plain = (1.0 + 50 * 4.0 + 2.0) / 2
    assert found.seconds_per_image == pytest.approx(2 * plain + gradients * 3.0 + 2 * 0.125)
    bank = load_bank("imagewoof")
    phrases = sum(len(bank.phrases(name)) for name in bank.classes)
    assert found.selection == pytest.approx(10 * 100 * 0.25 + phrases * 0.5)  # 100 real images a class
    assert found.seconds == pytest.approx(found.selection + found.seconds_per_image * 100 / 4)


@pytest.mark.parametrize(("scheduler", "steps"), [("heun", 7), ("dpm++", 6), ("ddim", 9)])
def test_evaluations_and_gradients_are_those_of_a_run(tmp_path: Path, scheduler: str, steps: int) -> None:
    recipe = unclip(tmp_path, f"pipeline.scheduler={scheduler}", f"pipeline.steps={steps}")
    found = rehearse(recipe, images=1, steps=1)
    calls, model = (
        0,
        rehearsing.untrained_family(
            f"{tmp_path}/unclip", dtype=torch.float32, device=torch.device("cpu"), tiny_decoder=f"{tmp_path}/taesd"
        ),
    )

    def counting(*_: Any) -> None:
        nonlocal calls
        calls += 1

    model.pipeline.unet.register_forward_pre_hook(counting)
    encoder = tiny.encoder()
    settings = recipe.informing.model_dump(include={"mode", "strength", "window", "every", "between"})
    guide = ConceptGuide([rehearsing_objective(encoder)], model.tiny_decode, encoder, **settings)
    data = rehearsing.DrawnImages("")
    denoise = model.denoise(["a cat"], [data.read("0/0")], generators=[torch.Generator().manual_seed(0)])
    from concord.pipelines.base import sample_images

    sample_images(denoise, [0], steps=steps, scheduler=scheduler, guides=[guide])
    assert (found.evaluations, found.gradients) == (calls, guide.gradient_calls)


def rehearsing_objective(encoder: Any) -> Any:
    from concord.guidance import Objective

    return Objective.cosine([encoder.texts(["a cat"])], 1.0)


def test_a_recipe_without_informing_has_one_variant(tmp_path: Path) -> None:
    found = rehearse(unclip(tmp_path, "informing.enabled=false", "scorer.kind=none"), images=1, steps=1)
    assert list(found.timed) == ["uninformed"]
    assert (found.gradients, found.text, found.rating, found.selection) == (0, None, None, None)
    assert found.classes is None and found.seconds is None and found.seconds_per_image > 0  # no data, no list


def test_other_ways_to_begin_and_to_guide_are_rehearsed(tmp_path: Path) -> None:
    texts = ("pipeline.start=prototype", "guides=[{name: modes, window: [0.0, 0.1]}]", "informing.stop=0.5")
    found = rehearse(unclip(tmp_path, *texts, "pipeline.steps=10"), images=1, steps=2)
    assert found.evaluations == 5  # half of the steps are left out

    (tmp_path / "begun").mkdir()
    assert rehearse(unclip(tmp_path, f"pipeline.start={tmp_path}/begun"), images=1, steps=2).evaluations == 25


def test_exact_informing_with_recomputation_is_rehearsed(tmp_path: Path) -> None:
    texts = ["informing.mode=exact", "informing.decoder=full", "memory.checkpointing=true", "dtype=bfloat16"]
    texts += ["pipeline.tiny_decoder=null", "informing.between=none"]
    found = rehearse(unclip(tmp_path, *texts, "batch_size=1"), images=2, steps=1)
    assert found.timed["informed"].images == 1  # no more at once than the recipe's batch


def test_where_memory_runs_out_the_largest_batch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that holds one image at a time."""
    from concord.methods.batch_sampler import BatchSampler

    make = BatchSampler._make

    def short(self: BatchSampler, batch: Any, guided: bool, steps: int) -> Any:
        if len(batch) > 1:
            raise RuntimeError("CUDA out of memory")
        return make(self, batch, guided, steps)

    monkeypatch.setattr(BatchSampler, "_make", short)
    found = rehearse(unclip(tmp_path), images=2, steps=1)
    assert found.at_once == 1 and not found.fits


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 10 bytes")

    monkeypatch.setattr(rehearsing.untrained, "pipeline", full)
    recipe = unclip(tmp_path)
    monkeypatch.setattr(rehearsing, "check", lambda recipe: {})
    with pytest.raises(ConcordError, match="does not hold the models of custom"):
        rehearse(recipe)


@pytest.mark.parametrize(
    ("recipe", "texts", "said"),
    [
        ("photos", ["data=reef"], "method random samples no diffusion model"),
        ("custom", ["data=reef", "pipeline.model=nobody/such"], "the configuration of nobody/such (`pipeline.model`)"),
        ("custom", ["data=reef", "encoder=nobody/clip"], "the configuration of nobody/clip (`encoder`)"),
        ("custom-ip", ["data=reef"], "pipeline.ip_adapter=null"),
        (
            "imagewoof-dit",
            ["informing.objective.classifier=1", "informing.classifier=nobody/resnet"],
            "informing.classifier=DIR",
        ),
    ],
)
def test_what_cannot_be_rehearsed_is_one_line(recipe: str, texts: list[str], said: str) -> None:
    with pytest.raises(ConcordError) as error:
        check(load(recipe, texts))
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("recipe", ["imagewoof-dit", "imagenet-1k-minimax", "imagewoof-unclip", "custom"])
def test_the_bundled_recipes_can_be_rehearsed(recipe: str) -> None:
    """At real size, but for the computing: their networks are built without memory."""
    found = check(load(recipe, ["data=none"]))
    assert found["pipeline.model"]["parameters"] > 8e8 and not found["pipeline.model"]["here"]
    assert all(len(one["source"]) > 20 for one in found.values())


def test_the_classes_of_a_recipe_are_its_lists_where_no_data_are_here() -> None:
    assert whole_run._classes(load("imagenet-1k-dit", ["data=none"])) == (1000, None)
    assert whole_run._classes(load("reef", [])) == (10, 5000)


def test_a_peak_is_seen_after_it_is_over_and_begins_anew() -> None:
    begin_peak("cpu")
    before = peak_memory("cpu")
    with mmap.mmap(-1, 256 * 2**20) as held:  # what torch frees may have been this process's before
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
    assert peak_memory("cpu") >= before + 200 * 2**20
    begin_peak("cpu")
    assert peak_memory("cpu") < before + 100 * 2**20


def test_a_rehearsal_is_a_plain_record(tmp_path: Path) -> None:
    found = rehearse(unclip(tmp_path), images=1, steps=1)
    assert isinstance(found, Rehearsal)
    values = record(found)
    assert set(values["variants"]) == {"uninformed", "informed"}
    assert values["seconds"] is None and values["memory_bytes"] > values["memory_weights_bytes"] // 2
