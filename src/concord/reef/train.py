"""Train reef's models: `python -m concord.reef.train --out DIR`.

Stages: autoencoder, encoded (latents and reconstructions of all images), tiny (decoder), clip, clip-2 (another shape
and seed, for judging what the first has informed), detector, detector-2 (a second seed, for agreement), teacher,
nuisance, dit. Each is resumable: its state is saved every minute under `--work`, and a finished stage is kept. All
later stages need `autoencoder`; after `encoded` they can run beside each other.

The shipped DiT was trained for a time instead of a number of steps, on a GPU, where the others trained beside it:

    python -m concord.reef.train --stages dit --out DIR --device cuda --batch 1024 --minutes 8.6 --snapshots 0.5 \
        --compile

Its moving average is kept every half minute; `benchmarks/reef_generator.py` measures what each makes.
"""

import argparse
import concurrent.futures
import copy
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DiTPipeline
from safetensors.torch import save_file
from torch import Tensor, nn

from concord.reef import models
from concord.reef.dataset import SEED_HELD_OUT, SEED_TRAIN
from concord.reef.noising import CERTAIN_SIGMA, Origins, draw_times, loss_weight
from concord.reef.text import caption, random_caption
from concord.reef.world import ALL_SPECIES, DETAILS, SPECIES, Fish, attributes, render_array, sample_set

SEED_FREE = 1_000_002
SPECIES_IMAGES, FREE_IMAGES = 4000, 16_000
"""Training renderings: so many a species, and so many free combinations."""
LATENT_DECAY = 0.9995
Network = Any
"""A network of diffusers or transformers, whose own methods their types do not tell."""
Criterion = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Network, int, np.random.Generator], Tensor]


def cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * progress))


def constant_then_down(progress: float) -> float:
    """The full rate for 70 % of the training, then down in a straight line: one can go on from before the descent."""
    return min(1.0, (1 - progress) / 0.3)


def fit(
    name: str,
    model: Network,
    loss: Loss,
    *,
    steps: float,
    lr: float,
    work: Path,
    seed: int,
    decay: float = 0.0,
    weight_decay: float = 0.01,
    warmup: int = 100,
    schedule: Callable[[float], float] = cosine,
    optimizers: Callable[[Network], list[torch.optim.Optimizer]] | None = None,
    limit: float = math.inf,
    snapshots: float = math.inf,
    save_every: float = 60,
) -> Network:
    """Minimise a loss; returns the model, or its moving average where `decay` is set.

    Step i draws its batch from a generator seeded by (seed, i), so a resumed run sees what an undisturbed one does.

    steps, limit: the training ends after so many steps or so many seconds, whichever is first; seconds are those spent
        here, over all resumptions.
    schedule: the learning rate's factor, 0 to 1, by the share of the training that is done.
    optimizers: AdamW of everything by default.
    snapshots: seconds between copies of what would be returned, `NAME-SECONDS.safetensors`; none by default.
    save_every: seconds between saved states.
    """
    average = copy.deepcopy(model).eval() if decay else None
    if optimizers is None:
        adam = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True)
        chosen: list[torch.optim.Optimizer] = [adam]
    else:
        chosen = optimizers(model)
    checkpoint, log = work / f"{name}.state.pt", work / f"{name}.log.jsonl"
    start, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=next(model.parameters()).device)
        model.load_state_dict(state["model"])
        if average is not None:
            average.load_state_dict(state["average"])
        for optimizer, its in zip(chosen, state["optimizers"], strict=True):
            optimizer.load_state_dict(its)
        start, spent = state["step"], state["seconds"]
        print(f"{name}: resumed at step {start} of {steps}", flush=True)

    def save(step: int, seconds: float) -> None:
        state = {
            "model": model.state_dict(),
            "average": average.state_dict() if average is not None else {},
            "optimizers": [optimizer.state_dict() for optimizer in chosen],
            "step": step,
            "seconds": seconds,
        }
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").replace(checkpoint)

    running: list[Tensor] = []
    began = saved_at = time.monotonic()
    step, seconds, kept = start, spent, spent // snapshots
    while (progress := max(step / steps, seconds / limit)) < 1:
        torch.manual_seed(seed * 1_000_003 + step)
        rate = lr * min(1, (step + 1) / warmup) * schedule(progress)
        value = loss(model, step, np.random.default_rng((seed, step)))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if average is not None:
            keep = min(decay, (step + 1) / (step + 10))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
                for ours, theirs in zip(average.buffers(), model.buffers(), strict=True):
                    ours.copy_(theirs)
        running.append(value.detach())
        step, seconds = step + 1, spent + time.monotonic() - began
        last = max(step / steps, seconds / limit) >= 1
        if step % 50 == 0 or last:
            row = {"step": step, "loss": round(float(torch.stack(running).mean()), 5), "seconds": round(seconds, 1)}
            with log.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name} {step}  loss {row['loss']:.4f}  {seconds:.0f} s, {100 * progress:.0f} % done", flush=True)
            running = []
        if seconds // snapshots > kept or (last and snapshots < math.inf):
            kept = seconds // snapshots
            best = average if average is not None else model
            save_file(best.state_dict(), work / f"{name}-{seconds:06.0f}.safetensors", {"step": str(step)})
        if time.monotonic() - saved_at > save_every or last:
            save(step, seconds)
            saved_at = time.monotonic()
    return average if average is not None else model


