"""Measure reef's models on held-out instances: `python -m concord.reef.measure --weights DIR [--second DIR]`.

Prints one JSON object; the committed one lies beside the weights as `measurements.json`. `--second` is the detector of
another training seed, which is not shipped.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from sklearn.metrics import roc_auc_score
from torch import Tensor

from concord.concepts import concept_text, load_bank, select
from concord.concepts.selection import mean_embedding
from concord.models.classifier import Classifier
from concord.models.encoder import Encoder
from concord.reef.dataset import SEED_HELD_OUT_TEST, SEED_TEST
from concord.reef.models import as_input
from concord.reef.text import PHRASES
from concord.reef.world import ALL_SPECIES, COUNTED, DETAILS, HELD_OUT, SPECIES, attributes, render_array, sample_set


def psnr(x: Tensor, y: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of images (B, 3, H, W) in [-1, 1]."""
    error = ((x - y.clamp(-1, 1)) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def measure(weights: Path, second: Path | None, per_species: int = 100) -> dict[str, Any]:
    """All held-out figures of the models below `weights`; instances come from the test seed."""
    fish = sample_set(SEED_TEST, per_species)
    species, shown = np.array([f.species for f in fish]), attributes(fish)
    x = as_input(torch.from_numpy(render_array(fish)))
    vae = AutoencoderKL.from_pretrained(weights / "pipeline" / "vae").float().eval()
    tiny = AutoencoderTiny.from_pretrained(weights / "tiny").float().eval()
    z = torch.cat([vae.encode(part).latent_dist.mean for part in torch.split(x, 50)])
    full = torch.cat([vae.decode(part).sample for part in torch.split(z, 50)]).clamp(-1, 1)
    small = torch.cat([tiny.decode(part * vae.config.scaling_factor).sample for part in torch.split(z, 50)])

    detector = Classifier.from_pretrained(str(weights / "detector"))
    own = np.array([s.mask for s in SPECIES])[species]
    found = {name: (detector.logits(images) > 0).numpy() for name, images in (("renderings", x), ("rebuilt", full))}
    report: dict[str, Any] = {"instances": len(fish)}
    report["autoencoder"] = {"psnr_full": psnr(x, full), "psnr_tiny": psnr(x, small)}
    details = zip((found["rebuilt"] == shown).mean(0).tolist(), DETAILS, strict=True)
    report["detector"] = {
        "accuracy_on_renderings": float((found["renderings"] == shown).mean()),
        "accuracy_on_reconstructions": float((found["rebuilt"] == shown).mean()),
        "worst_detail_on_reconstructions": min(details),
        "completeness_true": float(shown[own].mean()),
        "completeness_measured_on_reconstructions": float(found["rebuilt"][own].mean()),
    }
    if second is not None:
        other = (Classifier.from_pretrained(str(second)).logits(full) > 0).numpy()
        report["detector"]["agreement_of_two_seeds"] = float((other == found["rebuilt"]).mean())
    teacher = Classifier.from_pretrained(str(weights / "teacher"))
    report["teacher"] = {
        "accuracy_on_renderings": float((teacher.logits(x).argmax(1).numpy() == species).mean()),
        "accuracy_on_reconstructions": float((teacher.logits(full).argmax(1).numpy() == species).mean()),
    }
    reader = Classifier.from_pretrained(str(weights / "nuisance"))
    truth, read = np.stack([f.nuisance for f in fish]), reader.logits(full).numpy()
    r2 = 1 - ((truth - read) ** 2).mean(0) / truth.var(0)
    report["nuisance_r2_on_reconstructions"] = dict(zip(reader.labels, r2.round(4).tolist(), strict=True))
    for name in ("clip", "clip-2"):
        report[name] = _clip(Encoder.from_pretrained(str(weights / name)), x, species, shown)
    return report


def _numbers(encoder: Encoder, per_species: int = 100) -> dict[str, float]:
    """How well two of a mark are told from its usual number, by the difference of both phrases' similarities.

    Between a held-out species and the known one that it is a twin of but for that number, where the mark is shown.
    """
    auc = {}
    for counted, plain in COUNTED.items():
        one = next(s for s in HELD_OUT if counted in s.details)
        twin = next(s for s in SPECIES if set(s.details) ^ set(one.details) == {counted, plain})
        fish = sample_set(SEED_HELD_OUT_TEST, per_species, species=[ALL_SPECIES.index(s) for s in (one, twin)])
        shown = attributes(fish)[:, [DETAILS.index(d) for d in (counted, plain)]]
        images = encoder.images(as_input(torch.from_numpy(render_array(fish))))
        texts = encoder.texts([concept_text("fish", PHRASES[d]) for d in (counted, plain)])
        score = (images @ (texts[0] - texts[1])).numpy()
        marked = shown.any(1)
        auc[counted] = round(float(roc_auc_score(shown[marked, 0], score[marked])), 4)
    return auc


def _clip(encoder: Encoder, x: Tensor, species: np.ndarray, shown: np.ndarray) -> dict[str, Any]:
    images = torch.cat([encoder.images(part) for part in torch.split(x, 100)])
    names = [s.name for s in SPECIES]
    zero_shot = (images @ encoder.texts(names).T).argmax(1).numpy()
    auc, hits = {}, 0
    for c, one in enumerate(SPECIES):
        mine = images[torch.from_numpy(species == c)]
        texts = encoder.texts([concept_text(one.name, PHRASES[d]) for d in one.details])
        for similarity, detail in zip((mine @ texts.T).T, one.details, strict=True):
            auc[f"{one.name}, {detail}"] = roc_auc_score(shown[species == c, DETAILS.index(detail)], similarity.numpy())
        table = select(one.name, load_bank("reef").phrases(one.name), mean_embedding(mine), encoder.texts)
        hits += len({c.phrase for c in table if c.kept} & {PHRASES[d] for d in one.details})
    return {
        "auc_of_number": _numbers(encoder),
        "zero_shot_accuracy": float((zero_shot == species).mean()),
        "auc_of_detail_within_species": {"mean": float(np.mean(list(auc.values()))), "worst": min(auc.values())},
        "true_phrases_kept_by_selection": f"{hits} of {5 * len(SPECIES)}",
        "temperature": encoder.temperature,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m concord.reef.measure", description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--second", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(json.dumps(measure(options.weights, options.second), indent=2))
