"""Fine-tuning by Minimax: plain where its weights are 0, the same bytes where it was killed, and a recipe takes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import tiny
from concord.diffusion.variational import variational_bound
from concord.errors import ConcordError
from concord.pipelines.load import load_family
from concord.workflows import finetune as tuning
from concord.workflows.finetune import FinetuneSettings, Trainer, finetune, read_finetune_settings

WEIGHTS = Path("transformer/diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of two layers, and six images of each of two classes."""
    folder = tmp_path_factory.mktemp("tuning")
    tiny.pipeline().save_pretrained(folder / "model")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        for n in range(6):
            Image.fromarray(rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)).save(folder / "data" / name / f"{n}.png")
    return folder


def settings(place: Path, **values: Any) -> FinetuneSettings:
    usual: dict[str, Any] = {"model": str(place / "model"), "epochs": 2, "batch": 4, "ema": 0.5, "device": "cpu"}
    return FinetuneSettings(**{**usual, **values})


def tuned(place: Path, out: Path, **values: Any) -> dict[str, torch.Tensor]:
    finetune(str(place / "data"), settings(place, **values), out)
    return load_file(out / WEIGHTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_tuned_directory_is_a_checkpoint_that_a_pipeline_takes(place: Path, tmp_path: Path) -> None:
    [found] = finetune(str(place / "data"), settings(place), tmp_path / "out")
    assert (found.images, found.steps, found.classes) == (12, 6, ("cat", "dog"))
    record = json.loads((tmp_path / "out" / "finetune.json").read_text())
    assert (record["schema"], record["steps"], record["identity"]["classes"]) == (1, 6, ["cat", "dog"])
    family = load_family(str(place / "model"), checkpoint=str(tmp_path / "out"), among=("dit",))
    assert equal(dict(family.denoiser.state_dict()), load_file(tmp_path / "out" / WEIGHTS))
    assert not equal(dict(family.denoiser.state_dict()), dict(tiny.transformer().state_dict()))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out"]  # no checkpoint, no lock


def test_without_its_terms_it_is_a_plain_fine_tune_bit_for_bit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tuned(place, tmp_path / "without", representativeness=0, diversity=0)
    whole = tuned(place, tmp_path / "whole", representativeness=0.2, diversity=0.8)
    assert not equal(without, whole)

    def plain(self: Trainer, x0: Any, noise: Any, t: Any, asked: Any, labels: Any) -> Any:
        """The two losses of diffusion, and nothing else."""
        abar = self.abar[t].view(-1, 1, 1, 1)
        x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
        predicted, learned = self.model.denoiser(x_t, timestep=t, class_labels=asked).sample.chunk(2, dim=1)
        error = (predicted - noise).square().mean()
        return error, error + variational_bound(x0, x_t, predicted, learned, t, self.abar).mean()

    monkeypatch.setattr(Trainer, "losses", plain)
    assert equal(tuned(place, tmp_path / "plain"), without)


@pytest.mark.parametrize("after", [1, 4])  # in the first epoch and in the second
def test_killed_anywhere_it_ends_with_the_same_bytes(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    whole, take, calls = tuned(place, tmp_path / "whole"), Trainer.take, 0

    def dying(self: Trainer, *given: Any) -> float:
        if self.step == after:
            raise KeyboardInterrupt
        return take(self, *given)

    def counting(self: Trainer, *given: Any) -> float:
        nonlocal calls
        calls += 1
        return take(self, *given)

    monkeypatch.setattr(tuning, "EVERY", -1.0)
    monkeypatch.setattr(Trainer, "take", dying)
    with pytest.raises(KeyboardInterrupt):
        tuned(place, tmp_path / "killed")
    assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(Trainer, "take", counting)
    with pytest.raises(ConcordError, match="is of a training with other settings"):
        tuned(place, tmp_path / "killed", lr=0.1)
    assert equal(tuned(place, tmp_path / "killed"), whole)
    assert calls == 6 - after  # what was done is not done again
    assert equal(tuned(place, tmp_path / "killed"), whole) and calls == 6 - after  # finished is finished
    with pytest.raises(ConcordError, match="was tuned with another settings"):
        tuned(place, tmp_path / "killed", lr=0.1)


def test_subsets_are_tuned_one_after_another_and_each_alone(place: Path, tmp_path: Path) -> None:
    found = finetune(str(place / "data"), settings(place, subsets=2), tmp_path / "all")
    assert [one.classes for one in found] == [("cat",), ("dog",)]
    listed = json.loads((tmp_path / "all" / "checkpoints.json").read_text())["checkpoints"]
    assert listed == {str(tmp_path / "all" / "00"): ["cat"], str(tmp_path / "all" / "01"): ["dog"]}
    [second] = finetune(str(place / "data"), settings(place, subsets=2, subset=1), tmp_path / "one")
    assert second.path == tmp_path / "one" / "01" and not (tmp_path / "one" / "00").exists()
    assert equal(load_file(second.path / WEIGHTS), load_file(tmp_path / "all" / "01" / WEIGHTS))


def test_fifty_subsets_of_imagenet_are_what_the_bundled_recipe_names() -> None:
    from concord.data import ClassSpec, class_table
    from concord.data.class_lists import class_list
    from concord.recipe import load

    class Named:
        classes = class_table([ClassSpec(str(one.wnid)) for one in class_list("imagenet-1k")])

    ids = [entry.model_id or 0 for entry in Named.classes]
    parts = tuning._parts(Named(), ids, 50)  # type: ignore[arg-type]
    assert {len(part) for part in parts} == {20}
    recipe = load("imagenet-1k-minimax", ["data=none"])
    assert tuning.assigned(Path("models/minimax/imagenet-1k"), parts, ids) == recipe.pipeline.checkpoints


def test_a_step_averages_the_weights_and_remembers_the_batch(place: Path) -> None:
    trainer = Trainer(tuning._model(settings(place), "cpu"), settings(place, memory=3, dropout=1.0), "cpu")
    before = {name: one.detach().clone() for name, one in trainer.trained.items()}
    seen: list[torch.Tensor] = []
    trainer.model.denoiser.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["class_labels"]), with_kwargs=True
    )
    pixels = torch.rand(4, 3, 8, 8) * 2 - 1
    trainer.take(pixels, [0, 0, 0, 1])
    for name, one in trainer.trained.items():
        assert torch.allclose(trainer.average[name], (before[name] + one.detach()) / 2, atol=1e-7)
    assert seen[0].tolist() == [1000] * 4  # every label dropped
    real, made = trainer.real.of(0), trainer.made.of(0)
    assert real is not None and made is not None and real.shape == made.shape == (3, 4, 4, 4)
    trainer.take(pixels, [0, 1, 1, 1])
    later = trainer.real.of(0)
    assert later is not None and torch.equal(later[:2], real[1:])  # the oldest is gone