class Renderings:
    """The training images and what is true of them, drawn once and kept in a file."""

    def __init__(self, work: Path, device: str) -> None:
        held_out = range(len(SPECIES), len(ALL_SPECIES))
        self.fish: list[Fish] = sample_set(SEED_TRAIN, per_species=SPECIES_IMAGES)
        self.fish += sample_set(SEED_HELD_OUT, per_species=SPECIES_IMAGES, species=held_out)
        self.fish += sample_set(SEED_FREE, free=FREE_IMAGES)
        self.species = np.array([-1 if f.species is None else f.species for f in self.fish])
        self.attributes = attributes(self.fish)
        path = work / "renderings.npy"
        if not path.exists():
            print(f"rendering {len(self.fish)} images", flush=True)
            with concurrent.futures.ProcessPoolExecutor() as pool:
                parts = [self.fish[i : i + 500] for i in range(0, len(self.fish), 500)]
                np.save(path.with_suffix(".new.npy"), np.concatenate(list(pool.map(render_array, parts))))
            path.with_suffix(".new.npy").replace(path)
        self.device, self.images = device, torch.from_numpy(np.load(path)).to(device)

    @property
    def known(self) -> np.ndarray:
        """Those with a species."""
        return np.flatnonzero(self.species >= 0)

    @property
    def named(self) -> np.ndarray:
        """Those of a species whose name the encoders and the teacher learn."""
        return np.flatnonzero((self.species >= 0) & (self.species < len(SPECIES)))

    @property
    def free(self) -> np.ndarray:
        return np.flatnonzero(self.species < 0)


