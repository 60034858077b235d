"""Time what informing costs on reef, on the machine at hand, beside a floor: what its networks take alone.

    python benchmarks/informing_seconds.py                  # 9 rounds of the recipe's batch on one thread
    python benchmarks/informing_seconds.py informing.every=1  # with changes to the recipe

A round makes one batch uninformed, makes it informed, and runs each component alone, so that a machine that is busy for
a while is so for all of them. The floor of the informed time is 50 denoiser calls, the final decoding, and as many
gradients (decoder and encoder, forwards and backwards) as the guide takes; of the uninformed time, the first two.
Their ratio is the floor of the ratio. Medians over rounds, with the quartiles; writes a JSON file into
benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import torch
from diffusers import DDIMScheduler
from record import RESULTS, head, write

from concord.guidance import total
from concord.methods.diffusion import Generate
from concord.pipelines.base import Planned
from concord.recipe import load
from concord.workflows.executors import open_recipe_data

EXACT = (
    *("informing.mode=exact", "informing.decoder=full", "informing.weight=300", "informing.window=[0.5, 1]"),
    *("informing.every=1", "informing.between=none"),
)
"""The exact mode at its best (docs/reef.md), timed in the same rounds."""


class Clock:
    """Seconds by component, added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timing(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds[name] += time.perf_counter() - start

        return timing

    @contextmanager
    def on(self, networks: dict[str, torch.nn.Module]) -> Iterator[None]:
        """Time the networks' forwards, backward passes and the scheduler inside the block."""
        with ExitStack() as stack:
            for name, network in networks.items():
                stack.enter_context(patch.object(network, "forward", self.timed(name, network.forward)))
            backward = self.timed("backward", torch.autograd.grad)
            stack.enter_context(patch.object(torch.autograd, "grad", backward))
            step = self.timed("scheduler", DDIMScheduler.step)
            stack.enter_context(patch.object(DDIMScheduler, "step", lambda *a, **k: step(*a, **k)))
            yield


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spread(values: list[float]) -> dict[str, float]:
    low, _, high = quantiles(values, n=4)
    return {"median": round(median(values), 4), "low": round(low, 4), "high": round(high, 4)}


def measure(changes: list[str], rounds: int) -> dict[str, Any]:
    recipe = load("reef", ["threads=1", *changes])
    torch.set_num_threads(1)
    data = open_recipe_data(recipe)
    method = Generate(recipe, data)
    maker, steps = method.sampler, recipe.pipeline.steps
    batch = [method.sample(c % 10, c // 10) for c in range(recipe.batch_size)]
    model: Any = maker.model("")
    concept_guide = maker._concept_guide(batch, model)
    gradients = sum(concept_guide.takes_gradient(i, steps) for i in range(steps))
    networks = {
        "denoiser": model.denoiser,
        "final decoder": model.pipeline.vae.decoder,
        "encoder": method.models.encoder.model.vision_model,
    }
    if recipe.informing.decoder == "tiny":
        networks["guide's decoder"] = model.tiny_decoder.decoder
    latents = torch.randn(len(batch), *model.latent_shape, generator=torch.Generator().manual_seed(0))
    denoise = model.denoise_samples(Planned(batch, data, recipe.pipeline, []))

    def gradient() -> None:
        x0 = latents.clone().requires_grad_()
        torch.autograd.grad(total(concept_guide.objectives, concept_guide.decode(x0), concept_guide.encoder).sum(), x0)

    def plain(work: Callable[[], object]) -> Callable[[], object]:
        return torch.no_grad()(work)

    parts: dict[str, Callable[[], object]] = {
        "denoiser": plain(lambda: denoise(latents, 500)),
        "final": plain(lambda: model.decode(latents)),
        "gradient": gradient,
    }
    exact = Generate(load("reef", ["threads=1", *EXACT]), open_recipe_data(recipe))
    runs: dict[str, Callable[[], object]] = {
        "uninformed": lambda: method.make(batch, "uninformed"),
        "informed": lambda: method.make(batch, "images"),
        "exact": lambda: exact.make(batch, "images"),
    }
    for work in (*parts.values(), *runs.values()):
        work()  # loads and warms up
    times: dict[str, list[float]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    repeats = 5
    for _ in range(rounds):
        for name, work in runs.items():
            clock = Clock()
            with clock.on(networks):
                took = seconds(work)
            times[name].append(took)
            if name == "informed":
                for part, value in clock.seconds.items():
                    shares[part].append(value / took)
                shares["rest"].append(1 - sum(clock.seconds.values()) / took)
            for part, component in parts.items():
                times[f"{part} alone"].append(sum(seconds(component) for _ in range(repeats)) / repeats)
    alone = {part: median(times[f"{part} alone"]) for part in parts}
    floor_plain = steps * alone["denoiser"] + alone["final"]
    floor = floor_plain + gradients * alone["gradient"]
    ratios, exact_ratios = (
        [a / b for a, b in zip(times[name], times["uninformed"], strict=True)] for name in ("informed", "exact")
    )
    return {
        "batch": len(batch),
        "gradients": gradients,
        "seconds": {name: spread(values) for name, values in times.items()},
        "ratio": spread(ratios),
        "ratio_exact": spread(exact_ratios),
        "floor_ratio": round(floor / floor_plain, 4),
        "ratio_over_floor": round(median(ratios) / (floor / floor_plain), 4),
        "informed_over_floor": round(median(times["informed"]) / floor, 4),
        "uninformed_over_floor": round(median(times["uninformed"]) / floor_plain, 4),
        "shares_of_informed": {part: round(median(values), 4) for part, values in shares.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=RESULTS / "informing_seconds.json")
    options = parser.parse_args()
    command = " ".join(["informing_seconds.py", *options.changes])
    values = measure(options.changes, options.rounds)
    record = head(command, "1 thread", rounds=options.rounds, **values)
    print(json.dumps(record, indent=1))
    write(options.out, record)


if __name__ == "__main__":
    main()