def test_images_that_are_less_than_a_batch_and_models_that_do_not_fit_are_refused(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ConcordError, match="12 images are less than a batch of 13"):
        tuned(place, tmp_path / "out", batch=13)
    with pytest.raises(ConcordError, match="subsets=3: the data have 2 classes"):
        tuned(place, tmp_path / "out", subsets=3)
    with pytest.raises(ConcordError, match="subset=2: there are 2"):
        read_finetune_settings(["subsets=2", "subset=2"])
    with pytest.raises(ConcordError, match="representativenes"):
        read_finetune_settings(["representativenes=1"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ConcordError, match="is there already"):
        tuned(place, tmp_path / "full")
    model = tiny.pipeline()
    model.scheduler.register_to_config(prediction_type="v_prediction")
    model.save_pretrained(tmp_path / "v")
    with pytest.raises(ConcordError, match="predicts v_prediction"):
        tuned(place, tmp_path / "out", model=str(tmp_path / "v"))


def test_a_model_without_a_learned_variance_is_tuned_by_its_noise_alone(place: Path, tmp_path: Path) -> None:
    tiny.pipeline(learned_variance=False).save_pretrained(tmp_path / "model")
    found = tuned(place, tmp_path / "out", model=str(tmp_path / "model"), epochs=1)
    assert found["proj_out_2.weight"].shape[0] == 4 * 4  # four channels of two by two pixels
