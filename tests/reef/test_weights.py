"""The shipped weights: they load as the real thing does, and do what the figures beside them say."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline

from concord.concepts import load_bank, select
from concord.concepts.selection import mean_embedding
from concord.diffusion import generators, noise, sample
from concord.metrics import copies, embeddings, measure_run
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.models.hub import REEF_WEIGHTS, model_path, size_of
from concord.pipelines.dit import DiT
from concord.recipe import load
from concord.reef import real_set
from concord.reef import test_set as held_out
from concord.reef.text import PHRASES
from concord.reef.world import SPECIES
from concord.storage import images
from concord.workflows.distill import distill

torch.set_num_threads(1)


def test_weights_are_small_and_half_precision() -> None:
    from safetensors import safe_open

    assert size_of(REEF_WEIGHTS) < 25e6
    for path in REEF_WEIGHTS.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            kinds = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        assert kinds <= {"F16", "I64"}, path


def test_the_own_sampler_equals_the_stock_pipeline() -> None:
    """With no guide, from the directory that `DiTPipeline.from_pretrained` reads as it is."""
    path, labels, seeds = model_path("reef:pipeline"), [0, 7, 9], [3, 5, 8]
    stock = DiTPipeline.from_pretrained(path)
    stock.set_progress_bar_config(disable=True)
    assert stock.get_label_ids(["coral perch"]) == [9]
    expected = stock(labels, generator=generators(seeds), guidance_scale=2.0, num_inference_steps=6, output_type="np")
    model = DiT.from_pretrained(path)
    x = noise(seeds, model.latent_shape)
    latents = sample(model.denoise(labels, 2.0), x, model.scheduler("ddim"), steps=6)
    with torch.no_grad():
        ours = (model.decode(latents) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(ours - expected.images).max() < 1e-4


def test_the_detector_reads_held_out_instances() -> None:
    data, detector = held_out(per_species=8), Classifier.from_pretrained(model_path("reef:detector"))
    items = [item for c in range(10) for item in data.items(c)]
    with torch.no_grad():
        parts = [detector.logits(x) for x in images.batches([data.read(item) for item in items])]
    truth = np.array([data.fish(item).details for item in items])
    assert detector.labels == list(PHRASES.values())
    assert ((torch.cat(parts) > 0).numpy() == truth).mean() > 0.98


@pytest.mark.parametrize("name", ["clip", "clip-2"])
def test_selection_finds_the_true_phrases(name: str) -> None:
    """Eq. 10 on real images: of ten phrases a species, the five kept are (nearly) the five true ones."""
    data, encoder = real_set(per_species=40), Encoder.from_pretrained(model_path(f"reef:{name}"))
    hits = 0
    for c, entry in enumerate(data.classes):
        with torch.no_grad():
            (x,) = images.batches([data.read(item) for item in data.items(c)])
            mean = mean_embedding(encoder.images(x))
        table = select(entry.class_name, load_bank("reef").phrases(entry.class_name), mean, encoder.texts)
        species = next(s for s in SPECIES if s.name == entry.class_name)
        hits += len({k.phrase for k in table if k.kept} & {PHRASES[d] for d in species.details})
    assert hits >= 45


def test_informing_adds_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe as it ships, shortened; the seeds are of no block that it was tuned or reported on."""
    for module, name, few in ((embeddings, "MOST", 100), (copies, "MOST", 20), (measure_run, "REAL_IMAGES", 20)):
        monkeypatch.setattr(module, name, few)  # what made images are shown beside, not what informs them
    short = ["ipc=4", "seed=77", "pipeline.steps=12", "pipeline.guidance_scale=1", "workers=1"]
    results = distill(load("reef", short), tmp_path)
    completeness = results["completeness"]
    assert completeness["informed"]["mean"] > completeness["uninformed"]["mean"]
    assert completeness["gain"]["ci95"][0] > 0
    assert results["uninformed_steps"] == 0
    assert results == {**json.loads((tmp_path / "results.json").read_text()), "made": 40, "kept": 0}


def test_measurements_lie_beside_the_weights() -> None:
    figures = json.loads((REEF_WEIGHTS / "measurements.json").read_text())
    assert figures["detector"]["accuracy_on_reconstructions"] == pytest.approx(1, abs=0.03)
    for stage in ("autoencoder", "tiny", "clip", "clip-2", "detector", "detector-2", "teacher", "nuisance", "dit"):
        assert (REEF_WEIGHTS / "training" / f"{stage}.log.jsonl").stat().st_size > 0