def blurred(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Some images softened as early estimates of a diffusion model are: down by 1.5 to 3 and up again."""
    count = len(x) // 3
    size = int(x.shape[-1] / rng.uniform(1.5, 3))
    soft = F.interpolate(F.interpolate(x[:count], size=size, mode="area"), size=x.shape[-1], mode="bilinear")
    return torch.cat([soft, x[count:]])


def train_autoencoder(data: Renderings, work: Path, out: Path, steps: int, batch: int = 24) -> None:
    model = models.autoencoder().to(data.device, memory_format=torch.channels_last)

    def loss(model: Network, step: int, rng: np.random.Generator) -> Tensor:
        x = models.as_input(data.images[rng.integers(0, len(data.images), batch)])
        x = x.contiguous(memory_format=torch.channels_last)
        posterior = model.encode(x).latent_dist
        z = posterior.mean + 0.05 * torch.randn_like(posterior.mean)
        y = model.decode(z).sample
        # DiTPipeline knows a scale for latents but no shift, so their mean is held at zero and their deviation at one.
        flat = posterior.mean.transpose(0, 1).flatten(1)
        moments = flat.mean(1).square().mean() + (flat.std(1) - 1).square().mean()
        tails = F.relu(posterior.mean.abs() - 3).square().mean()
        pooled = sum((F.avg_pool2d(y, k) - F.avg_pool2d(x, k)).abs().mean() for k in (2, 4))
        spread = posterior.logvar.add(6).square().mean()
        return (
            (y - x).abs().mean()
            + (y - x).square().mean()
            + 0.5 * pooled
            + 0.05 * moments
            + 0.05 * tails
            + 1e-3 * spread
        )

    model = fit("autoencoder", model, loss, steps=steps, lr=2e-3, work=work, seed=11, decay=0.995, weight_decay=0)
    with torch.no_grad():
        parts = (models.as_input(data.images[i : i + 64]) for i in range(0, 2048, 64))
        z = torch.cat([model.encode(x).latent_dist.mean for x in parts])
    model.register_to_config(scaling_factor=float(1 / z.std()))
    model.cpu().half().save_pretrained(out / "pipeline" / "vae")


def _autoencoder(out: Path, device: str) -> AutoencoderKL:
    vae = AutoencoderKL.from_pretrained(out / "pipeline" / "vae", torch_dtype=torch.float32).eval()
    return vae.requires_grad_(False).to(device, memory_format=torch.channels_last)


def latents(data: Renderings, work: Path, out: Path) -> Tensor:
    """Scaled latents (N, 4, 16, 16) of the images with a species, in the order of `Renderings.known`."""
    path = work / "latents.pt"
    if not path.exists():
        vae, images = _autoencoder(out, data.device), data.images[data.known]
        print(f"encoding {len(images)} images", flush=True)
        z = [vae.encode(models.as_input(images[i : i + 32])).latent_dist.mean for i in range(0, len(images), 32)]
        torch.save(torch.cat(z).cpu() * vae.config.scaling_factor, path)
    return torch.load(path, weights_only=True).to(data.device)


def reconstructions(data: Renderings, work: Path, out: Path) -> tuple[np.ndarray, Tensor]:
    """Every fourth training image as the full autoencoder returns it: (indices, uint8 images (M, 64, 64, 3))."""
    index = np.arange(0, len(data.images), 4)
    path = work / "reconstructions.npy"
    if not path.exists():
        vae = _autoencoder(out, data.device)
        print(f"reconstructing {len(index)} images", flush=True)
        rebuilt = []
        for i in range(0, len(index), 32):
            y = vae.decode(vae.encode(models.as_input(data.images[index[i : i + 32]])).latent_dist.mean).sample
            rebuilt.append(y.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
        np.save(path, torch.cat(rebuilt).cpu().numpy())
    return index, torch.from_numpy(np.load(path)).to(data.device)


def encode_all(data: Renderings, work: Path, out: Path) -> None:
    """Both files, so that other stages can run beside each other."""
    latents(data, work, out)
    reconstructions(data, work, out)


def train_clip(
    name: str, model: Network, data: Renderings, work: Path, out: Path, steps: int, seed: int, batch: int = 128
) -> None:
    """An image-text encoder of the named species and of free combinations; every fourth image is a reconstruction."""
    model, tokenizer = model.to(data.device), models.tokenizer()
    index, rebuilt = reconstructions(data, work, out)
    pictures = data.images.clone()
    pictures[index] = rebuilt

    def loss(model: Network, step: int, rng: np.random.Generator) -> Tensor:
        # Half of the batches hold three species only: telling individuals of a species apart teaches details, where a
        # batch of all species teaches names.
        pool = data.named
        if step % 2:
            pool = pool[np.isin(data.species[pool], rng.choice(len(SPECIES), 3, replace=False))]
        free = batch // 4
        known = rng.choice(pool, batch - free, replace=False)
        index = np.concatenate([known, rng.choice(data.free, free, replace=False)])
        rng.shuffle(index)
        said = [random_caption(data.fish[i], rng) for i in index]
        # For each caption a near miss: one of its details exchanged for one that the image does not show.
        for i, (subject, details, _) in list(zip(index, said, strict=True)):
            absent = [d for d, shown in zip(DETAILS, data.attributes[i], strict=True) if not shown]
            wrong = [str(rng.choice(absent)), *details[1:]]
            said.append((subject, wrong, caption(subject, wrong, rng)))
        subjects, named, texts = (list(of) for of in zip(*said, strict=True))
        truth = _truth(data, index, subjects, named).to(data.device)
        tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(data.device)
        pixels = blurred(models.as_input(pictures[index]), rng)
        image = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        inputs = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}
        words = F.normalize(model.get_text_features(**inputs).pooler_output, dim=-1)
        scale = model.logit_scale.exp().clamp(max=50)
        logits = scale * image @ words.T  # (B, 2B)
        # A caption that happens to be true of another image as well is no negative for it.
        target = torch.arange(batch, device=data.device)
        truth[target, target] = False  # its own
        logits = logits.masked_fill(truth, -1e4)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :batch].T, target)) / 2

    how: dict[str, Any] = {"decay": 0.998, "weight_decay": 0.05, "warmup": 200}
    model = fit(name, model, loss, steps=steps, lr=1e-3, work=work, seed=seed, **how)
    with torch.no_grad():
        model.logit_scale.clamp_(max=math.log(50))
    tokenizer.save_pretrained(out / name)
    _save(model, out / name)


def _save(model: Network, folder: Path) -> None:
    model.cpu().half().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(models.preprocessor_config(), indent=2) + "\n")


def _truth(data: Renderings, index: np.ndarray, subjects: list[str], named: list[list[str]]) -> Tensor:
    """Which captions are true of which images, (images, captions)."""
    names = [s.name for s in SPECIES]
    wanted = np.array([names.index(s) if s in names else -1 for s in subjects])
    needs = np.array([np.isin(DETAILS, details) for details in named])
    species = data.species[index][:, None]
    shown = data.attributes[index]
    lacks = (~shown).astype(int) @ needs.T.astype(int)
    return torch.from_numpy(((wanted[None] < 0) | (species == wanted[None])) & (lacks == 0))


def train_reader(
    name: str, model: Network, target: Tensor, criterion: Callable[[Tensor, Tensor], Tensor], pool: np.ndarray,
    data: Renderings, work: Path, out: Path, steps: int, seed: int, batch: int = 64,
) -> None:  # fmt: skip
    """A network that reads attributes, species or nuisances from renderings and from reconstructions alike."""
    index, rebuilt = reconstructions(data, work, out)
    paired = np.flatnonzero(np.isin(index, pool))

    def loss(model: Network, step: int, rng: np.random.Generator) -> Tensor:
        clean, copies = rng.choice(pool, batch // 2), rng.choice(paired, batch // 2)
        x = torch.cat([models.as_input(data.images[clean]), models.as_input(rebuilt[copies])])
        if name != "nuisance":  # whose targets include the position
            x = x.roll(tuple(int(s) for s in rng.integers(-2, 3, 2)), (2, 3))
        x = x + 0.03 * torch.randn_like(x)
        return criterion(model(x).logits, target[np.concatenate([clean, index[copies]])])

    model.to(data.device).train()
    model = fit(name, model, loss, steps=steps, lr=3e-3, work=work, seed=seed, decay=0.99, weight_decay=0.02)
    _save(model.eval(), out / name)


def train_tiny(data: Renderings, work: Path, out: Path, steps: int, batch: int = 24) -> None:
    z, images = latents(data, work, out), data.images[data.known]
    model = models.tiny_autoencoder().to(data.device)
    model.encoder.requires_grad_(False)
    decoder = model.decoder.to(memory_format=torch.channels_last)

    def loss(decoder: Network, step: int, rng: np.random.Generator) -> Tensor:
        index = rng.integers(0, len(z), batch)
        x = models.as_input(images[index])
        y = decoder(z[index] + 0.05 * torch.randn_like(z[index]))
        return (y - x).abs().mean() + (y - x).square().mean()

    decoder = fit("tiny", decoder, loss, steps=steps, lr=3e-3, work=work, seed=13, decay=0.995, weight_decay=0)
    model.decoder = decoder
    model.cpu().half().save_pretrained(out / "tiny")


def untrained_dit() -> Network:
    """A DiT whose blocks and output are zero (adaLN-zero), as it starts."""
    model = models.transformer()
    layers = [block.norm1.linear for block in model.transformer_blocks]
    for layer in (*layers, model.proj_out_1, model.proj_out_2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def bfloat16_is_fast() -> bool:
    """Whether the processor multiplies in bfloat16; without such instructions it is slower than float32."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text()


def muon_and_adam(model: Network) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for the blocks' matrices, AdamW for the rest."""
    named = model.named_parameters()
    blocks = [p for n, p in named if p.ndim == 2 and "blocks" in n and "embedding_table" not in n]
    matrices = {id(p) for p in blocks}
    rest = [p for p in model.parameters() if id(p) not in matrices]
    return [
        torch.optim.Muon(blocks, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.01, fused=True),
    ]


def train_dit(data: Renderings, options: argparse.Namespace) -> None:
    work, out, batch, device = options.work, options.out, options.batch, torch.device(options.device)
    z, y = latents(data, work, out), torch.from_numpy(data.species[data.known]).to(device)
    scheduler, model = models.scheduler(), untrained_dit().to(device)
    # Every block of diffusers' DiT drops labels by itself in train mode, each its own; eval mode and one drop here.
    model.eval().requires_grad_(True)
    abar = scheduler.alphas_cumprod.to(device)
    levels = ((1 - abar) / abar).sqrt()
    flat, half = z.flatten(1), device.type == "cuda" or bfloat16_is_fast()
    origins = Origins(flat, y)

    def error(model: Network, x: Tensor, noise: Tensor, t: Tensor, label: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            predicted = model(x, timestep=t, class_labels=label).sample
        return ((predicted.float() - noise).square().mean((1, 2, 3)) * loss_weight(levels[t])).mean()

    step_error = torch.compile(error) if options.compile else error

    def loss(model: Network, step: int, rng: np.random.Generator) -> Tensor:
        index = torch.from_numpy(rng.integers(0, len(z), batch)).to(device)
        t, dropped = draw_times(rng, batch).to(device), torch.from_numpy(rng.random(batch) < 0.1).to(device)
        label = torch.where(dropped, 1000, y[index])
        sigma, clean = levels[t], flat[index]
        noisy = clean + sigma[:, None] * torch.randn_like(clean)
        unsure = sigma > CERTAIN_SIGMA
        target = clean.clone()
        target[unsure] = origins.mean(noisy[unsure], sigma[unsure], label[unsure])
        noise = ((noisy - target) / sigma[:, None]).view(-1, *z.shape[1:])
        return step_error(model, abar[t].sqrt().view(-1, 1, 1, 1) * noisy.view_as(noise), noise, t, label)

    model = fit(
        "dit", model, loss, steps=options.steps or (math.inf if options.minutes else 10_000), lr=options.lr, work=work,
        seed=14, decay=LATENT_DECAY, limit=60 * (options.minutes or math.inf), snapshots=60 * options.snapshots,
        schedule=constant_then_down, optimizers=muon_and_adam,
    )  # fmt: skip
    vae = AutoencoderKL.from_pretrained(out / "pipeline" / "vae").half()
    names = {i: species.name for i, species in enumerate(ALL_SPECIES)}
    DiTPipeline(model.cpu().half(), vae, scheduler).save_pretrained(out / "pipeline")
    # Labels lie in the index, as in the published DiT, though saving a pipeline does not put them there.
    index = out / "pipeline" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "id2label": names}, indent=2) + "\n")


