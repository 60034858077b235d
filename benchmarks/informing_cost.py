"""Count what informing costs, in floating-point operations at real size, from the code that samples and informs.

    python benchmarks/informing_cost.py           # a table
    python benchmarks/informing_cost.py --json    # the same as a list
    python benchmarks/informing_cost.py --active-share 0.6   # images that stop early, as measured on reef
    python benchmarks/informing_cost.py --steps 10 --scheduler dpm++ --inner 2 --views 2 --guidance 0.2 0.8

The last is one row more for each model: the recipe `custom`'s informing in so many steps of a solver, guided within a
part of them.

Nothing is computed: the networks are built on PyTorch's meta device, without weights or memory, and `FlopCounterMode`
sees the operators that `concord.diffusion.sample` and `ConceptGuide` call, with their shapes. Batch 1, 50 DDIM steps,
classifier-free guidance, one decoding by the full VAE at the end. Each kind of step (plain, with a gradient) is counted
once; the guide's own `takes_gradient` says how many there are of each. A held step costs nothing that is counted.

Convention: two operations a multiply-add; matrix products, convolutions and attention alone. A forward of DiT-XL/2 has
118.6 G multiply-adds, which is 0.475 T with guidance. Attention is counted as the plain products that it is; fused
kernels compute the forward products again in the backward pass.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from concord.diffusion.sampler import Denoise, sample
from concord.guidance import ConceptGuide, Objective
from concord.metrics.flops import Counter
from concord.models import untrained
from concord.models.configurations import Configuration, published
from concord.models.encoder import Encoder
from concord.pipelines.base import Family, fitting
from concord.pipelines.dit import DiT
from concord.pipelines.unclip import UnCLIP
from concord.recipe import Informing, load
from concord.recipe.window import window_steps

STEPS, FEW = 50, (4, 8, 10, 12, 20)
EVALUATIONS = {"heun": 2}
"""Of the denoiser a step, where a solver takes more than one."""


@dataclass(frozen=True)
class Model:
    """A family's networks and its prediction for a batch of `n`; weights where `device` is a real one."""

    name: str
    family: Family
    denoise: Callable[[int], Denoise]


def files_of(model: str) -> Configuration:
    """The published configuration of a model, which is part of the package."""
    record = published(model)
    assert record is not None, model
    return record["files"]


def dit_xl() -> Model:
    """DiT-XL/2 at 256 pixels."""
    name = "facebook/DiT-XL-2-256"
    model = DiT(untrained.pipeline(files_of(name), name), untrained.network(files_of("madebyollin/taesd")))
    return Model("dit-xl-2-256", model, lambda n: model.denoise([0] * n, 4.0))


def sd21_unclip() -> Model:
    """SD 2.1 unCLIP at 768 pixels; its text and image encoders run once an image and are not counted."""
    files = files_of("radames/stable-diffusion-2-1-unclip-img2img")
    unet, vae, scheduler = (untrained.network(files, part) for part in ("unet", "vae", "scheduler"))
    # The pipeline's container, without the encoders of its conditions.
    pipeline = SimpleNamespace(
        unet=unet, vae=vae, scheduler=scheduler, vae_scale_factor=8, components={"unet": unet, "vae": vae}
    )
    model = UnCLIP(pipeline, untrained.network(files_of("madebyollin/taesd")))

    def denoise(n: int) -> Denoise:
        text = torch.zeros(2 * n, 77, 1024, device=unet.device, dtype=unet.dtype)
        image = torch.zeros(2 * n, 2048, device=unet.device, dtype=unet.dtype)

        def network(x: Tensor, t: Tensor) -> Tensor:
            prompt, label = (fitting(one, x, "uncond_cond") for one in (text, image))
            output: Tensor = unet(x, t, encoder_hidden_states=prompt, class_labels=label).sample
            return output

        return model.guided(network, 10.0, "uncond_cond")

    return Model("sd21-unclip-768", model, denoise)


def clip_l() -> Encoder:
    """CLIP ViT-L/14 at 224 pixels."""
    model = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    return untrained.encoder(files_of(model), model)


def settings() -> dict[str, Informing]:
    """The settings that are counted: the paper's, each lever alone and with others, and the recipes' fast mode."""
    late, tiny = {"window": (0.4, 0.9)}, {"decoder": "tiny"}
    every3, shrunk = {"every": 3, "between": "hold"}, {"decode_size": "auto"}
    levers: dict[str, dict[str, Any]] = {
        "exact": {"mode": "exact"},
        "exact, window 0.4 to 0.9": {"mode": "exact"} | late,
        "no denoiser gradient": {},
        "+ tiny decoder": tiny,
        "+ window 0.4 to 0.9": tiny | late,
        "+ hold 2": tiny | late | {"every": 2, "between": "hold"},
        "+ hold 3": tiny | late | every3,
        "+ hold 3, decode size auto": tiny | late | every3 | shrunk,
        "+ hold 3, stop 0.01": tiny | late | every3 | {"stop": 0.01},
        "full decoder, window 0.4 to 0.9, hold 3": late | every3,
        "full decoder, window 0.4 to 0.9, hold 3, decode size auto": late | every3 | shrunk,
    }
    return {name: Informing.model_validate(values) for name, values in levers.items()} | {
        "fast": load("custom", ["data=reef"]).informing
    }


class _Schedule(DDIMScheduler):
    """DDIM whose timesteps stay on the CPU: on the meta device they would have no values."""

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        super().set_timesteps(num_inference_steps)


