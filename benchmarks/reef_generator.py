"""What reef's DiT makes uninformed, and how that grew while it trained.

Each row is one state of the DiT: completeness, complete samples, foreign details and teacher accuracy of its samples,
and the spread of each nuisance within a species as a share of the real one (1: the layout varies as in real images).
`error` is that of the clean estimate of held-out images, by timestep: where it falls, layout is being learnt. Image i
of a seed starts from the same noise in every row.

    reef_generator.py                               the shipped weights, 1,000 samples
    reef_generator.py --states reef-training        what `concord.reef.train --snapshots` kept there, beside them
    reef_generator.py --weights DIR --device cuda   other weights, on a GPU
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel
from safetensors import safe_open
from safetensors.torch import load_file

from concord.metrics.completeness import Counts, count_details
from concord.models.classifier import Classifier
from concord.models.hub import REEF_WEIGHTS
from concord.reef import models
from concord.reef.dataset import SEED_TEST, test_set
from concord.reef.world import DETAILS, NUISANCES, SPECIES, render_array, sample_set
from concord.storage import images

TIMES = (200, 350, 450, 550, 650, 800)


class Gauge:
    """The instruments among reef's weights, and what they read on real images."""

    def __init__(
        self, weights: Path = REEF_WEIGHTS, device: str = "cpu", real_per_species: int = 100, held_out: int = 40
    ) -> None:
        self.device = device
        self.vae = AutoencoderKL.from_pretrained(weights / "pipeline" / "vae").float().eval().to(device)
        self.detector, self.teacher, self.nuisance = (
            Classifier.from_pretrained(str(weights / name), device=device)
            for name in ("detector", "teacher", "nuisance")
        )
        self.real = test_set(real_per_species)
        pictures = [self.real.read(item) for k in range(len(SPECIES)) for item in self.real.items(k)]
        self.real_spread = spread(
            self._logits(self.nuisance, pictures), np.repeat(range(len(SPECIES)), real_per_species)
        )
        fish = sample_set(SEED_TEST, held_out)
        self._labels = torch.tensor([f.species for f in fish]).to(device)
        with torch.no_grad():
            parts = models.as_input(torch.from_numpy(render_array(fish)).to(device)).split(50)
            self._latents = torch.cat([self.vae.encode(part).latent_dist.mean for part in parts])
        self._latents = self._latents * self.vae.config.scaling_factor

    def _logits(self, model: Classifier, pictures: list[Any]) -> np.ndarray:
        with torch.no_grad():
            parts = [model.logits(pixels.to(self.device)) for pixels in images.batches(pictures)]
        return torch.cat(parts).cpu().numpy().astype(np.float64)

    @torch.no_grad()
    def error(self, transformer: Any) -> dict[str, float]:
        """Mean squared error of the clean estimate of held-out latents, of unit deviation, by timestep."""
        abar, found = models.scheduler().alphas_cumprod.to(self.device), {}
        for t in TIMES:
            noise = torch.randn(self._latents.shape, generator=torch.Generator().manual_seed(t)).to(self.device)
            noisy = abar[t].sqrt() * self._latents + (1 - abar[t]).sqrt() * noise
            predicted = [
                transformer(x, timestep=torch.full((len(x),), t, device=self.device), class_labels=y).sample
                for x, y in zip(noisy.split(100), self._labels.split(100), strict=True)
            ]
            scale = float((1 - abar[t]) / abar[t])
            found[str(t)] = round(scale * float((torch.cat(predicted) - noise).square().mean()), 4)
        return found

    def measure(self, transformer: Any, guidance: float, per_species: int, steps: int, seed: int) -> dict[str, Any]:
        """The row of one DiT: `per_species` samples of each species by DDIM."""
        pipeline = DiTPipeline(transformer, self.vae, models.scheduler()).to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        labels = np.repeat(range(len(SPECIES)), per_species)
        pictures: list[Any] = []
        for part in np.array_split(labels, max(1, len(labels) // (50 if self.device == "cpu" else 500))):
            draws = [torch.Generator().manual_seed(seed * 1_000_000 + len(pictures) + i) for i in range(len(part))]
            call = {"generator": draws, "guidance_scale": guidance, "num_inference_steps": steps}
            pictures += pipeline(part.tolist(), **call).images
        own = np.array([[detail in species.details for detail in DETAILS] for species in SPECIES])[labels]
        counts: Counts = count_details(self._logits(self.detector, pictures) > 0, own)
        order = [self.teacher.labels.index(species.name) for species in SPECIES]
        said = self._logits(self.teacher, pictures)[:, order].argmax(1)
        share = spread(self._logits(self.nuisance, pictures), labels) / self.real_spread
        return {
            **{key: round(value, 4) for key, value in counts.summary().items()},
            "teacher": round(float((said == labels).mean()), 4),
            "spread_of_real": dict(zip(NUISANCES, share.round(3).tolist(), strict=True)),
        }


def spread(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Deviation of each column of values (N, D) within its group, pooled over groups (N,): (D,)."""
    centred = np.concatenate([values[groups == g] - values[groups == g].mean(0) for g in np.unique(groups)])
    return np.asarray(np.sqrt((centred**2).sum(0) / (len(values) - len(np.unique(groups)))))


def trained(weights: Path) -> Any:
    return DiTTransformer2DModel.from_pretrained(weights / "pipeline" / "transformer").float().eval()


def kept(path: Path) -> tuple[Any, int, int]:
    """A state that the training kept: the DiT, its step and its seconds."""
    model = models.transformer()
    model.load_state_dict(load_file(path))
    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    return model.eval(), step, int(path.stem.rpartition("-")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=Path, help="the training's --work")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--per-species", type=int, default=100)
    parser.add_argument("--steps", type=int, default=50, help="of DDIM")
    parser.add_argument("--seed", type=int, default=9000)
    parser.add_argument("--out", type=Path, default=record.RESULTS / "reef_generator.json")
    parser.add_argument("--weights", type=Path, default=REEF_WEIGHTS, help="the models and instruments")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    gauge = Gauge(options.weights, options.device)
    states = sorted(options.states.glob("dit-*.safetensors")) if options.states else []
    rows = []
    for path in [*states, None]:
        model, step, seconds = (trained(options.weights), None, None) if path is None else kept(path)
        model = model.to(options.device)
        row: dict[str, Any] = {"state": "weights" if path is None else f"{seconds} s", "step": step}
        row["error"] = gauge.error(model)
        for guidance in options.guidance:
            row[f"guidance {guidance:g}"] = gauge.measure(
                model, guidance, options.per_species, options.steps, options.seed
            )  # fmt: skip
        print(row, flush=True)
        rows.append(row)
    head = record.head(seed=options.seed, ddim_steps=options.steps, samples=options.per_species * len(SPECIES))
    record.write(options.out, {**head, "rows": rows})


if __name__ == "__main__":
    main()