STAGES = ("autoencoder", "encoded", "clip", "clip-2", "tiny", "detector", "detector-2", "teacher", "nuisance", "dit")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m concord.reef.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where the trained models go")
    parser.add_argument("--work", type=Path, default=Path("reef-training"), help="renderings, states and logs")
    parser.add_argument("--stages", default=",".join(STAGES), help="comma-separated, in order")
    parser.add_argument("--steps", type=int, help="steps of the stages named, instead of the defaults")
    parser.add_argument("--batch", type=int, default=64, help="batch of the DiT stage")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of the DiT stage")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile the DiT's step")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--minutes", type=float, help="the DiT's time on the clock, instead of a number of steps")
    parser.add_argument("--snapshots", type=float, default=math.inf, help="minutes between kept copies of the DiT")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    # Moments of label rows that no batch touches decay into denormal numbers, which a processor is slow on.
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("high")
    work, out = options.work, options.out
    work.mkdir(parents=True, exist_ok=True)
    data = Renderings(work, options.device)
    details = torch.from_numpy(data.attributes).float().to(options.device)
    nuisance = torch.from_numpy(np.stack([f.nuisance for f in data.fish])).to(options.device)
    everything = np.arange(len(data.fish))
    binary = F.binary_cross_entropy_with_logits
    species = torch.from_numpy(data.species).to(options.device)

    def reader(
        name: str, model: Network, target: Tensor, loss: Criterion, pool: np.ndarray, steps: int, seed: int
    ) -> None:
        train_reader(name, model, target, loss, pool, data, work, out, options.steps or steps, seed)

    def encoder(name: str, model: Network, seed: int) -> None:
        train_clip(name, model, data, work, out, options.steps or 6000, seed)

    run: dict[str, Callable[[], None]] = {
        "autoencoder": lambda: train_autoencoder(data, work, out, options.steps or 1000),
        "encoded": lambda: encode_all(data, work, out),
        "clip": lambda: encoder("clip", models.clip(), 12),
        "clip-2": lambda: encoder("clip-2", models.clip_2(), 25),
        "tiny": lambda: train_tiny(data, work, out, options.steps or 5000),
        "detector": lambda: reader("detector", models.detector(), details, binary, data.free, 1500, 21),
        "detector-2": lambda: reader("detector-2", models.detector(), details, binary, data.free, 1500, 22),
        "teacher": lambda: reader("teacher", models.teacher(), species, F.cross_entropy, data.named, 1500, 23),
        "nuisance": lambda: reader("nuisance", models.nuisance_regressor(), nuisance, F.mse_loss, everything, 3000, 24),
        "dit": lambda: train_dit(data, options),
    }
    for stage in options.stages.split(","):
        run[stage]()


if __name__ == "__main__":
    main()