def concept_guide(model: Model, encoder: Encoder, setting: Informing, batch: int = 1) -> ConceptGuide:
    """The concept_guide of a setting, with 5 positives and 10 negatives an image."""
    device, width = encoder.model.device, int(encoder.model.config.projection_dim)
    positives, negatives = (torch.ones(batch, n, width, device=device) / width**0.5 for n in (5, 10))
    objective = Objective.contrastive(positives, negatives, temperature=0.3)
    side = encoder.preprocess.side if setting.decode_size == "auto" else setting.decode_size
    decode = model.family.tiny_decode if setting.decoder == "tiny" else model.family.decode
    options = setting.model_dump(include={"mode", "weight", "strength", "window", "every", "inner", "views", "between"})
    return ConceptGuide([objective], lambda x: decode(x, side=side), encoder, **options)


def operations(
    model: Model, guide: ConceptGuide | None = None, steps: int = 1, decoded: bool = False, guided: bool = True
) -> int:
    """Operations of a sampling of one image; guided: with classifier-free guidance."""
    scheduler = _Schedule.from_config(model.family.pipeline.scheduler.config)
    x_T: Tensor = torch.zeros(1, *model.family.latent_shape, device=model.family.denoiser.device)
    with Counter() as counter:
        denoise: Any = model.denoise(1)
        if not guided:
            denoise = replace(denoise, at=lambda *_, told=denoise.at: told(1, 1))  # a step that no window has
        latents = sample(denoise, x_T, scheduler, steps=steps, guides=[guide] if guide else [])
        if decoded:
            with torch.no_grad():
                model.family.decode(latents)
    return int(counter.get_total_flops())


class Count:
    """Operations an image of whole samplings of one model; each kind of step is counted once."""

    def __init__(self, model: Model, encoder: Encoder) -> None:
        self._model, self._encoder = model, encoder
        self.plain = operations(model)
        self.unguided = operations(model, guided=False)
        self.final = operations(model, decoded=True) - self.plain
        self._gradients: dict[tuple[Any, ...], int] = {}

    def gradient(self, setting: Informing) -> int:
        """What a step with a gradient costs more than a plain one."""
        kind = (setting.mode, setting.decoder, setting.decode_size, setting.inner, setting.views)
        if kind not in self._gradients:
            one = concept_guide(self._model, self._encoder, setting.model_copy(update={"window": (0.0, 1.0)}))
            self._gradients[kind] = operations(self._model, one) - self.plain
        return self._gradients[kind]

    def sampling(
        self,
        setting: Informing | None,
        active_share: float = 1.0,
        steps: int = STEPS,
        guidance: tuple[float, float] = (0.0, 1.0),
    ) -> float:
        """All steps and the final decoding.

        active_share: of the gradients, where the setting stops early. steps: evaluations of the denoiser. guidance: the
        part of them that is guided.
        """
        guided = len(window_steps(guidance, steps))
        base = guided * self.plain + (steps - guided) * self.unguided + self.final
        if setting is None:
            return base
        share = active_share if setting.stop is not None else 1.0
        whole = concept_guide(self._model, self._encoder, setting)
        return base + share * self.gradient(setting) * sum(whole.takes_gradient(i, steps) for i in range(steps))


def table(active_share: float, own: tuple[Informing, int, tuple[float, float]] | None = None) -> list[dict[str, Any]]:
    """A row a setting and model; own: one setting more, with its evaluations and the part of them that is guided."""
    rows: list[dict[str, Any]] = []
    few = load("reef-few").informing
    with torch.device("meta"):
        encoder, models = clip_l(), (dit_xl(), sd21_unclip())
    for model in models:
        count = Count(model, encoder)
        base = count.sampling(None)
        rows.append({"model": model.name, "setting": "uninformed", "tflop_per_image": base / 1e12, "ratio": 1.0})
        for name, setting in settings().items():
            total = count.sampling(setting, active_share)
            rows.append({"model": model.name, "setting": name, "tflop_per_image": total / 1e12, "ratio": total / base})
        for steps in FEW:
            total, name = count.sampling(few, active_share, steps), f"few steps, as in reef-few: {steps}"
            rows.append({"model": model.name, "setting": name, "tflop_per_image": total / 1e12, "ratio": total / base})
        if own is not None:
            setting, evaluations, guidance = own
            total = count.sampling(setting, active_share, evaluations, guidance)
            name = f"{evaluations} evaluations, inner {setting.inner}, views {setting.views}, guided {guidance}"
            rows.append({"model": model.name, "setting": name, "tflop_per_image": total / 1e12, "ratio": total / base})
    return [
        {**row, "tflop_per_image": round(row["tflop_per_image"], 2), "ratio": round(row["ratio"], 3)} for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print a list of objects")
    parser.add_argument(
        "--active-share", type=float, default=1.0, help="share of gradients that are taken where a setting stops early"
    )
    parser.add_argument("--steps", type=int, help="one row more: the recipe custom's informing in so many steps")
    parser.add_argument("--scheduler", default="ddim", help="its solver")
    parser.add_argument("--inner", type=int, default=1, help="its gradients a step")
    parser.add_argument("--views", type=int, default=1, help="its views a gradient")
    parser.add_argument("--every", type=int, help="a gradient at every k-th step of its window")
    parser.add_argument("--guidance", type=float, nargs=2, default=(0.0, 1.0), help="the part of it that is guided")
    options = parser.parse_args()
    own = None
    if options.steps:
        informing = load("custom", ["data=reef"]).informing
        given = {"inner": options.inner, "views": options.views, "every": options.every or informing.every}
        evaluations = options.steps * EVALUATIONS.get(options.scheduler, 1)
        own = informing.model_copy(update=given), evaluations, tuple(options.guidance)
    rows = table(options.active_share, own)
    if options.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        print(f"{row['model']:<16} {row['setting']:<52} {row['tflop_per_image']:8.1f} T an image {row['ratio']:6.3f} x")


if __name__ == "__main__":
    main()
